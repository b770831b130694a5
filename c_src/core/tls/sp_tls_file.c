#include "sp_tls_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (16 * 1024 * 1024)

static sp_status read_all(int fd, struct sp_tls_file *file)
{
    struct stat info;
    ssize_t got = 1;

    if (fstat(fd, &info) < 0)
        return -errno;
    if (!S_ISREG(info.st_mode))
        return -EINVAL;
    if (info.st_size > FILE_MAX_BYTES)
        return SP_TOO_BIG;
    file->data = malloc((size_t)info.st_size + 1);
    if (!file->data)
        return SP_NO_MEMORY;
    while (file->len < (size_t)info.st_size && got > 0) {
        got = read(fd, file->data + file->len, (size_t)info.st_size - file->len);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got < 0)
            got = 1;
        else
            file->len += (size_t)got;
    }
    return SP_OK;
}

sp_status sp_tls_file_read(const char *path, struct sp_tls_file *file)
{
    sp_status status;
    int fd;

    *file = (struct sp_tls_file){0};
    if (!path)
        return SP_OK;
    /* Not to wait for the writer where somebody names a FIFO. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    status = read_all(fd, file);
    close(fd);
    if (status != SP_OK)
        sp_tls_file_wipe(file);
    return status;
}

void sp_tls_file_wipe(struct sp_tls_file *file)
{
    if (file->data)
        OPENSSL_cleanse(file->data, file->len);
    free(file->data);
    *file = (struct sp_tls_file){0};
}

static BIO *bio_of(const struct sp_tls_file *file)
{
    return BIO_new_mem_buf(file->data ? (const void *)file->data : "", (int)file->len);
}

struct asked {
    const struct sp_tls_blob *password;
    bool needed;
};

/* Never OpenSSL's own, which would ask at the terminal, for an encrypted certificate as well. */
static int give_password(char *buf, int size, int writing, void *arg)
{
    struct asked *asked = arg;

    (void)writing;
    asked->needed = true;
    if (asked->password->len == 0 || size < 0 || asked->password->len > (size_t)size)
        return -1;
    memcpy(buf, asked->password->data, asked->password->len);
    return (int)asked->password->len;
}

/* True where a certificate was added, or was there already. */
static bool add_trusted(SSL_CTX *ssl_ctx, X509 *cert)
{
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl_ctx), cert) == 1;
}

const char *sp_tls_use_cacerts(SSL_CTX *ssl_ctx, const struct sp_tls_file *file)
{
    struct asked asked = {.password = &(struct sp_tls_blob){0}};
    BIO *bio = bio_of(file);
    X509 *cert = NULL;
    unsigned added = 0;
    bool ok = bio != NULL;

    while (ok && (cert = PEM_read_bio_X509_AUX(bio, NULL, give_password, &asked))) {
        ok = add_trusted(ssl_ctx, cert);
        added++;
        X509_free(cert);
    }
    /* The end of the file is an error to the reader: that it found no further beginning. */
    ok = ok && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    BIO_free(bio);
    return asked.needed ? "encrypted"
           : !ok        ? "bad_certificate"
           : added == 0 ? "no_certificate"
                        : NULL;
}

const char *sp_tls_use_der_cacerts(SSL_CTX *ssl_ctx, const struct sp_tls_blob *certs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const unsigned char *data = certs[i].data;
        X509 *cert = certs[i].len <= INT_MAX ? d2i_X509(NULL, &data, (long)certs[i].len) : NULL;
        bool ok = cert && add_trusted(ssl_ctx, cert);
        X509_free(cert);
        if (!ok)
            return "bad_certificate";
    }
    return NULL;
}

const char *sp_tls_use_chain(SSL_CTX *ssl_ctx, const struct sp_tls_file *file)
{
    struct asked asked = {.password = &(struct sp_tls_blob){0}};
    BIO *bio = bio_of(file);
    X509 *cert = bio ? PEM_read_bio_X509_AUX(bio, NULL, give_password, &asked) : NULL;
    const char *why = NULL;

    if (!cert)
        why = asked.needed ? "encrypted" : "no_certificate";
    else if (SSL_CTX_use_certificate(ssl_ctx, cert) != 1)
        why = "bad_certificate";
    X509_free(cert);
    while (!why && (cert = PEM_read_bio_X509(bio, NULL, give_password, &asked))) {
        if (SSL_CTX_add0_chain_cert(ssl_ctx, cert) != 1) {
            X509_free(cert);
            why = "bad_certificate";
        }
    }
    if (!why && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        why = asked.needed ? "encrypted" : "bad_certificate";
    ERR_clear_error();
    BIO_free(bio);
    return why;
}

const char *sp_tls_use_key(SSL_CTX *ssl_ctx, const struct sp_tls_file *file,
                           const struct sp_tls_blob *password)
{
    struct asked asked = {.password = password};
    BIO *bio = bio_of(file);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, give_password, &asked) : NULL;
    const char *why = NULL;

    if (!key)
        why = !asked.needed ? "no_key" : password->len == 0 ? "password_required" : "bad_password";
    else if (SSL_CTX_use_PrivateKey(ssl_ctx, key) != 1 || SSL_CTX_check_private_key(ssl_ctx) != 1)
        why = "key_does_not_fit_certificate";
    ERR_clear_error();
    EVP_PKEY_free(key);
    BIO_free(bio);
    return why;
}
