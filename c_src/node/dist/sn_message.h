/* What a frame says: its control message and, of one to a process, the call or cast in its payload. Opened
 * in pieces, so that a long one does not hold others up, and with the parts of a request told apart, so that
 * nobody has to go over them again. No I/O. */
#ifndef SN_MESSAGE_H
#define SN_MESSAGE_H

#include "sn_operation.h"
#include "node/etf/sn_slice.h"
#include "node/etf/sn_term.h"

/* Elements of a control message that anybody asks for, the operation among them. */
#define SN_CONTROL_PARTS 4

enum sn_message_kind {
    SN_MESSAGE_OTHER, /* for nobody here */
    SN_MESSAGE_CONTROL,
    SN_MESSAGE_CALL, /* {'$gen_call', From, Request} */
    SN_MESSAGE_CAST, /* {'$gen_cast', Request} */
};

struct sn_request {
    struct sn_slice term;
    int arity; /* -1: no tuple */
    struct sn_slice parts[SN_SLICE_PARTS_MAX];
    /* Of each of them: how many terms it has, and where the tail of a list begins; NULL for others. */
    uint64_t terms[SN_SLICE_PARTS_MAX];
    const uint8_t *tails[SN_SLICE_PARTS_MAX];
    uint64_t all_terms;
};

struct sn_message {
    enum sn_message_kind kind;
    int operation;
    struct sn_slice control[SN_CONTROL_PARTS]; /* [0] is not told */
    struct sn_slice target;                    /* of a call or cast */
    struct sn_slice from;                      /* of a call; .data is NULL where it is not there */
    /* Of a call or cast: SN_TERM_OK, or why there is no request. */
    enum sn_term_result result;
    struct sn_request request;
};

struct sn_opening {
    struct sn_message message;
    struct sn_term_check check;
    const uint8_t *end, *start; /* of the frame; of the part that is being taken */
    uint64_t start_terms, left; /* when that began; missing when it is over */
    int stage, part, needed;
    bool is_cut, in_tail;
};

/* Of a frame that is no tick. `is_cut': it is the beginning of a longer one, which has a sender, but no
 * request. */
void sn_message_begin(struct sn_opening *opening, const uint8_t *frame, size_t len, bool is_cut);

/* SN_TERM_OK: opening->message is there, and lies in the frame. SN_TERM_AGAIN: *pieces is used up. Anything
 * else is wrong with the frame's head or control message: then the stream cannot be trusted. */
enum sn_term_result sn_message_go_on(struct sn_opening *opening, size_t *pieces);

/* The parts of a request that was checked. */
struct sn_request sn_request_of(struct sn_slice term);
/* Whether part i is a list that ends in []. */
bool sn_request_is_proper_list(const struct sn_request *request, int i);

#endif
