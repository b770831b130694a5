#include "sp_tls_session.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    struct sp_list_node node;
    SSL_SESSION *session;
    int64_t expires_s, good_until_s;
    size_t len;
    unsigned char destination[];
};

static struct entry *entry_of(struct sp_list_node *node)
{
    return SP_CONTAINER(node, struct entry, node);
}

void sp_tls_sessions_init(struct sp_tls_sessions *sessions)
{
    pthread_mutex_init(&sessions->lock, NULL);
    sp_list_init(&sessions->list);
    sessions->count = 0;
}

static void entry_free(struct entry *entry)
{
    SSL_SESSION_free(entry->session);
    free(entry);
}

static void free_all(struct sp_list *list)
{
    struct sp_list_node *node;

    while ((node = sp_list_oldest(list))) {
        sp_list_remove(node);
        entry_free(entry_of(node));
    }
}

void sp_tls_sessions_destroy(struct sp_tls_sessions *sessions)
{
    free_all(&sessions->list);
    pthread_mutex_destroy(&sessions->lock);
}

static bool goes_to(const struct entry *entry, const void *destination, size_t len)
{
    return entry->len == len && memcmp(entry->destination, destination, len) == 0;
}

static void move_out(struct sp_tls_sessions *sessions, struct entry *entry, struct sp_list *out)
{
    sp_list_remove(&entry->node);
    sp_list_push_newest(out, &entry->node);
    sessions->count--;
}

/* Under the lock: what has expired or is too much, oldest first, goes to `out`. */
static void trim(struct sp_tls_sessions *sessions, const void *destination, size_t len,
                 int64_t now_s, struct sp_list *out)
{
    unsigned here = 0;
    struct sp_list_node *node = sessions->list.head.next, *older;

    for (; node != &sessions->list.head; node = older) {
        struct entry *entry = entry_of(node);
        older = node->next;
        bool same = goes_to(entry, destination, len);
        if (entry->expires_s <= now_s || (same && ++here > SP_TLS_SESSIONS_PER_DESTINATION))
            move_out(sessions, entry, out);
    }
    if (sessions->count > SP_TLS_SESSIONS_MAX)
        move_out(sessions, entry_of(sp_list_oldest(&sessions->list)), out);
}

static int64_t expiry_s(const SSL_SESSION *session, int64_t good_until_s)
{
    unsigned long hint_s = SSL_SESSION_get_ticket_lifetime_hint(session);
    int64_t life_s = hint_s ? (int64_t)hint_s : (int64_t)SSL_SESSION_get_timeout(session);
    int64_t end_s;

    if (life_s > SP_TLS_SESSION_LIFE_MAX_S)
        life_s = SP_TLS_SESSION_LIFE_MAX_S;
    end_s = (int64_t)SSL_SESSION_get_time_ex(session) + life_s;
    return end_s < good_until_s ? end_s : good_until_s;
}

void sp_tls_sessions_put(struct sp_tls_sessions *sessions, const void *destination, size_t len,
                         SSL_SESSION *session, int64_t good_until_s, int64_t now_s)
{
    struct entry *entry;
    struct sp_list out;

    if (!SSL_SESSION_is_resumable(session) || !(entry = malloc(sizeof *entry + len)))
        return;
    /* A copy: OpenSSL spoils a session whose connection breaks, and tickets outlive that. */
    entry->session = SSL_SESSION_dup(session);
    if (!entry->session) {
        free(entry);
        return;
    }
    entry->expires_s = expiry_s(session, good_until_s);
    entry->good_until_s = good_until_s;
    entry->len = len;
    memcpy(entry->destination, destination, len);
    sp_list_init(&out);
    pthread_mutex_lock(&sessions->lock);
    sp_list_push_newest(&sessions->list, &entry->node);
    sessions->count++;
    trim(sessions, destination, len, now_s, &out);
    pthread_mutex_unlock(&sessions->lock);
    free_all(&out);
}

/* Under the lock. */
static struct entry *newest(struct sp_tls_sessions *sessions, const void *destination, size_t len,
                            int64_t now_s)
{
    struct sp_list_node *node = sessions->list.head.next;

    for (; node != &sessions->list.head; node = node->next) {
        struct entry *entry = entry_of(node);
        if (goes_to(entry, destination, len) && entry->expires_s > now_s)
            return entry;
    }
    return NULL;
}

SSL_SESSION *sp_tls_sessions_take(struct sp_tls_sessions *sessions, const void *destination,
                                  size_t len, int64_t now_s, int64_t *good_until_s)
{
    SSL_SESSION *session = NULL;
    struct sp_list out;
    struct entry *entry;

    sp_list_init(&out);
    pthread_mutex_lock(&sessions->lock);
    entry = newest(sessions, destination, len, now_s);
    if (entry) {
        session = SSL_SESSION_dup(entry->session);
        *good_until_s = entry->good_until_s;
        if (SSL_SESSION_get_protocol_version(entry->session) >= TLS1_3_VERSION)
            move_out(sessions, entry, &out);
    }
    pthread_mutex_unlock(&sessions->lock);
    free_all(&out);
    return session;
}

void sp_tls_put_address(char *out, const struct sp_addr *addr)
{
    if (addr->storage.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->storage;
        memcpy(out, &in->sin_addr, 4);
        memcpy(out + 16, &in->sin_port, 2);
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->storage;
        memcpy(out, &in6->sin6_addr, 16);
        memcpy(out + 16, &in6->sin6_port, 2);
    }
}
