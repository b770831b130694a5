/* The idle / waiter / capacity protocol of c_src/core/pool.
 *
 * Shards, the queue, capacity, the wake flag with the control process, connectors, cancelled and
 * dead waiters, connections that fail validation, failed connects, the tick and the shut-down.
 * pool.pml has the shards, the queue and serve(). docs/protocol.md says what is covered and what is
 * not. What decides between two parties over one connection (hand-over, lease, pins) is in lease.pml
 * and one atomic step here.
 *
 * Interleaving is sequentially consistent. A section under a lock is one atomic step, and so is a
 * probe before such a section, because a probe that is overtaken sees what the section would see.
 *
 * Bounds: N clients with ROUNDS check-outs each, LIMIT connections of which SIZE are kept, IDLE0 of
 * them idle at first in one shard; the budgets in pool.pml say how often something may go wrong.
 * Scenes: -DCLOSE the pool is shut at some time; -DTICKS=n waits have deadlines, and n
 * times one is ended and an idle connection popped and put back; -DTTL0 overflow_ttl = 0;
 * -DCUTS=n so often a call's allowance is used up while it serves; -DSPARES=n so often a step begins no attempt for
 * those who wait, since it expects none to be needed, and comes again by its timer.
 * Broken variants are the names after BROKEN in the comments; the file `scenes` lists them. */
#include "pool.pml"

/* ---- check-out, waiting ---- */

/* Leaves with has = 1, or without a connection. */
inline pop_usable() {
  do
  :: nwait > 0 -> break
  :: else ->
     pop_any();
     if
     :: !has || usable_epoch -> break
     :: atomic { has && usable_epoch && bad > 0 -> bad-- }; retire_unfit()
     :: has && !usable_epoch -> retire()
     fi
  od
}

inline enqueue() {
#ifdef PHASEUNLOCKED /* BROKEN: the phase is looked at before the queue is locked */
  if :: open -> st[me] = WAITING :: else -> st[me] = FAILED fi;
  atomic { if :: st[me] == WAITING -> queue!me; nwait++ :: else fi };
#else
  atomic {
    if
    :: open -> st[me] = WAITING; queue!me; nwait++
    :: else -> st[me] = FAILED
    fi
  };
#endif
#ifndef NOKICK /* BROKEN: no look at the shards after nwait went up */
  if :: st[me] != FAILED -> serve() :: else fi;
#endif
#ifndef NOWAKE_ENQUEUE /* BROKEN: a waiter does not ask for growth */
  if
  :: st[me] != FAILED && total < LIMIT ->
     /* C leaves it open which side of a comparison is read first. */
     if
     :: seen = connecting; got = (seen < nwait)
     :: seen = nwait; got = (connecting < seen)
     fi;
     seen = 0;
     if :: got -> got = 0; wake() :: else fi
  :: else
  fi
#else
  skip
#endif
}

/* Out of the queue if still in it; else what was granted stays granted. Who dies then leaves it to
 * the granter, who finds the receiver dead. */
inline leave_queue(dying) {
#ifdef CANCELUNLOCKED /* BROKEN: the waiter's state is read without the lock */
  if
  :: st[me] == WAITING ->
     atomic { if :: queue??[eval(me)] -> queue??eval(me) :: else fi; nwait--; st[me] = AWAKE }
  :: else
  fi
#else
  atomic {
    if
    :: st[me] == WAITING -> queue??eval(me); nwait--; st[me] = AWAKE
    :: dying && st[me] == TAKEN -> st[me] = DEAD
    :: else
    fi
  }
#endif
}

/* Whether it leaves the queue is decided at once, when is not: who stays must be answered. */
inline wait(may_cancel) {
  if
  :: leaving = 0
  :: may_cancel -> leaving = 1
  :: atomic { deaths > 0 -> deaths--; leaving = 2 }
  fi;
  if
  :: leaving -> leave_queue(leaving == 2); leaving = 0
  :: else
  fi;
endwait: /* who may wait here for ever is judged by init */
  st[me] != WAITING && st[me] != TAKEN
}

proctype client(byte me; bool may_cancel) {
  bool has, got;
  byte w, seen, leaving, rounds = ROUNDS;
#ifdef KICKEXIT
  bool kicked;
#endif

  do
  :: rounds == 0 || !open || st[me] == DEAD -> break
  :: else ->
     rounds--;
     pop_usable();
     if
     :: !has ->
        enqueue();
        wait(may_cancel);
        atomic { if :: st[me] == DELIVERED -> has = 1 :: else fi;
                 if :: st[me] != DEAD -> st[me] = AWAKE :: else fi }
     :: else
     fi;
     if
     :: has -> serve()
     :: atomic { has && bad > 0 -> bad-- }; retire()
     :: atomic { has -> parked++; has = 0 }
     :: !has
     fi
  od;
  done++
}

/* ---- the control process ---- */

