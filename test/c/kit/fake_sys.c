#include "fake_sys.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FD_FIRST 1000
#define FDS 1024
#define SCRIPT_MAX 32
#define LOG_MAX 4096

struct fake_fd {
    bool open, connected, eof, reset, down;
    int so_error;
    socklen_t tcp_info_len;
    uint8_t retransmits;
    uint32_t unacked;
    uint8_t *in, *out;
    size_t in_pos, in_len, out_len;
    size_t recv_slice, send_room;
};

static struct {
    struct fake_fd fds[FDS];
    struct {
        int errors[SCRIPT_MAX];
        unsigned first, count;
        void (*hook)(void *arg);
        void *hook_arg;
        unsigned calls;
    } ops[FAKE_OPS];
    struct fake_call log[LOG_MAX];
    unsigned logged;
    bool connect_at_once;
} world;

void fake_die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

static void clear_fd(struct fake_fd *fd)
{
    free(fd->in);
    free(fd->out);
    *fd = (struct fake_fd){.open = false};
}

void fake_sys_reset(void)
{
    for (int i = 0; i < FDS; i++)
        clear_fd(&world.fds[i]);
    memset(&world, 0, sizeof world);
}

static struct fake_fd *find(int fd, const char *what)
{
    struct fake_fd *found = &world.fds[fd - FD_FIRST];

    if (fd < FD_FIRST || fd >= FD_FIRST + FDS || !found->open)
        fake_die("%s on descriptor %d, which is not open", what, fd);
    return found;
}

/* Logs the call, runs the hook, and gives the error that is scripted for it, or 0. */
static int begin(struct fake_call call)
{
    int error = 0;
    void (*hook)(void *arg) = world.ops[call.op].hook;

    world.ops[call.op].calls++;
    if (world.ops[call.op].count > 0) {
        error = world.ops[call.op].errors[world.ops[call.op].first];
        world.ops[call.op].first = (world.ops[call.op].first + 1) % SCRIPT_MAX;
        world.ops[call.op].count--;
    }
    call.error = error;
    world.log[world.logged++ % LOG_MAX] = call;
    world.ops[call.op].hook = NULL;
    if (hook)
        hook(world.ops[call.op].hook_arg);
    return error;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

/* ---- the table ---- */

static int fake_socket(int family)
{
    int error = begin((struct fake_call){.op = FAKE_SOCKET, .fd = -1, .a = family});
    int i = 0;

    if (error)
        return fail(error);
    while (i < FDS && world.fds[i].open)
        i++;
    if (i == FDS)
        return fail(EMFILE);
    clear_fd(&world.fds[i]);
    world.fds[i] = (struct fake_fd){.open = true, .recv_slice = SIZE_MAX, .send_room = SIZE_MAX};
    return FD_FIRST + i;
}

static int fake_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    int error =
        begin((struct fake_call){.op = FAKE_BIND, .fd = fd, .a = addr->sa_family, .b = (int)len});

    find(fd, "bind");
    return error ? fail(error) : 0;
}

static int fake_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    int error = begin(
        (struct fake_call){.op = FAKE_CONNECT, .fd = fd, .a = addr->sa_family, .b = (int)len});
    struct fake_fd *self = find(fd, "connect");

    if (error)
        return fail(error);
    if (addr->sa_family == AF_UNSPEC) {
        self->connected = false;
        return 0;
    }
    self->connected = world.connect_at_once;
    return self->connected ? 0 : fail(EINPROGRESS);
}

#ifdef TCP_INFO
static int tcp_info(const struct fake_fd *self, void *value, socklen_t *len)
{
    struct tcp_info info = {.tcpi_retransmits = self->retransmits, .tcpi_unacked = self->unacked};

    if (!self->tcp_info_len)
        return fail(ENOPROTOOPT);
    if (*len > self->tcp_info_len)
        *len = self->tcp_info_len;
    if (*len > sizeof info)
        *len = sizeof info;
    memcpy(value, &info, *len);
    return 0;
}
#endif

