/* The answers that many calls have. */
#ifndef SN_ANSWER_H
#define SN_ANSWER_H

#include "sn_outbox.h"
#include "node/dist/sn_reply.h"
#include "node/pool/sn_pool.h"

/* ok */
void sn_answer_ok(struct sn_outbox *outbox, struct sn_client *client,
                  const struct sn_caller *caller);
/* ok, or {error, Reason} */
void sn_answer_status(struct sn_outbox *outbox, struct sn_client *client,
                      const struct sn_caller *caller, sp_status status);
/* What a caller hears who gets no connection of the pool. */
void sn_answer_refusal(struct sn_outbox *outbox, struct sn_client *client,
                       const struct sn_caller *caller, struct sn_pool *pool, sp_status status);
/* {ok, Bytes} */
void sn_answer_bytes(struct sn_outbox *outbox, struct sn_client *client,
                     const struct sn_caller *caller, const void *data, size_t len);
/* {error, {bad_argument, Name, Value}} */
void sn_answer_bad_argument(struct sn_outbox *outbox, struct sn_client *client,
                            const struct sn_caller *caller, const char *name,
                            struct sn_slice value);
/* {error, {bad_option, Key, Value}}, where Key may be {tls, Key} */
void sn_answer_bad_option(struct sn_outbox *outbox, struct sn_client *client,
                          const struct sn_caller *caller, const struct sn_bad_option *bad);
/* {error, {Word, Value}} */
void sn_answer_error_with(struct sn_outbox *outbox, struct sn_client *client,
                          const struct sn_caller *caller, const char *word, struct sn_slice value);

/* The end of an answer that has no tail. */
void sn_answer_end(struct sn_outbox *outbox, struct sn_client *client,
                   const struct sn_caller *caller, const struct sn_writer *reply);

/* What a caller gets for the reply of its node: an end of a call, or its refusal. A promise that is NULL, or whose client is gone, gets nothing. */
void sn_answer_reply(struct sn_outbox *outbox, const struct sn_promise *promise,
                     const struct sn_reply *reply);

#endif
