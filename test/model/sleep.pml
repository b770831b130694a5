/* The control process that falls asleep, and those who rouse it: c_src/core/pool/sp_due.h.
 *
 * A pool at rest: its connections are idle and watched, and no tick is set. Clients take one, or begin to wait; who has
 * one gives it back, or dies. The tick finds the leases of the dead, ends waits, and has idle ones watched; when it is
 * over it decides whether another one is to come.
 *
 * Interleaving is sequentially consistent. A section under a lock is one atomic step. What a tick finds is left open: it
 * may come before there is anything, so that only the next one finds it.
 *
 * Bounds: N clients, two shards with a connection in each, or in the first only with -DONE. Broken variants are the names
 * after BROKEN in the comments; the file `scenes` lists them. */
#ifndef N
#define N 2
#endif
#ifdef ONE
#define TOTAL 1
#else
#define TOTAL 2
#endif

byte cold[2], fresh[2];       /* idle: watched, and not yet */
byte nwait, waits, over;      /* who waits; those who sleep; those who were told that their time is over */
byte dead;                    /* leases of owners who have died */
bool asleep = 1, woken, ticks; /* ticks: one is set */
byte wakes;

inline wake() {
  atomic { if :: !woken -> woken = 1; wakes++ :: else fi }
}

inline rouse() {
  if
  :: asleep ->
     atomic { got = asleep; asleep = 0 };
     if :: got -> got = 0; wake() :: else fi
  :: else
  fi
}

inline pop(s) {
  atomic {
    if
    :: cold[s] > 0 -> cold[s]--; has = 1
    :: cold[s] == 0 && fresh[s] > 0 -> fresh[s]--; has = 1
    :: else
    fi
  }
}

inline pop_any() {
  pop(me);
  if :: !has -> pop(1 - me) :: else fi
}

proctype client(byte me) {
  bool has, got;

#ifdef ROUSEFIRST /* BROKEN: who takes a connection looks whether the control process sleeps before that */
  rouse();
#endif
  pop_any();
  if
  :: has ->
#ifndef ROUSEFIRST
#ifndef NOROUSE /* BROKEN: nobody is told of a lease */
     rouse();
#endif
#endif
     skip
  :: else ->
     nwait++;
#ifndef NOROUSEWAIT /* BROKEN: nobody is told of one who waits */
     rouse();
#endif
     pop_any();
     if
     :: has -> nwait--
     :: else -> waits++; atomic { over > 0 -> over-- }
     fi
  fi;
  if
  :: has -> fresh[me]++; has = 0
  :: has -> dead++
  :: !has
  fi
}

inline step() {
  woken = 0;
  asleep = 0
}

inline look_at_queue() {
  if :: nwait > 0 -> rest = 0 :: else fi
}

inline look_at(s) {
  atomic { seen = seen + cold[s] + fresh[s] };
#ifndef NOFRESH /* BROKEN: what is to be watched yet counts for at rest */
  if :: fresh[s] > 0 -> rest = 0 :: else fi
#endif
}

inline decide() {
  rest = 1;
  seen = 0;
#ifndef SLEEPLATE /* BROKEN: it looks first, and then says that it sleeps */
  asleep = 1;
#endif
#ifdef QUEUELAST /* BROKEN: the connections are looked at before those who wait */
  look_at(0);
  look_at(1);
  look_at_queue();
#else
  look_at_queue();
  look_at(0);
  look_at(1);
#endif
  if :: seen < TOTAL -> rest = 0 :: else fi;
#ifdef SLEEPLATE
  asleep = 1;
#endif
  if :: rest -> ticks = 0 :: else -> asleep = 0; ticks = 1 fi;
  rest = 0;
  seen = 0
}

inline tick() {
  do
  :: atomic { waits > 0 -> waits--; nwait--; over++ }
  :: atomic { dead > 0 -> dead--; fresh[0]++ }
  :: atomic { fresh[0] > 0 -> cold[0] = cold[0] + fresh[0]; fresh[0] = 0 }
  :: atomic { fresh[1] > 0 -> cold[1] = cold[1] + fresh[1]; fresh[1] = 0 }
  :: break
  od;
  decide()
}

proctype control() {
  bool rest;
  byte seen;

end:
  do
  :: wakes > 0 ->
     wakes--;
     step();
#ifndef STEPONLY /* BROKEN: a step sets no tick */
     ticks = 1
#endif
  :: ticks -> step(); tick()
  od
}

init {
  byte i;

  atomic {
    cold[0] = 1;
    cold[1] = TOTAL - 1;
    for (i : 0 .. N - 1) { run client(i % 2) }
    run control()
  };
  timeout;
  assert(dead == 0 && nwait == 0 && over == 0);
  assert(fresh[0] + fresh[1] == 0 && cold[0] + cold[1] == TOTAL);
  assert(asleep && wakes == 0)
}