static int fake_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    int error = begin((struct fake_call){.op = FAKE_GETSOCKOPT, .fd = fd, .a = level, .b = name});
    struct fake_fd *self = find(fd, "getsockopt");

    if (error)
        return fail(error);
#ifdef TCP_INFO
    if (level == IPPROTO_TCP && name == TCP_INFO)
        return tcp_info(self, value, len);
#endif
    if (level != SOL_SOCKET || name != SO_ERROR || *len != sizeof(int))
        fake_die("getsockopt of an option that the fake does not know");
    memcpy(value, &self->so_error, sizeof(int));
    self->so_error = 0;
    return 0;
}

static int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    struct fake_call call = {.op = FAKE_SETSOCKOPT, .fd = fd, .a = level, .b = name};
    int error;

    if (len != sizeof call.value)
        fake_die("setsockopt of %u bytes", (unsigned)len);
    memcpy(&call.value, value, sizeof call.value);
    error = begin(call);
    find(fd, "setsockopt");
    return error ? fail(error) : 0;
}

uint16_t fake_own_port(void)
{
    return htons(40000);
}

static int name_of(enum fake_op op, int fd, struct sockaddr *addr, socklen_t *len)
{
    int error = begin((struct fake_call){.op = op, .fd = fd});
    struct fake_fd *self = find(fd, "getpeername or getsockname");

    if (error)
        return fail(error);
    if (op == FAKE_GETPEERNAME && !self->connected)
        return fail(ENOTCONN);
    memset(addr, 0, *len);
    addr->sa_family = AF_INET;
    if (op == FAKE_GETSOCKNAME) {
        ((struct sockaddr_in *)addr)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ((struct sockaddr_in *)addr)->sin_port = fake_own_port();
    }
    return 0;
}

static int fake_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    return name_of(FAKE_GETSOCKNAME, fd, addr, len);
}

static int fake_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    return name_of(FAKE_GETPEERNAME, fd, addr, len);
}

static size_t copy_out(struct fake_fd *self, const struct iovec *iov, int count)
{
    size_t sent = 0;

    for (int i = 0; i < count && self->send_room > 0; i++) {
        size_t len = iov[i].iov_len < self->send_room ? iov[i].iov_len : self->send_room;
        self->out = realloc(self->out, self->out_len + len + 1);
        if (len)
            memcpy(self->out + self->out_len, iov[i].iov_base, len);
        self->out_len += len;
        self->send_room -= self->send_room == SIZE_MAX ? 0 : len;
        sent += len;
    }
    return sent;
}

static ssize_t fake_sendv(int fd, const struct iovec *iov, int count)
{
    size_t len = 0;
    int error;

    for (int i = 0; i < count; i++)
        len += iov[i].iov_len;
    error = begin((struct fake_call){.op = FAKE_SEND, .fd = fd, .a = count, .b = (int)len});
    struct fake_fd *self = find(fd, "send");
    if (error)
        return fail(error);
    if (!self->connected)
        return fail(ENOTCONN);
    if (self->reset || self->down)
        return fail(EPIPE);
    if (self->send_room == 0)
        return fail(EAGAIN);
    return (ssize_t)copy_out(self, iov, count);
}

static ssize_t fake_recv(int fd, void *buf, size_t cap, int flags)
{
    int error = begin((struct fake_call){.op = FAKE_RECV, .fd = fd, .a = flags, .b = (int)cap});
    struct fake_fd *self = find(fd, "recv");
    size_t len = self->in_len - self->in_pos;

    if (error)
        return fail(error);
    if (!self->connected)
        return fail(ENOTCONN);
    if (self->reset)
        return fail(ECONNRESET);
    if (len == 0 && (self->eof || self->down))
        return 0;
    if (len == 0)
        return fail(EAGAIN);
    len = len < cap ? len : cap;
    len = len < self->recv_slice ? len : self->recv_slice;
    memcpy(buf, self->in + self->in_pos, len);
    if (!(flags & MSG_PEEK))
        self->in_pos += len;
    return (ssize_t)len;
}

