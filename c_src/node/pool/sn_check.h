/* One active check: sends what the option says on an idle connection, and looks at the answer. */
#ifndef SN_CHECK_H
#define SN_CHECK_H

#include "node/uv/sn_uv_host.h"
#include "node/option/sn_options.h"
#include "sn_reason.h"
#include "core/pool/sp_check.h"

struct sn_check {
    struct sp_list_node node; /* for its pool's list of checks */
    struct sn_hosted_pool *hosted;
    void (*ended)(struct sn_check *check, struct sn_reason reason);
    struct sn_conn *conn; /* with a reference */
    uint64_t lease;
    struct sn_limit limit; /* of all */
    struct sn_task task;   /* goes on in another turn */
    struct sn_health how;
    size_t sent, answered; /* bytes, of `out' and of `answer' */
    size_t out_len;
    uint8_t out[SP_FRAME_HEADER_MAX + SN_HEALTH_BYTES_MAX], answer[SN_HEALTH_BYTES_MAX];
};

/* Begins. The connection is the pool's again, or closed, and then ended() is called, once, perhaps within this call: with a
 * reason without a word where the answer is right. After it the check is gone. Where memory is short the connection is idle
 * again without a check. */
void sn_check_start(struct sn_hosted_pool *hosted, const struct sn_health *how,
                    const struct sp_check *made, struct sp_list *list,
                    void (*ended)(struct sn_check *check, struct sn_reason reason));
/* Ends it, without ended(). */
void sn_check_abort(struct sn_check *check);

#endif
