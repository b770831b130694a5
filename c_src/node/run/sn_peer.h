/* One connection that somebody has made to the node: a handshake first, then frames and ticks. It
 * frees itself once its handles are closed. */
#ifndef SN_PEER_H
#define SN_PEER_H

#include "node/dist/sn_atoms_in.h"
#include "node/dist/sn_message.h"
#include "node/dist/sn_reader.h"
#include "sn_server.h"
#include "node/dist/sn_tick.h"

struct sn_peer {
    struct sp_list_node node, in_handshakes; /* in the server's lists */
    struct sn_server *server;
    uv_tcp_t tcp;
    uv_timer_t timer; /* the handshake's limit, then the periods of the ticks */
    uv_write_t write;
    size_t write_len; /* of the write under way, 0 for none */
    unsigned open_handles;
    bool closing, up, read_paused;
    bool ending; /* what is queued is written, nothing that comes is taken */
    bool ended;  /* all is written, and the node has been told so */
    uv_shutdown_t shutdown;
    uint64_t tick_answered_ns;

    struct sn_handshake handshake;
    struct sn_reader reader;
    struct sn_atoms_in atoms;
    enum { SN_TAKING_NOTHING, SN_TAKING_ATOMS, SN_TAKING_TERMS } taking; /* of a frame, by now */
    bool is_cut; /* that frame: only its beginning is there */
    struct sn_opening opening;
    uint64_t turn; /* of the loop, whose pieces are being used up */
    size_t pieces;
    struct sn_client client;
    struct sn_task flush, work;
    struct sn_tick tick;
};

/* Takes the connection that waits on this listener. False: there is no memory for it, and the listener tells of no
 * other until it was taken; ask again. */
bool sn_peer_accept(struct sn_server *server, uv_stream_t *listener);

/* Logs a connection that could not be taken; `status` is libuv's. */
void sn_peer_not_accepted(struct sn_server *server, int status);
/* Closes at once; `reason` is for the log. */
void sn_peer_close(struct sn_peer *peer, const char *reason);

/* Tells those who watch, writes what is queued, and closes once the node has seen it. */
void sn_peer_stop(struct sn_peer *peer);

#endif
