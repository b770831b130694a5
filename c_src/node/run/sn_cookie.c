#include "sn_cookie.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *sn_cookie_from_text(struct sn_cookie *cookie, const char *text)
{
    size_t len = strcspn(text, "\r\n");

    if (len == 0)
        return "the cookie is empty";
    if (len > SP_DIST_COOKIE_MAX)
        return "the cookie is longer than 255 bytes";
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return "the cookie has a control character";
    memcpy(cookie->text, text, len);
    cookie->text[len] = '\0';
    return NULL;
}

/* The line, or as much of it as a cookie may have and one byte. NULL, or what is wrong. */
static const char *read_line(int fd, char line[SP_DIST_COOKIE_MAX + 2], bool *unreadable)
{
    size_t len = 0;
    ssize_t got = 1;

    while (len < SP_DIST_COOKIE_MAX + 1 && got > 0) {
        got = read(fd, line + len, 1);
        if (got < 0 && errno == EINTR) {
            got = 1;
            continue;
        }
        if (got < 0) {
            *unreadable = true;
            return strerror(errno);
        }
        if (got > 0 && line[len] == '\0')
            return "the cookie has a control character";
        if (got > 0 && line[len++] == '\n')
            break;
    }
    return NULL;
}

const char *sn_cookie_from_descriptor(struct sn_cookie *cookie, int fd, bool *unreadable)
{
    char line[SP_DIST_COOKIE_MAX + 2] = "";
    const char *error = read_line(fd, line, unreadable);

    if (!error)
        error = sn_cookie_from_text(cookie, line);
    OPENSSL_cleanse(line, sizeof line);
    return error;
}

const char *sn_cookie_from_file(struct sn_cookie *cookie, const char *path, bool *unreadable)
{
    const char *error = NULL;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    *unreadable = fd < 0 || fstat(fd, &info) != 0;
    if (*unreadable)
        error = strerror(errno);
    else if (info.st_mode & (S_IRWXG | S_IRWXO))
        error = "the file must be accessible to its owner only (chmod 600)";
    else
        error = sn_cookie_from_descriptor(cookie, fd, unreadable);
    if (fd >= 0)
        close(fd);
    return error;
}
