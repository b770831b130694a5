/* Who holds a connection: hand-over, leases, pins, close. c_src/core/sp_conn.c, sp_close.c, and of
 * sp_pool.c and sp_control.c: deliver(), sp_waiter_cancel/_abandon/_adopt, check-out, check-in,
 * discard, revoke, abandon, sweep_lease() and the shut-down; of c_src/nif: the owner's calls and the
 * handle's destructor.
 *
 * One connection, one waiter whom a granter serves, and whoever may interfere: the waiter's owner
 * (takes, uses, waits for a reply, checks in, discards, gives away, keeps, forgets, cancels, is
 * killed in or between its calls), the handle's destructor, the sweep, the shut-down, the next user,
 * the process that works off the close list, and the event loop. docs/protocol.md says what is
 * covered and what is not.
 *
 * Interleaving is sequentially consistent. A section under a lock is one step, and so is a
 * compare-and-swap with its retry loop.
 *
 * Scenes: -DREQUEST the waiter carries a request; -DKILL the owner may be killed; -DSWEEP, -DSHUT,
 * -DNEXT (next user), -DGIVE (give_away) let the named party in.
 * Broken variants are the names after BROKEN in the comments; the file `variants` lists them. */

#define NOBODY 0
#define OWNER 1
#define NEXT_USER 2
#define HEIR 3 /* to whom the owner gives its lease away; is not killed */

#define NONE 0
#define MOVING 255

mtype = { WAITING, TAKEN, CANCELLED, FAILED };          /* waiter */
mtype = { UNDECIDED, DELIVERED, ABANDONED };            /* hand-over */
mtype = { IDLE, LEASED, CLOSING, CLOSED };              /* connection */
mtype = { UNARMED, FOR_WAIT, FOR_RECV };                /* enif_select */

/* struct sp_conn */
byte lease, lease_seq, owner, armed, pins;
bool closing, touched;
mtype state = LEASED;
byte refs = 1; /* the table's */
bool in_table = 1, close_queued;

/* struct sp_waiter */
mtype wstate = WAITING, handoff = UNDECIDED;
byte waiter_lease, waiter_refs = 2;

/* the handle: of a wait, then of a lease */
bool handle_waits = 1, handle_has, garbage;
byte handle_lease;

/* struct sp_pool */
bool open = 1, epoch_over;

/* outside of the core */
bool alive[4] = 1;
byte granted_msgs, ready_msgs; /* in the owner's mailbox: for its wait, for its own select */
mtype selected = UNARMED;
bool answers; /* the peer does answer */
bool fd_open = 1, fd_shut;

/* what is only kept to be judged */
byte holders = 1; /* the granter */
byte closes, sent_msgs;
bool dirty; /* an exchange on the wire is not finished */

#define USE assert(refs > 0) /* the memory is still there */

/* ---- pins, close ---- */

inline unref() { atomic { USE; refs-- } }

/* The last unpin after closing: sp_close_queue(). */
inline unpin() {
  atomic {
    USE;
    assert(pins > 0);
    pins--;
    if
    :: closing && pins == 0 ->
       assert(!close_queued && closes == 0);
       in_table = 0; close_queued = 1
    :: else
    fi
  }
}

inline pin() {
  atomic {
    USE;
#ifdef NOCLOSINGBIT /* BROKEN: closing does not keep new pins out */
    pins++; ok = 1
#else
    if :: !closing -> pins++; ok = 1 :: else -> ok = 0 fi
#endif
  }
}

/* sp_pool_retire() and sp_conn_begin_close(), by the holder, who holds it no longer then. */
inline retire() {
  atomic { USE; assert(state == LEASED && holders == 1); state = CLOSING };
  pin();
  assert(ok);
  atomic { USE; closing = 1; holders--; ok = (pins > 1) };
#ifndef NOSHUTDOWN /* BROKEN: who waits on the descriptor is not woken */
  if :: ok -> atomic { USE; assert(fd_open); fd_shut = 1 } :: else fi;
#endif
  unpin();
  ok = 0
}

inline close_idle() {
  atomic { if :: state == IDLE -> state = LEASED; holders++; ok = 1 :: else -> ok = 0 fi };
  if :: ok -> retire() :: else fi
}