inline reserve() {
#ifdef RESERVENOCAS /* BROKEN: load and store instead of a compare-and-swap */
  seen = total;
  if :: seen < LIMIT -> total = seen + 1; got = 1 :: else -> got = 0 fi
#else
  atomic { if :: total < LIMIT -> total++; got = 1 :: else -> got = 0 fi }
#endif
}

inline look() {
  want = (SIZE > total -> SIZE - total : 0);
#if SPARES > 0
  got = 0;
  timer = 0;
  if
  :: atomic { spares > 0 && nwait > connecting -> spares--; got = 1 };
#ifndef NODUE /* BROKEN: nobody comes to look after those who have no attempt */
     timer = 1
#else
     skip
#endif
  :: skip
  fi;
#endif
  seen = connecting;
  atomic { if :: !got && nwait > seen && nwait - seen > want -> want = nwait - seen :: else fi };
  got = 0;
  seen = connecting;
  atomic {
    if
    :: failing -> allowed = (seen > 0 -> 0 : 1) /* after the backoff delay */
    :: else -> allowed = (seen < MAXCONN -> MAXCONN - seen : 0)
    fi;
    seen = 0
  }
}

inline step() {
#ifndef WAKELATE /* BROKEN: the flag is cleared after the look */
  woken = 0;
#endif
  if
  :: open ->
#if CUTS > 0
#ifndef NOSTEPSERVE /* BROKEN: the step makes connections, but does not go on serving */
     serve();
#endif
#endif
     look();
#ifdef WAKELATE
     woken = 0;
#endif
     do
     :: want > 0 && allowed > 0 ->
        reserve();
        if :: got -> got = 0; connecting++; attempts!1 :: else -> break fi;
        want--;
        allowed--
     :: else -> break
     od;
     want = 0; allowed = 0
  :: else
  fi
}

/* sp_pool_expire(): a waiter whose time is over. */
inline expire() {
  select(w : 0 .. N - 1);
  atomic { if :: queue??[eval(w)] -> queue??eval(w); nwait--; st[w] = FAILED :: else fi };
  w = 0
}

/* watch_cold() pops and puts back without regard to waiters; the tick ends with a look for them. */
inline tick() {
  if :: expire() :: skip fi;
  if :: w = 0 :: w = SHARDS - 1 fi;
  pop(w);
  if :: has -> put(w) :: else fi;
  w = 0;
#ifndef NOTICKSERVE /* BROKEN: what was out of its shard for a moment is not offered again */
  serve();
#endif
}

/* One slice: a waiter or an idle connection after the other. */
inline shut_slice() {
  do
  :: atomic { len(queue) > 0 -> queue?w; nwait--; st[w] = FAILED; w = 0 }
  :: len(queue) == 0 -> break
  od;
  close_idle()
}

inline shut() {
  open = 0;
  usable_epoch = 0;
  shut_slice();
  shut_slice()
}

proctype control(byte me) {
  bool has, got;
  byte w, want, allowed, seen, ticks = TICKS;
#if SPARES > 0
  byte spares = SPARES;
  bool timer; /* of the last step */
#endif
#ifdef KICKEXIT
  bool kicked;
#endif
#ifdef CLOSE
  bool shut_done;
#endif

end:
  do
  :: wakes > 0 -> wakes--; step()
  :: ticks > 0 -> ticks--; tick()
#if SPARES > 0
  :: timer -> step()
#endif
#ifdef CLOSE
  :: !shut_done -> shut_done = 1; shut()
#endif
  od
}

proctype connector(byte me) {
  bool has, got, was_failing;
  byte w;
#ifdef KICKEXIT
  bool kicked;
#endif

end:
  do
  :: attempts?_ ->
     if
     :: atomic { was_failing = failing; failing = 0 };
        connecting--;
        has = 1;
        serve();
#ifdef WAKE_IF_FAILING /* BROKEN: a connect that succeeds wakes only after failures */
        if :: was_failing -> wake() :: else fi;
#else
        wake();
#endif
        was_failing = 0
     :: atomic { fails > 0 -> fails--; failing = 1 };
        total--;
        connecting--;
        wake_for_capacity()
     fi
  od
}

/* ---- what must hold when nobody can move any more ---- */

init {
  byte i, idles;

  atomic {
    idle[SHARDS - 1] = IDLE0;
    for (i : 0 .. N - 1) { run client(i, i < CANCELS) }
    run control(0);
    for (i : 0 .. LIMIT - 1) { run connector(i % SHARDS) }
  };
  timeout;
  atomic { for (i : 0 .. SHARDS - 1) { idles = idles + idle[i] } };
  assert(nwait == len(queue));
  assert(done + nwait == N);                          /* every other client was answered */
  assert(idles + parked == total);        /* no connection and no capacity lost */
  assert(total <= LIMIT && connecting == 0 && wakes == 0);
  if
  :: open ->
     assert(nwait == 0 || (idles == 0 && total == LIMIT));
     assert(total >= SIZE)
  :: else ->
     assert(nwait == 0 && idles == 0)
  fi
}
