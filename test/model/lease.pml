/* Who holds a connection: hand-over, leases, pins, close. c_src/core/conn/sp_conn.c, and of
 * c_src/core/pool: deliver(), sp_waiter_cancel/_abandon/_adopt, check-out, check-in,
 * discard, revoke, abandon, sweep_lease() and the shut-down; of c_src/nif: the owner's calls and the
 * handle's destructor.
 *
 * One connection, one waiter whom a granter serves, and whoever may interfere: the waiter's owner
 * and the destructor of its handle (owner.pml), the sweep, the shut-down, the next user, the process
 * that works off the close list, and the event loop. conn.pml has the connection. docs/protocol.md
 * says what is covered and what is not.
 *
 * Interleaving is sequentially consistent. A section under a lock is one step, and so is a
 * compare-and-swap with its retry loop.
 *
 * Scenes: -DREQUEST the waiter carries a request, and the next user waits for a reply as well; -DKILL
 * the owner may be killed; -DSWEEP, -DSHUT, -DNEXT (next user), -DGIVE (give_away) let the named party
 * in.
 * Broken variants are the names after BROKEN in the comments; the file `scenes` lists them. */

#include "conn.pml"

inline drop_waiter_ref() { atomic { assert(waiter_refs > 0); waiter_refs-- } }

/* ---- the granter ---- */

inline notify() {
  atomic {
    assert(waiter_refs > 0);
    told = alive[OWNER];
    if :: told -> wait_msgs++; answers_sent++; assert(answers_sent == 1) :: else fi
  }
}

inline announce() {
#ifdef REQUEST
  talk(waiter_lease, 1);
#endif
  notify()
}

/* ok: delivered. */
inline hand_over() {
#ifdef HANDOFFXCHG /* BROKEN: the mark of a cancelled request is overwritten */
  atomic { ok = (handoff == UNDECIDED); handoff = DELIVERED }
#else
#ifdef HANDOFFSTORE /* BROKEN: load and store */
  ok = (handoff == UNDECIDED);
  if :: ok -> handoff = DELIVERED :: else fi
#else
  atomic { ok = (handoff == UNDECIDED); if :: ok -> handoff = DELIVERED :: else fi }
#endif
#endif
}

proctype granter() {
  bool ok, told;

  atomic { if :: wstate == WAITING -> wstate = TAKEN; ok = 1 :: else -> ok = 0 fi };
  if
  :: !ok -> serve(); goto over
  :: ok && !alive[OWNER] -> drop_waiter_ref(); serve(); goto over
  :: ok && alive[OWNER]
  fi;
#ifdef REQUEST
  pin();
  assert(ok);
#endif
  atomic { USE; refs++ }; /* for the handle */
#ifndef NOGRANTREF /* BROKEN: it has no reference of its own after the hand-over */
  atomic { USE; refs++ };
#endif
  make_lease(OWNER, waiter_lease);
#ifndef LATECHECK /* BROKEN: the epoch is looked at after the hand-over */
  end_if_missed(waiter_lease);
#endif
  hand_over();
  if :: ok -> announce() :: else -> unref() fi;
#ifndef NOTAKEBACK /* BROKEN: a grant that nobody took is not taken back */
  if :: !told -> unlease(waiter_lease, NOBODY) :: else -> ok = 0 fi;
#else
  ok = 0;
#endif
#ifdef REQUEST
  unpin();
#endif
  if
  :: ok && (pins > 0 || touched) -> dirty = 0; retire()
  :: ok && !(pins > 0 || touched) -> serve()
  :: !ok ->
#ifdef LATECHECK
     end_if_missed(waiter_lease)
#endif
  fi;
#ifndef NOGRANTREF
  unref();
#endif
  drop_waiter_ref();
over:
  skip
}

#include "owner.pml"

/* ---- the control process ---- */

inline judge(number, who) {
  if
  :: number == NONE || who == NOBODY
  :: number != NONE && who != NOBODY && !alive[who] -> abandon(number, who)
  :: number != NONE && who != NOBODY && alive[who] && may_hold_forever
  :: number != NONE && who != NOBODY && alive[who] -> revoke(number, who) /* held for too long */
  fi
}

/* sweep_lease() */
proctype sweep(bool may_hold_forever) {
  bool ok, in_use;
  byte seen, number, who;

  if
  :: atomic { in_table -> refs++ }
  :: !in_table -> goto over
  fi;
#ifdef ARMEDLAST /* BROKEN: the arm is read after the lease */
  atomic { USE; number = lease };
  who = owner;
  seen = armed;
#else
#ifdef OWNERFIRST /* BROKEN: the owner is read before the lease */
  atomic { USE; who = owner };
  number = lease;
#else
  atomic { USE; seen = armed };
  number = lease;
  who = owner;
#endif
#endif
#ifndef NOARMSWEEP /* BROKEN: the arm of a revoked lease is left to a destructor that may never run */
  if :: number == NONE && seen != NONE && !alive[who] -> disarmed(seen) :: else fi;
#endif
#ifndef OWNERFIRST
  if :: lease != number -> number = NONE :: else fi;
#endif
  judge(number, who);
  unref();
over:
  skip
}

