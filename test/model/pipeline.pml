/* Many requests on one connection: c_src/core/pipe, and of c_src/core/pool sp_piped.c.
 *
 * Callers append a request, look for their reply a few times and do the writing and reading for all meanwhile, and
 * then sleep; whoever comes back may do so for others. Nobody waits for anybody but asleep, and nobody who sleeps
 * depends on another caller. A caller may be killed between two calls, may give up, and the connection may break.
 * pipe.pml has the pipe. docs/protocol.md says what is covered and what is not.
 *
 * Interleaving is sequentially consistent. A section under the lock is one step, and so are a system call and a
 * compare-and-swap.
 *
 * Bounds: N callers with ROUNDS requests each; a request that is told to try again is one more, RETRIES at most.
 * Scenes: -DKILLS=n so many callers are killed; -DGIVE_UPS=n so many give up; -DBREAK the connection breaks once;
 * -DPARTIAL once a write ends in the middle of a request.
 * Broken variants are the names after BROKEN in the comments; the file `scenes` lists them. */

#ifndef N
#define N 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef GIVE_UPS
#define GIVE_UPS 0
#endif
#ifdef BREAK
#define RETRIES N
#else
#define RETRIES 0
#endif
#define PLACES (N * ROUNDS + RETRIES)

#include "pipe.pml"

byte kills = KILLS, give_ups = GIVE_UPS, over;
bool breaks;

inline append() {
  atomic {
    me = tail;
    tail++;
    place[me] = PENDING;
    if
    :: !attached -> attached = 1; broken = 0; replied = me; taken = me; begun = me; written = me; swapped = me; room = 1
    :: else
    fi
  }
}

/* Leaves outcome set where the place was DONE. */
inline take() {
  atomic { if :: place[me] == DONE -> outcome = found[me]; place[me] = UNUSED :: else fi }
}

/* sleeps: a message was asked for. */
inline give_up(sleeps) {
  atomic {
    if
    :: place[me] == ARMED && receiver == me && !receiver_fired -> place[me] = TOLD; ok = 1
    :: place[me] == ARMED && (receiver != me || receiver_fired) -> place[me] = GIVEN_UP; outcome = CANCELLED
#ifdef ASKEDNOT /* BROKEN: one whose select has fired leaves without its message */
    :: sleeps && place[me] == PENDING -> place[me] = GIVEN_UP; outcome = CANCELLED
    :: sleeps && (place[me] == DONE || place[me] == UNUSED) -> ok = 1
#else
    :: sleeps && place[me] != ARMED -> ok = 1 /* the message is there or under way */
#endif
    :: !sleeps && place[me] == DONE -> outcome = found[me]; place[me] = UNUSED
    :: !sleeps && place[me] == PENDING ->
#ifdef GIVEUPFREES /* BROKEN: the place of one who gave up is the next one's */
       if :: tail == me + 1 && written > me -> tail--; written--; begun--; swapped--; anothers[me] = 1 :: else -> place[me] = GIVEN_UP fi;
#else
       place[me] = GIVEN_UP;
#endif
       outcome = CANCELLED
    :: else -> assert(0)
    fi
  };
  if
  :: ok ->
     ok = 0;
     do_io(SELECT);
     mail[me]?outcome;
     atomic {
       if :: receiver == me -> receiver_fired = 1 :: else fi;
       if
       :: outcome == READY && place[me] == DONE -> outcome = found[me]; place[me] = UNUSED
       :: outcome == READY && place[me] != DONE -> place[me] = GIVEN_UP; outcome = CANCELLED
       :: else
       fi
     }
  :: else
  fi
}

proctype caller() {
  byte me, w, n, got, armed, wish, rounds = ROUNDS;
  bool ok, fails, dead;
  mtype outcome;

  do
  :: rounds == 0 || dead -> break
  :: else ->
     append();
     outcome = 0;
     if
     :: do_io(WRITE)      /* about half of those usually under way have appended */
     :: skip
     fi;
     do
     :: outcome != 0 -> break
     :: atomic { outcome == 0 && kills > 0 -> kills--; dead = 1 }; break
     :: outcome == 0 ->
        do_io(READ | (me >= swapped -> WRITE : 0));
        take();
        if
        :: outcome != 0 -> break
        :: else
        fi;
        if
        :: atomic { give_ups > 0 -> give_ups-- }; give_up(0); break
        :: skip /* one more turn is the same as none */
        fi;
        atomic {
          if
          :: place[me] == DONE -> outcome = found[me]; place[me] = UNUSED
          :: else -> place[me] = ARMED
          fi
        };
        if
        :: outcome != 0 -> break
        :: else
        fi;
#ifdef ARMBEFORE /* BROKEN: no select for one who sleeps now: whoever held io looked before */
        if :: io == 0 -> do_io(SELECT) :: else fi;
#else
        do_io(SELECT);
#endif
        if
        :: mail[me]?outcome
        :: atomic { kills > 0 -> kills--; dead = 1 }
        :: atomic { give_ups > 0 -> give_ups-- }; give_up(1)
        fi;
        if
        :: dead || (outcome != READY) -> break
        :: else
        fi;
        outcome = 0;
        atomic {
          if :: receiver == me -> receiver_fired = 1 :: else fi;
          if :: place[me] == ARMED -> place[me] = PENDING :: else fi
        };
        do_io(WRITE | READ | SELECT);
        take()
     od;
     assert(dead || outcome == REPLY || outcome == CLOSED || outcome == RETRY || outcome == CANCELLED);
     assert(dead || len(mail[me]) == 0);
     assert(dead || outcome != CLOSED || breaks);
     if
     :: dead || outcome != RETRY -> rounds--
     :: else -> assert(breaks)
     fi;
     outcome = 0
  od;
  over++
}

/* The pool's control process: told by a select, and only then. */
proctype control() {
  byte w, n, got, armed, wish;
  bool ok, fails;

end:
  do
  :: events?_ ->
     atomic { if :: receiver == CONTROL && selected != CONTROL -> receiver_fired = 1 :: else fi };
     do_io(WRITE | READ | SELECT)
  od
}

proctype server() {
end:
  do
  :: atomic { attached && !broken && replied < written -> replied++ }
#ifdef PARTIAL
  :: atomic { !room -> room = 1 }
#endif
#ifdef BREAK
  :: atomic { attached && !breaks -> breaks = 1; broken = 1; room = 1 }
#endif
  od
}

proctype event_loop() {
  byte who;

end:
  do
  :: atomic {
       selected != NOBODY && (replied > taken || broken) -> who = selected; selected = NOBODY;
       if
       :: who == CONTROL -> events!0
       :: else -> tell(who, READY)
       fi;
       who = 0
     }
  :: atomic { select_write && room && attached -> select_write = 0; events!0 }
  od
}

init {
  byte i;

  atomic {
    run control(); run server(); run event_loop();
    do :: i < N -> run caller(); i++ :: else -> break od
  };
  over == N
}
