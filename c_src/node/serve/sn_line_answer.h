/* What a caller gets for the reply of its node. */
#ifndef SN_LINE_ANSWER_H
#define SN_LINE_ANSWER_H

#include "sn_mail.h"
#include "node/dist/sn_reply.h"

/* An end of a call, or its refusal. A promise that is NULL, or whose client is gone, gets nothing. */
void sn_line_answer(struct sn_mail *mail, const struct sn_promise *promise,
                    const struct sn_reply *reply);

#endif