/* sp_pool_serve() where nobody else waits. */
inline serve() {
  atomic { USE; ok = epoch_over };
  if
  :: ok -> retire()
  :: else ->
     atomic {
       USE;
       assert(state == LEASED && holders == 1 && lease == NONE && !closing && !dirty);
       state = IDLE;
       holders--
     };
     if :: !open -> close_idle() :: else fi
  fi
}

/* ---- leases ---- */

inline make_lease(who, number) {
  atomic { USE; assert(holders == 1 && lease == NONE && !dirty); touched = 0; owner = who };
  atomic {
#ifdef SAMENUMBER /* BROKEN: lease numbers are used again */
    lease_seq = 1;
#else
    lease_seq++;
#endif
    lease = lease_seq; number = lease_seq; holders--
  }
}

inline unlease(number) {
#ifdef UNLEASENOCAS /* BROKEN: load and store instead of a compare-and-swap */
  atomic { USE; ok = (number != NONE && number != MOVING && lease == number) };
  if :: ok -> atomic { lease = NONE; holders++; assert(holders == 1) } :: else fi
#else
  atomic {
    USE;
    if
    :: number != NONE && number != MOVING && lease == number ->
       lease = NONE; holders++; ok = 1;
       assert(holders == 1)
    :: else -> ok = 0
    fi
  }
#endif
}

/* A lease that was made while the pool was shut may have been too late for the shut-down to see. */
inline end_if_missed(number) {
#ifndef NOEPOCHCHECK /* BROKEN: no look at the epoch after the lease was made */
  atomic { USE; ok = epoch_over };
  if
  :: ok ->
     unlease(number);
     if :: ok -> dirty = 0; retire() :: else fi
  :: else
  fi
#else
  skip
#endif
}

inline disarmed(number) {
  atomic { USE; ok = (armed == number) };
  if
  :: ok ->
     atomic { if :: armed == number -> armed = NONE :: else -> ok = 0 fi };
#ifndef NOARMPIN
     if :: ok -> unpin() :: else fi;
#endif
     ok = 0
  :: else
  fi
}

inline pin_for_arm() {
#ifndef NOARMPIN /* BROKEN: an armed descriptor is not pinned */
  atomic { USE; pins++ }
#else
  skip
#endif
}

/* sp_conn_arming() and enif_select, by a thread that has a pin. ok: armed. */
inline arm(number, what) {
#ifndef ARMTHENPIN /* BROKEN: the arm can be seen, and undone, before it has its pin */
  pin_for_arm();
#endif
  atomic { USE; if :: armed == NONE -> armed = number; ok = 1 :: else -> ok = 0 fi };
  assert(ok); /* no party arms where another may be armed */
#ifdef ARMTHENPIN
  pin_for_arm();
#endif
  atomic { USE; assert(fd_open); selected = what }
}

inline revoke(number) {
#ifdef PINSFIRST /* BROKEN: the pins are read before the lease is ended */
  in_use = (pins > 0 || touched);
  unlease(number);
#else
  unlease(number);
  in_use = (pins > 0);
#ifndef NOTOUCHED /* BROKEN: a used connection goes back */
  in_use = in_use || touched;
#endif
#endif
  if
  :: ok && in_use -> dirty = 0; retire()
  :: ok && !in_use -> serve()
  :: !ok
  fi;
  in_use = 0
}

inline abandon(number) {
#ifndef NODISARM /* BROKEN: an abandoned lease leaves its arm */
  disarmed(number);
#endif
  revoke(number);
  ok = 0
}

inline enter(number) {
#ifdef PINLATE /* BROKEN: the lease is looked at before the pin is taken */
  atomic { USE; ok = (lease == number) };
  if :: ok -> pin() :: else fi
#else
  pin();
  if
  :: ok ->
     atomic { USE; ok = (lease == number) };
     if :: !ok -> unpin() :: else fi
  :: else
  fi
#endif
}

/* A system call on the descriptor within enter/leave: nobody else may have been given it. */
inline talk(number, unfinished) {
  atomic { USE; touched = 1 };
  atomic {
    assert(fd_open && state != IDLE && (lease == number || lease == NONE || lease == MOVING));
    dirty = (state == LEASED && unfinished)
  }
}

inline drop_waiter_ref() { atomic { assert(waiter_refs > 0); waiter_refs-- } }

/* ---- the granter ---- */

