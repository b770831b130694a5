#include "sp_tls_bio.h"

#include "core/conn/sp_conn.h"
#include "core/base/sp_sys.h"

#include <errno.h>
#include <pthread.h>

static BIO_METHOD *method;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool would_block(int code)
{
    return code == EAGAIN || code == EWOULDBLOCK;
}

static int bio_write(BIO *bio, const char *data, int len)
{
    struct sp_tls_io *io = BIO_get_data(bio);
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = (size_t)len};
    ssize_t result;

    BIO_clear_retry_flags(bio);
    io->conn->pieces += SP_PIECES_SEND;
    do
        result = io->conn->sys->sendv(io->conn->fd, &iov, 1);
    while (result < 0 && errno == EINTR);
    if (result >= 0)
        return (int)result;
    if (would_block(errno))
        BIO_set_retry_write(bio);
    else
        io->error = errno;
    return -1;
}

static int bio_read(BIO *bio, char *buf, int cap)
{
    struct sp_tls_io *io = BIO_get_data(bio);
    ssize_t result;

    BIO_clear_retry_flags(bio);
    if (io->budget_bytes == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    io->conn->pieces += SP_PIECES_SYSCALL;
    do
        result = io->conn->sys->recv(io->conn->fd, buf, (size_t)cap, 0);
    while (result < 0 && errno == EINTR);
    if (result < 0) {
        if (would_block(errno))
            BIO_set_retry_read(bio);
        else
            io->error = errno;
        return -1;
    }
    io->ended = result == 0;
    io->budget_bytes -= (size_t)result < io->budget_bytes ? (size_t)result : io->budget_bytes;
    return (int)result;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    const struct sp_tls_io *io = BIO_get_data(bio);

    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_EOF)
        return io->ended;
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static void make_method(void)
{
    method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "sockpool");
    if (method &&
        (BIO_meth_set_write(method, bio_write) != 1 || BIO_meth_set_read(method, bio_read) != 1 ||
         BIO_meth_set_ctrl(method, bio_ctrl) != 1 ||
         BIO_meth_set_create(method, bio_create) != 1)) {
        BIO_meth_free(method);
        method = NULL;
    }
}

BIO *sp_tls_bio_new(struct sp_tls_io *io)
{
    BIO *bio;

    pthread_once(&once, make_method);
    bio = method ? BIO_new(method) : NULL;
    if (bio)
        BIO_set_data(bio, io);
    return bio;
}
