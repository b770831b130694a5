#include "sn_session_end.h"

#include "sn_channel.h"
#include "core/pool/sp_lease.h"
#include "core/pool/sp_piped.h"

#include <assert.h>

void sn_session_end(struct sn_session *session)
{
    if (sn_session_has_connection(session))
        sn_channel_close(session);
    sn_session_free(session);
}

/* A request on a pipe: its reply is dropped when it comes. One that waits for a place has none yet. */
static void give_up_place(struct sn_session *session, const struct sp_call *call)
{
    struct sp_waiter *waiter = &session->waiter->core;
    struct sp_reply reply = {.far = NULL};
    sp_status status;

    if (waiter->handoff != SP_HANDOFF_DELIVERED)
        return;
    status = sp_piped_give_up(waiter->pool, call, sp_piped_at(waiter->pipe, waiter->lease),
                              SN_CORE_OWNER, true, &reply);
    assert(status == SP_TIMEOUT); /* it is told nothing from now on */
    (void)status;
}

void sn_session_drop(struct sn_session *session)
{
    struct sp_call call = sn_loop_call(session->sessions->loop);

    if (session->state == SN_SESSION_PIPED)
        give_up_place(session, &call);
    if (session->state == SN_SESSION_WAITING || session->state == SN_SESSION_TOLD ||
        session->state == SN_SESSION_PIPED)
        sp_waiter_abandon(&session->waiter->core, &call);
    if (sn_session_has_connection(session))
        sn_channel_give_back(session);
    sn_session_end(session);
}

static void lose_all(struct sn_sessions *sessions, struct sn_owner *owner)
{
    struct sp_list_node *node;

    while ((node = sp_list_oldest(&owner->sessions)))
        sn_session_drop(SP_CONTAINER(node, struct sn_session, in_owner));
    sn_owner_forget(&sessions->owners, owner);
}

void sn_sessions_process_down(struct sn_sessions *sessions, struct sn_slice pid, uint64_t monitor)
{
    struct sn_owner *owner = sn_owner_find(&sessions->owners, pid);

    if (owner && owner->monitor == monitor)
        lose_all(sessions, owner);
}

void sn_sessions_client_down(struct sn_sessions *sessions, struct sn_client *client)
{
    struct sp_list_node *node;

    while ((node = sp_list_oldest(&client->owners)))
        lose_all(sessions, SP_CONTAINER(node, struct sn_owner, in_client));
    sn_client_leave(client);
    sn_sessions_resume(sessions, client);
}
