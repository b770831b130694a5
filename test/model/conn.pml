/* The connection of lease.pml: its words, and what may be done to it. See there.
 * An inline that answers leaves its answer in the caller's variable `ok`. */

#define NOBODY 0
#define OWNER 1
#define NEXT_USER 2
#define HEIR 3 /* to whom the owner gives its lease away; is not killed */

#define NONE 0
#define MOVING 255

mtype = { WAITING, TAKEN, CANCELLED, FAILED };          /* waiter */
mtype = { UNDECIDED, DELIVERED, ABANDONED };            /* hand-over */
mtype = { IDLE, LEASED, CLOSING, CLOSED };              /* connection */

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
byte answers_sent, wait_msgs; /* to the waiter; in its owner's mailbox */
byte ready_msgs[NEXT_USER + 1]; /* in a mailbox: the select fired */
byte selected = NOBODY; /* whom enif_select will tell */
bool answers; /* the peer does answer */
bool fd_open = 1, fd_shut;

/* what is only kept to be judged */
byte holders = 1; /* the granter */
byte closes;
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

/* `whom`: whose lease the caller believes it to be; NOBODY: any. */
inline unlease(number, whom) {
#ifdef UNLEASENOCAS /* BROKEN: load and store instead of a compare-and-swap */
  atomic { USE; ok = (number != NONE && number != MOVING && lease == number) };
  if :: ok -> atomic { lease = NONE; holders++; assert(holders == 1) } :: else fi
#else
  atomic {
    USE;
    if
    :: number != NONE && number != MOVING && lease == number ->
       lease = NONE; holders++; ok = 1;
       assert(holders == 1 && (whom == NOBODY || whom == owner))
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
     unlease(number, NOBODY);
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
inline arm(number, whom) {
#ifndef ARMTHENPIN /* BROKEN: the arm can be seen, and undone, before it has its pin */
  pin_for_arm();
#endif
  atomic { USE; if :: armed == NONE -> armed = number; ok = 1 :: else -> ok = 0 fi };
  assert(ok); /* no party arms where another may be armed */
#ifdef ARMTHENPIN
  pin_for_arm();
#endif
  atomic { USE; assert(fd_open && selected == NOBODY); selected = whom }
}

inline revoke(number, whom) {
#ifdef PINSFIRST /* BROKEN: the pins are read before the lease is ended */
  in_use = (pins > 0 || touched);
  unlease(number, whom);
#else
  unlease(number, whom);
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

inline abandon(number, whom) {
#ifndef NODISARM /* BROKEN: an abandoned lease leaves its arm */
  disarmed(number);
#endif
  revoke(number, whom);
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