/* One slice after the other: fail waiters and close what is idle, then revoke every lease. */
proctype shut() {
  bool ok, in_use, told;
  byte number;

  open = 0;
  epoch_over = 1;
  atomic { ok = (wstate == WAITING); if :: ok -> wstate = FAILED :: else fi };
  if :: ok -> notify(); drop_waiter_ref() :: else fi;
  close_idle();
  if
  :: atomic { in_table -> refs++ };
     do
     :: atomic { lease != MOVING -> USE; number = lease };
        if :: number == NONE -> break :: else -> revoke(number, NOBODY) fi
#ifdef REVOKEONCE /* BROKEN: no further look where the lease went on under another number */
        ; break
#endif
     od;
     unref()
  :: !in_table
  fi
}

/* sp_close_work(), by the control process, or by whoever queued it where the pool is not open. */
proctype close_work() {
end:
  atomic { close_queued -> close_queued = 0; assert(state == CLOSING); state = CLOSED };
  atomic {
    USE;
    assert(fd_open && pins == 0);
    assert(selected == NOBODY || !alive[selected]); /* no message follows a stop */
    selected = NOBODY;
    fd_open = 0;
    closes++
  };
  unref()
}

/* ---- others ---- */

proctype next_user() {
  bool ok;
  byte number;

end:
  atomic { state == IDLE -> state = LEASED; holders++ };
  if :: epoch_over -> retire(); goto over :: else fi;
  atomic { USE; refs++ };
  make_lease(NEXT_USER, number);
  end_if_missed(number);
  enter(number);
  if :: !ok -> goto dropped :: else fi;
#ifdef REQUEST
  talk(number, 1);
  arm(number, NEXT_USER);
  unpin();
  if
  :: atomic { ready_msgs[NEXT_USER] > 0 -> ready_msgs[NEXT_USER]-- };
     disarmed(number)
  :: unlease(number, NOBODY); /* gives up; the close lets the select fire */
     if :: ok -> dirty = 0; retire() :: else fi;
     atomic { ready_msgs[NEXT_USER] > 0 -> ready_msgs[NEXT_USER]-- };
     goto dropped
  fi;
#else
  talk(number, 1);
  unpin();
#endif
  if
  :: enter(number); if :: ok -> talk(number, 0); unpin() :: else -> goto dropped fi;
     unlease(number, NOBODY);
     if :: ok -> serve() :: else fi
  :: unlease(number, NOBODY);
     if :: ok -> dirty = 0; retire() :: else fi
  fi;
dropped:
#ifdef REQUEST
  disarmed(number);
#endif
  unref();
over:
  skip
}

/* In the middle of whatever it does. */
proctype killer() {
  atomic { alive[OWNER] = 0; wait_msgs = 0; ready_msgs[OWNER] = 0 }
}

/* Where the peer does not answer, only a shut-down descriptor becomes readable. */
proctype event_loop() {
end:
  do
  :: atomic {
       selected != NOBODY && (answers || fd_shut) ->
       if :: alive[selected] -> ready_msgs[selected]++ :: else fi;
       selected = NOBODY
     }
  od
}

/* ---- what must hold when nobody can move any more ---- */

init {
  atomic {
    if :: answers = 1 :: answers = 0 fi;
    run granter(); run owner_process(); run destructor(); run close_work(); run event_loop();
#ifdef KILL
    if :: run killer() :: skip fi;
#endif
#ifdef SWEEP
    run sweep(0);
#endif
#ifdef SHUT
    run shut();
#endif
#ifdef NEXT
    run next_user();
#endif
  };
  timeout;
  run sweep(1);
  timeout;
  assert(holders == 0);
  assert(waiter_refs == (handle_waits -> 1 : 0));
  assert(refs == (handle_has || (handle_waits && handoff == DELIVERED) -> 1 : 0) +
                 (state != CLOSED -> 1 : 0));
  assert(wait_msgs == 0 && ready_msgs[OWNER] == 0 && ready_msgs[NEXT_USER] == 0); /* no stray one */
  if
  :: state == IDLE -> assert(lease == NONE && open && fd_open && closes == 0 && pins == 0)
  :: state == LEASED -> assert(lease != NONE && open && fd_open && closes == 0 && alive[owner] &&
                              handle_has) /* its owner's, who keeps it */
  :: state == CLOSED -> assert(lease == NONE && !fd_open && closes == 1 && pins == 0)
  :: state == CLOSING -> assert(0)
  fi
}