inline notify() {
  atomic {
    assert(waiter_refs > 0);
    told = alive[OWNER];
    if :: told -> granted_msgs++; sent_msgs++; assert(sent_msgs == 1) :: else fi
  }
}

inline announce() {
#ifdef REQUEST
  if
  :: talk(waiter_lease, 1);
     arm(waiter_lease, FOR_WAIT);
#ifdef ARMNOALIVE /* BROKEN: nobody disarms what was armed after the destructor had looked */
     told = 1
#else
     told = alive[OWNER];
     if :: !told -> disarmed(waiter_lease) :: else fi
#endif
  :: talk(waiter_lease, 1); notify() /* a part of it is sent */
  fi
#else
  notify()
#endif
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
#ifndef NOUNDO /* BROKEN: a grant that nobody took is not taken back */
  if :: !told -> unlease(waiter_lease) :: else -> ok = 0 fi;
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

/* ---- the owner ---- */

/* sp_nif_get_lease(): ok where the handle has a connection. */
inline adopt() {
  atomic {
    if
    :: handle_waits && handoff == DELIVERED ->
       handle_lease = waiter_lease; handle_waits = 0; handle_has = 1;
       assert(waiter_refs > 0);
       waiter_refs--
    :: else
    fi;
    ok = handle_has
  }
}

inline discard() {
  unlease(handle_lease);
  if :: ok -> dirty = 0; retire() :: else fi
}

inline check_in() {
  unlease(handle_lease);
  if :: ok -> serve() :: else fi
}

inline leave_queue() {
  atomic {
    if
    :: wstate == WAITING -> wstate = CANCELLED; waiter_refs--; ok = 1
    :: else -> ok = 0
    fi
  }
}

/* sp_nif_cancel(). ok: cancelled. */
inline cancel() {
  leave_queue();
#ifdef REQUEST
  if
  :: !ok && wstate == TAKEN ->
#ifdef CANCELTELLS /* BROKEN: a granted request is cancelled without a look at the hand-over */
     ok = 1
#else
     atomic { if :: handoff == UNDECIDED -> handoff = ABANDONED; ok = 1 :: else fi }
#endif
  :: else
  fi;
  if
  :: !ok -> adopt(); if :: ok -> discard(); ok = 0 :: else fi
  :: else
  fi
#endif
}

/* The message of a wait. Once cancel has said told, it must come. */
inline await_answer() {
  do
  :: atomic { granted_msgs > 0 -> granted_msgs-- }; break
  :: !told && alive[OWNER] ->
     cancel();
     if :: ok -> goto forget :: else -> told = 1 fi
  :: !alive[OWNER] -> goto killed
  od;
  told = 0
}

/* The message of the owner's own select. ok: readable; else the wait was given up. */
inline await_ready() {
  if
  :: atomic { ready_msgs > 0 -> ready_msgs-- }; ok = 1
#ifdef REQUEST
  :: alive[OWNER] -> /* sockpool_wait:give_up_request() */
     discard();
     if :: atomic { ready_msgs > 0 -> ready_msgs-- } :: !alive[OWNER] -> goto killed fi;
     ok = 0
#else
  :: alive[OWNER] -> /* sp_nif_disarm() */
     enter(handle_lease);
     if
     :: ok ->
        atomic {
          USE;
          assert(fd_open);
          told = (selected != FOR_RECV);
          if :: !told -> selected = UNARMED :: else fi
        };
        if :: !told -> disarmed(handle_lease) :: else fi;
        unpin()
     :: else -> told = 1
     fi;
     if
     :: atomic { told && ready_msgs > 0 -> ready_msgs--; told = 0 }
     :: !told
     :: told && !alive[OWNER] -> goto killed
     fi;
     ok = 0
#endif
  :: !alive[OWNER] -> goto killed
  fi
}

inline give_away() {
  atomic { USE; ok = (lease == handle_lease); if :: ok -> lease = MOVING :: else fi };
  if
  :: ok ->
#ifdef GIVESAME /* BROKEN: the lease keeps its number under its new owner */
     atomic { USE; owner = HEIR };
     lease = handle_lease;
#else
     atomic { USE; lease_seq++; owner = HEIR };
     atomic { lease = lease_seq; handle_lease = lease_seq };
#endif
  :: else
  fi
}

/* One call ends before the next begins; in between its process may be found dead. */
inline next_call() { if :: given || alive[OWNER] :: !given && !alive[OWNER] -> goto killed fi }

proctype owner_process() {
  bool ok, told, given;

  await_answer();
  if :: wstate == FAILED -> goto forget :: else fi;
  adopt();
  assert(ok);
  disarmed(handle_lease);
#ifndef REQUEST
  if :: skip :: goto finish fi;
  enter(handle_lease);
  if :: !ok -> goto ended :: else fi;
  talk(handle_lease, 1);
  unpin();
  next_call();
#endif

receive:
  enter(handle_lease);
  if
  :: !ok -> goto ended
  :: ok && answers -> talk(handle_lease, 0); unpin(); goto finish
  :: ok -> arm(handle_lease, FOR_RECV); unpin()
  fi;
  await_ready();
  disarmed(handle_lease);
  if :: ok -> goto receive :: else fi;
  discard();
  goto ended;

finish:
  next_call();
  if
  :: check_in()
  :: discard()
  :: goto forget
  :: goto over /* keeps it */
#ifdef GIVE
  :: !given -> give_away(); if :: ok -> given = 1; goto finish :: else fi
#endif
  fi;

ended: /* the call that ends the lease, or finds it ended, drops the connection */
  disarmed(handle_lease);
  handle_has = 0;
  unref();
  goto forget;

killed: /* its handle may live on elsewhere */
  if :: skip :: goto over fi;
forget:
  garbage = 1;
over:
  skip
}

proctype destructor() {
  bool ok, in_use;

end:
  garbage;
  if
  :: handle_waits ->
     leave_queue();
#ifdef DTORSTORE /* BROKEN: load and store */
     ok = (handoff == DELIVERED);
     handoff = ABANDONED;
#else
     atomic { ok = (handoff == DELIVERED); handoff = ABANDONED };
#endif
     if :: ok -> abandon(waiter_lease); unref() :: else fi;
     drop_waiter_ref();
     handle_waits = 0
  :: handle_has -> abandon(handle_lease); unref(); handle_has = 0
  :: !handle_waits && !handle_has
  fi
}

/* ---- the control process ---- */

inline judge(number, who) {
  if
  :: number == NONE || who == NOBODY
  :: number != NONE && who != NOBODY && !alive[who] -> abandon(number)
  :: number != NONE && who != NOBODY && alive[who] && may_hold_forever
  :: number != NONE && who != NOBODY && alive[who] -> revoke(number) /* held for too long */
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
        if :: number == NONE -> break :: else -> revoke(number) fi
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
    assert(selected == UNARMED || !alive[OWNER]); /* no message follows a stop */
    selected = UNARMED;
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
  if
  :: ok -> talk(number, 1); unpin()
  :: else -> goto dropped
  fi;
  if
  :: enter(number); if :: ok -> talk(number, 0); unpin() :: else -> goto dropped fi;
     unlease(number);
     if :: ok -> serve() :: else fi
  :: unlease(number);
     if :: ok -> dirty = 0; retire() :: else fi
  fi;
dropped:
  unref();
over:
  skip
}

/* In the middle of whatever it does. */
proctype killer() {
  atomic { alive[OWNER] = 0; granted_msgs = 0; ready_msgs = 0 }
}

/* Where the peer does not answer, only a shut-down descriptor becomes readable. */
proctype event_loop() {
end:
  do
  :: atomic {
       selected != UNARMED && (answers || fd_shut) ->
       if
       :: alive[OWNER] && selected == FOR_WAIT ->
          granted_msgs++; sent_msgs++;
          assert(sent_msgs == 1)
       :: alive[OWNER] && selected == FOR_RECV -> ready_msgs++
       :: !alive[OWNER]
       fi;
       selected = UNARMED
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
  assert(granted_msgs == 0 && ready_msgs == 0); /* no stray message */
  if
  :: state == IDLE -> assert(lease == NONE && open && fd_open && closes == 0 && pins == 0)
  :: state == LEASED -> assert(lease != NONE && open && fd_open && closes == 0 && alive[owner])
  :: state == CLOSED -> assert(lease == NONE && !fd_open && closes == 1 && pins == 0)
  :: state == CLOSING -> assert(0)
  fi
}
