/* The waiter's owner of lease.pml, and the destructor of its handle. The owner takes the grant, uses
 * the connection, waits for a reply, checks in, discards, gives away, keeps, forgets, cancels; where it
 * is killed in a call, the call goes on to its end. */

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
  unlease(handle_lease, NOBODY);
  if :: ok -> dirty = 0; retire() :: else fi
}

inline check_in() {
  unlease(handle_lease, NOBODY);
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
  :: atomic { wait_msgs > 0 -> wait_msgs-- }; break
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
  :: atomic { ready_msgs[OWNER] > 0 -> ready_msgs[OWNER]-- }; ok = 1
#ifdef REQUEST
  :: alive[OWNER] -> /* sockpool_wait:give_up_request() */
     discard();
     if :: atomic { ready_msgs[OWNER] > 0 -> ready_msgs[OWNER]-- } :: !alive[OWNER] -> goto killed fi;
     ok = 0
#else
  :: alive[OWNER] -> /* sp_nif_disarm() */
     enter(handle_lease);
     if
     :: ok ->
        atomic {
          USE;
          assert(fd_open);
          told = (selected != OWNER);
          if :: !told -> selected = NOBODY :: else fi
        };
        if :: !told -> disarmed(handle_lease) :: else fi;
        unpin()
     :: else -> told = 1
     fi;
     if
     :: atomic { told && ready_msgs[OWNER] > 0 -> ready_msgs[OWNER]--; told = 0 }
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
  bool ok, told, given, first = 1;

  await_answer();
  if :: wstate == FAILED -> goto forget :: else fi;
  adopt();
  assert(ok);
#ifndef REQUEST
  if :: skip :: goto finish fi;
#endif

receive:
  enter(handle_lease);
  if
  :: !ok -> goto ended
  :: ok && answers -> talk(handle_lease, 0); unpin(); goto finish
  :: ok && first -> /* sends, or finds no reply yet */
     talk(handle_lease, 1); unpin(); first = 0; next_call(); goto receive
  :: ok && !first -> arm(handle_lease, OWNER); unpin()
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
     if :: ok -> abandon(waiter_lease, NOBODY); unref() :: else fi;
     drop_waiter_ref();
     handle_waits = 0
  :: handle_has -> abandon(handle_lease, NOBODY); unref(); handle_has = 0
  :: !handle_waits && !handle_has
  fi
}

