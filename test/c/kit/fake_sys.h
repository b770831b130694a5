/* Sockets that exist only in memory, behind the core's table of system calls.
 *
 * A test plays the peer and scripts errors; every call is logged. Descriptor numbers are reused
 * lowest first, as the kernel does. A call on a descriptor that is not open, a second close among
 * them, ends the program by abort(). Not for more than one thread. */
#ifndef FAKE_SYS_H
#define FAKE_SYS_H

#include "core/base/sp_sys.h"

#include <stdbool.h>
#include <stdint.h>

enum fake_op {
    FAKE_SOCKET,
    FAKE_BIND,
    FAKE_CONNECT,
    FAKE_GETSOCKOPT,
    FAKE_SETSOCKOPT,
    FAKE_GETSOCKNAME,
    FAKE_GETPEERNAME,
    FAKE_SEND,
    FAKE_RECV,
    FAKE_SHUTDOWN,
    FAKE_CLOSE,
    FAKE_OPS
};

/* `a` and `b`: the level and name of an option; the flags and capacity of a receive; the number of
 * vectors and the bytes of a send; the family of a socket or an address. */
struct fake_call {
    enum fake_op op;
    int fd, a, b, value, error;
};

extern const struct sp_sys fake_sys;

void fake_sys_reset(void);
unsigned fake_fds_open(void);
bool fake_fd_open(int fd);

/* The next call of `op` fails with `error`; 0 lets it pass. Several queue up. */
void fake_fail(enum fake_op op, int error);
/* Runs `hook` once, inside the next call of `op`. */
void fake_sys_hook(enum fake_op op, void (*hook)(void *arg), void *arg);
/* Connects succeed at once (the default: they are under way until accepted or refused). */
void fake_connect_at_once(bool on);
/* Every socket's own, of 127.0.0.1; in network order. */
uint16_t fake_own_port(void);
void fake_accept(int fd);
void fake_refuse(int fd, int error);

void fake_peer_sends(int fd, const void *data, size_t len);
void fake_peer_closes(int fd); /* end of file after what it sent */
void fake_peer_resets(int fd);
/* At most this many bytes per receive; how many bytes the send buffer has room for. */
void fake_recv_slice(int fd, size_t max);
void fake_send_room(int fd, size_t room);
const uint8_t *fake_sent(int fd, size_t *len);
size_t fake_unread(int fd);
/* TCP_INFO is so many bytes long from now on (0, as at first: there is none), and has these in it. */
void fake_tcp_info(int fd, socklen_t len, uint8_t retransmits, uint32_t unacked);

/* How often `op` was called since the reset; the n-th last call of it (0: the last). */
unsigned fake_calls(enum fake_op op);
const struct fake_call *fake_last(enum fake_op op, unsigned back);

/* abort() with a message: the world is broken in a way that no return value can tell. */
__attribute__((noreturn, format(printf, 1, 2))) void fake_die(const char *format, ...);

#endif
