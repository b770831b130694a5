#include "sn_leak.h"

#include "core/base/sp_bytes.h"
#include "node/base/sn_log.h"
#include "sn_session.h"

#include <stdio.h>

/* Behind a pid's node, in both of its forms: two numbers, and which life of the node it is of. */
#define NUMBER_BYTES 4
#define NEW_PID 88
#define NEW_LIFE_BYTES 4
#define LIFE_BYTES 1

#define PID_CHARS sizeof "4294967295.4294967295"

static const struct sn_session *session_of(const struct sn_pool *pool, const struct sp_conn *conn)
{
    for (struct sp_list_node *at = pool->sessions.head.next; at != &pool->sessions.head;
         at = at->next) {
        const struct sn_session *session = SP_CONTAINER(at, struct sn_session, in_pool);

        if (sn_session_has_connection(session) && &session->conn->core == conn)
            return session;
    }
    return NULL;
}

/* As the client's own node shows it to its processes, but for the first number. */
static void put_pid(struct sn_slice pid, char text[PID_CHARS])
{
    size_t behind = pid.data[0] == NEW_PID ? NEW_LIFE_BYTES : LIFE_BYTES;
    const uint8_t *numbers = pid.data + pid.len - behind - 2 * NUMBER_BYTES;

    snprintf(text, PID_CHARS, "%u.%u", (unsigned)sp_get(numbers, NUMBER_BYTES),
             (unsigned)sp_get(numbers + NUMBER_BYTES, NUMBER_BYTES));
}

void sn_leak_tell(struct sn_pool *pool, const struct sp_conn *conn, uint64_t held_ns, bool ended)
{
    unsigned held_ms = (unsigned)(held_ns / SP_MS);
    const struct sn_session *session;
    char pid[PID_CHARS];

    if (ended) {
        sn_log(SN_LOG_WARNING, "leak_ended", "pool=%s connection=%u held_ms=%u", pool->options.name,
               conn->slot, held_ms);
        return;
    }
    session = session_of(pool, conn);
    if (!session)
        return;
    put_pid(session->owner->pid, pid);
    sn_log(SN_LOG_WARNING, "leak", "pool=%s connection=%u held_ms=%u node=%s process=%s",
           pool->options.name, conn->slot, held_ms, session->owner->client->name, pid);
}
