/* A pool as plain arrays: what the core must look like after each operation of the simulation.
 *
 * Written for clearness, not speed: no locks, no lists, one thing after the other. Each m_ function
 * predicts what the core's function of that name does, notifications included. */
#ifndef SIMULATION_MODEL_H
#define SIMULATION_MODEL_H

#include "kit/pool_kit.h"

#define M_CONNS 32
#define M_WAITERS 64
#define M_SHARDS 4

enum m_state { M_GONE, M_CONNECTING, M_IDLE, M_LEASED };

struct m_conn {
    enum m_state state;
    struct sp_conn *conn; /* the core's, to compare with */
    unsigned serial;      /* of its lease: one more each time it changes hands */
    unsigned reported;    /* that of the lease which was reported for being held so long */
    uint64_t owner, idle_since_ns, leased_ns;
    bool bad, said, touched, unanswered, tainted, used, armed, initialising, outlived;
    size_t room; /* of its socket */
    uint32_t watch;
    uint64_t uses;
};

/* Indexes into conns, oldest first. */
struct m_idle {
    unsigned list[M_CONNS], count;
};

enum m_list { M_FRESH, M_COLD, M_AGED, M_LISTS };

struct m_waiter {
    uint64_t owner;
    bool request;
    uint64_t queued_ns;
};

struct m_note {
    uint64_t owner;
    sp_status status;
    size_t sent;
    struct sp_conn *conn;
};

struct model {
    const struct sp_config *config;
    unsigned shards, home;
    enum sp_phase phase;
    struct m_conn conns[M_CONNS];
    struct m_idle idle[M_SHARDS][M_LISTS];
    unsigned base, owed;
    bool exhausted, failing;
    struct sp_peak leased_extra, leased_base;
    struct m_waiter waiters[M_WAITERS];
    unsigned waiter_count;
    struct m_note notes[4 * M_WAITERS]; /* of the operation at hand */
    unsigned note_count;
    unsigned serials;
    uint64_t put_aside, replaced, closed_first, shrunk; /* that these happen at all */
    uint64_t checkouts, checkins, created, reused, abandoned, leaked, waited, timeouts, pipelined,
        health_ok, health_failed, deferred, connect_attempts;
    uint64_t closed[SP_WHYS], failed[SP_FAILURES], errors[SP_ERRORS], exhausted_ns;
    uint64_t exhausted_since_ns;
};

extern struct model m;
/* A request's only vector. */
extern const struct iovec M_REQUEST;

unsigned m_total(void);
unsigned m_count(enum m_state state);
unsigned m_index(const struct sp_conn *conn);

/* The connection, or M_CONNS where there is none. */
unsigned m_checkout(uint64_t owner);
void m_checkin(unsigned i, bool clean);
void m_retire(unsigned i, enum sp_why why);
/* The lease ends without its owner: abandon or revoke. */
void m_end(unsigned i, bool disarm, enum sp_why why);
void m_timed_out(void);
void m_failed(unsigned i, enum sp_failure why);
/* Whether a new connection passes as ready. */
bool m_fit(unsigned i);
void m_ready(unsigned i);
void m_enqueue(uint64_t owner, bool request);
void m_leave_queue(uint64_t owner);
void m_open(void);
void m_tick(void);
/* What a step does with those that are too old. */
void m_age(void);
void m_idle_event(unsigned i);
void m_shut(sp_status status);
/* Connections that are up; attempts for those that are too old, and for those that are to be idle. */
unsigned m_ups(void);
unsigned m_replaced(void);
unsigned m_spare_missing(void);
/* For how many attempts those who wait call, or who would not wait: each, or those who have waited for as long as one takes. */
unsigned m_called_for(bool late_only);
/* How many attempts a step makes where those who wait call for so many. */
unsigned m_step(unsigned max, unsigned called_for);
void m_attempt(struct sp_conn *conn);
void m_attempted(unsigned count, bool called_for);

#endif
