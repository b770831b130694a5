/* The pool of waiters.pml: bounds, words, idle shards, granting. See there. */

#ifndef N
#define N 3
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef LIMIT
#define LIMIT 2
#endif
#ifndef SIZE
#define SIZE 1
#endif
#ifndef IDLE0
#define IDLE0 1
#endif
#ifndef MAXCONN
#define MAXCONN 2 /* CONNECTING_MAX */
#endif
#ifndef SHARDS
#define SHARDS 2
#endif
#ifndef TICKS
#define TICKS 0
#endif
#ifndef DEATHS
#define DEATHS 1 /* waiters that die */
#endif
#ifndef BAD
#define BAD 1 /* connections that fail validation or are discarded */
#endif
#ifndef FAILS
#define FAILS 1 /* connects that fail */
#endif
#ifndef CUTS
#define CUTS 0 /* calls whose allowance is used up while they serve */
#endif
#ifndef SPARES
#define SPARES 0 /* steps that begin nothing for those who wait */
#endif
#ifndef CANCELS
#define CANCELS 1 /* clients whose wait has a time-out */
#endif

#define HOME (me % SHARDS)
#define AWAY (1 - HOME)

byte idle[SHARDS];
byte nwait, total = IDLE0, connecting;
bool open = 1, usable_epoch = 1; /* phase == OPEN; the epoch is still the connections' */
/* Opening the pool wakes; where the base size is there already, that is over. */
bool woken = (IDLE0 < SIZE), failing;
byte wakes = (IDLE0 < SIZE); /* wake-ups that the control process has not taken yet */

chan queue = [N] of { byte };
chan attempts = [LIMIT] of { bit };

mtype = { AWAKE, WAITING, TAKEN, DELIVERED, FAILED, DEAD };
mtype st[N] = AWAKE;
byte parked, done; /* leases that are kept for ever; clients at their end */
byte deaths = DEATHS, bad = BAD, fails = FAILS;
#if CUTS > 0
byte cuts = CUTS;
#endif

#ifdef TRYLOCK
bool locked[SHARDS];
#endif

/* ---- idle shards ---- */

#ifdef TRYLOCK /* BROKEN: a shard whose lock is held is passed over */
inline pop(s) {
  if
  :: atomic { idle[s] > 0 && !locked[s] -> locked[s] = 1 };
     atomic { if :: idle[s] > 0 -> idle[s]--; has = 1 :: else fi };
     locked[s] = 0
  :: !(idle[s] > 0 && !locked[s])
  fi
}
#else
inline pop(s) {
  atomic { if :: idle[s] > 0 -> idle[s]--; has = 1 :: else fi }
}
#endif

inline pop_any() {
  pop(HOME);
#if SHARDS == 2
  if :: !has -> pop(AWAY) :: else fi
#endif
}

inline wake() {
  atomic { if :: !woken -> woken = 1; wakes++ :: else fi }
}

inline wake_for_capacity() {
#ifndef NORECHECK_RETIRE /* BROKEN: capacity goes down and nobody looks whether it is needed */
  wake()
#else
  skip
#endif
}

inline retire() {
  total--;
  wake_for_capacity();
  has = 0
}

/* Not fit to be handed out. One that nobody used counts as a failed connect. */
inline retire_unfit() {
  if :: failing = 1 :: skip fi;
  retire()
}

inline close_idle() {
  do
  :: pop_any();
     if :: has -> retire() :: else -> break fi
  od
}

inline put(s) {
  idle[s]++;
  has = 0;
#ifndef NOCLOSECHK /* BROKEN: whoever pushes does not look whether the pool was shut */
  if
  :: !open ->
     pop(s);
     if :: has -> retire() :: else fi
  :: else
  fi
#endif
}

/* ---- granting ---- */

inline take() {
  atomic {
    if
    :: len(queue) > 0 ->
       queue?w; nwait--; got = 1;
       if :: st[w] = TAKEN :: TICKS > 0 -> st[w] = FAILED /* its time was over */ fi
    :: else -> got = 0
    fi
  }
}

inline deliver() {
  atomic {
    got = 0;
    if
    :: st[w] == TAKEN -> st[w] = DELIVERED; has = 0
#ifdef NOUNDO /* BROKEN: what a dead waiter should get is not taken back */
    :: else -> has = 0
#else
    :: else
#endif
    fi;
    w = 0
  }
}

/* Puts the connection into the home shard, or closes it as surplus; then the caller looks again. */
inline keep() {
#ifdef TTL0
  atomic { if :: total > SIZE -> total--; has = 0 :: else fi };
  if :: !has -> wake_for_capacity() :: else -> put(HOME) fi
#else
  put(HOME)
#endif
}

inline keep_and_look_again() {
#ifdef NOFENCE /* BROKEN: the look at nwait overtakes the push */
  atomic { got = (nwait > 0) };
  keep();
  if :: !got -> break :: else -> got = 0 fi
#else
  keep();
#ifdef NORECHECK_PUSH /* BROKEN: no look at nwait after the push */
  break
#endif
#ifdef KICKEXIT /* BROKEN: a waiter that brings a connection back does not look after the push */
  if :: kicked -> break :: else fi
#endif
#endif
}

/* sp_pool_serve(): hands the held connection, or any idle one, to waiters, or makes it idle. */
inline serve() {
#ifdef KICKEXIT
  kicked = !has;
#endif
  do
#if CUTS > 0
  :: atomic { cuts > 0 && (has || nwait > 0) -> cuts-- };
     if :: has && usable_epoch -> put(HOME) :: has && !usable_epoch -> retire() :: else fi;
     if
     :: nwait > 0 ->
#ifndef NOCUTWAKE /* BROKEN: nobody is told to go on with those who still wait */
        wake()
#else
        skip
#endif
     :: else
     fi;
     break
#endif
  :: !has && nwait == 0 -> break
  :: !has && nwait > 0 ->
     pop_any();
     if :: !has -> break :: else fi
  :: has ->
     if
     :: nwait > 0 ->
        if
        :: usable_epoch -> take()
        :: atomic { usable_epoch && bad > 0 -> bad-- }; retire_unfit()
        :: !usable_epoch -> retire()
        fi
     :: nwait == 0 -> if :: usable_epoch :: else -> retire() fi
     fi;
     if
     :: got -> deliver()
     :: !got && has -> keep_and_look_again()
     :: else
     fi
  od
}
