/* What the tcp and unix transports share: stream sockets. */
#ifndef SP_STREAM_H
#define SP_STREAM_H

#include "core/conn/sp_transport.h"

SP_MUST_CHECK sp_status sp_stream_connect(struct sp_conn *conn, const struct sp_addr *addr);
SP_MUST_CHECK sp_status sp_stream_setsockopt(struct sp_conn *conn, int level, int name, int value);
/* sndbuf and recbuf, where given. */
SP_MUST_CHECK sp_status sp_stream_buffers(struct sp_conn *conn, const struct sp_sockopts *opts);

/* Any stream socket's options; -ENOPROTOOPT for another. */
sp_status sp_stream_set(struct sp_conn *conn, enum sp_option option, int value);
sp_status sp_stream_opened(struct sp_conn *conn);
sp_status sp_stream_send(struct sp_conn *conn, const struct iovec *iov, int count, size_t *sent);
sp_status sp_stream_recv(struct sp_conn *conn, void *buf, size_t cap, size_t *got);
enum sp_clean sp_stream_validate(struct sp_conn *conn);
void sp_stream_shutdown(struct sp_conn *conn);

#endif
