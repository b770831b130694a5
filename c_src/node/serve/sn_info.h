/* What a lease's owner may ask about its connection, or change of it. */
#ifndef SN_INFO_H
#define SN_INFO_H

#include "sn_session.h"
#include "node/pool/sn_pools.h"

/* Each answers the call. The session is a lease that no call is using; it is gone afterwards where its lease
 * has ended. */
void sn_info_all(struct sn_session *session, struct sn_client *client,
                 const struct sn_caller *caller);
void sn_info_address(struct sn_session *session, struct sn_client *client,
                     const struct sn_caller *caller, bool peer);
/* A list of {Key, Value}, each taken before the next one is looked at. */
void sn_info_setopts(struct sn_session *session, struct sn_client *client,
                     const struct sn_caller *caller, struct sn_slice opts);

/* The pool's checkout_timeout and send_timeout, for its name or any lease of it. False where the target is
 * neither; else the call is answered. */
SP_MUST_CHECK bool sn_info_timeouts(struct sn_sessions *sessions, struct sn_pools *pools,
                                    struct sn_client *client, const struct sn_caller *caller,
                                    struct sn_slice target);

#endif