static int fake_shutdown(int fd)
{
    int error = begin((struct fake_call){.op = FAKE_SHUTDOWN, .fd = fd});

    find(fd, "shutdown")->down = true;
    return error ? fail(error) : 0;
}

static int fake_close(int fd)
{
    begin((struct fake_call){.op = FAKE_CLOSE, .fd = fd});
    clear_fd(find(fd, "close"));
    return 0;
}

const struct sp_sys fake_sys = {
    .socket = fake_socket,
    .bind = fake_bind,
    .connect = fake_connect,
    .getsockopt = fake_getsockopt,
    .setsockopt = fake_setsockopt,
    .getsockname = fake_getsockname,
    .getpeername = fake_getpeername,
    .sendv = fake_sendv,
    .recv = fake_recv,
    .shutdown = fake_shutdown,
    .close = fake_close,
};

/* ---- the test's side ---- */

unsigned fake_fds_open(void)
{
    unsigned count = 0;

    for (int i = 0; i < FDS; i++)
        count += world.fds[i].open;
    return count;
}

bool fake_fd_open(int fd)
{
    return fd >= FD_FIRST && fd < FD_FIRST + FDS && world.fds[fd - FD_FIRST].open;
}

void fake_fail(enum fake_op op, int error)
{
    unsigned count = world.ops[op].count++;

    if (count == SCRIPT_MAX)
        fake_die("the script is full");
    world.ops[op].errors[(world.ops[op].first + count) % SCRIPT_MAX] = error;
}

void fake_sys_hook(enum fake_op op, void (*hook)(void *arg), void *arg)
{
    world.ops[op].hook = hook;
    world.ops[op].hook_arg = arg;
}

void fake_connect_at_once(bool on)
{
    world.connect_at_once = on;
}

void fake_accept(int fd)
{
    find(fd, "accept")->connected = true;
}

void fake_refuse(int fd, int error)
{
    find(fd, "refuse")->so_error = error;
}

void fake_peer_sends(int fd, const void *data, size_t len)
{
    struct fake_fd *self = find(fd, "peer's send");

    self->in = realloc(self->in, self->in_len + len + 1);
    memcpy(self->in + self->in_len, data, len);
    self->in_len += len;
}

void fake_peer_closes(int fd)
{
    find(fd, "peer's close")->eof = true;
}

void fake_peer_resets(int fd)
{
    find(fd, "peer's reset")->reset = true;
}

void fake_recv_slice(int fd, size_t max)
{
    find(fd, "recv_slice")->recv_slice = max;
}

void fake_send_room(int fd, size_t room)
{
    find(fd, "send_room")->send_room = room;
}

const uint8_t *fake_sent(int fd, size_t *len)
{
    struct fake_fd *self = find(fd, "sent");

    *len = self->out_len;
    return self->out;
}

void fake_tcp_info(int fd, socklen_t len, uint8_t retransmits, uint32_t unacked)
{
    struct fake_fd *self = find(fd, "tcp_info");

    self->tcp_info_len = len;
    self->retransmits = retransmits;
    self->unacked = unacked;
}

size_t fake_unread(int fd)
{
    struct fake_fd *self = find(fd, "unread");

    return self->in_len - self->in_pos;
}

unsigned fake_calls(enum fake_op op)
{
    return world.ops[op].calls;
}

const struct fake_call *fake_last(enum fake_op op, unsigned back)
{
    for (unsigned i = world.logged; i > 0 && world.logged - i < LOG_MAX; i--) {
        const struct fake_call *call = &world.log[(i - 1) % LOG_MAX];
        if (call->op == op && back-- == 0)
            return call;
    }
    fake_die("no such call of operation %d was logged", (int)op);
}
