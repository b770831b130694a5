/* The pipe of pipeline.pml: its words, and what whoever holds `io` does. See there.
 * An inline leaves its answer in the caller's variables. */

#define NOBODY 255
#define CONTROL 254

mtype = { UNUSED, PENDING, ARMED, DONE, GIVEN_UP, TOLD };   /* a place; TOLD: given up, a message is due */
mtype = { READY, REPLY, CLOSED, RETRY, CANCELLED };         /* what an owner is told, or finds */

#define HELD 1
#define WRITE 2
#define READ 4
#define SELECT 8

/* struct sp_pipe */
byte io;                                  /* HELD, and what is wished for meanwhile */
byte head, swapped, tail;                 /* under the lock; numbers count on for ever */
byte begun, written;                      /* the holder's: of so many a part, all, is out */
bool attached;                            /* has a connection */
byte receiver = NOBODY;                   /* whom the select is to tell; changed by the holder, under the lock */
bool receiver_fired;                      /* and he has said that he was told */
mtype place[PLACES] = UNUSED, found[PLACES];

/* the connection, the event loop, mailboxes */
byte replied, taken;                      /* replies that the server has sent; that were received */
bool broken;                              /* reads fail from now on */
byte selected = NOBODY;
bool select_write, room = 1;
byte partials = 1;
chan mail[PLACES] = [2] of { mtype };
chan events = [4] of { bit };
bool anothers[PLACES];                    /* only to be judged: the next reply of that number is for one before */

/* ---- the host ---- */

/* ok: cancelled, nothing comes. Else it has fired: the message is there or under way. */
inline unselect(whom) {
  atomic { if :: selected == whom -> selected = NOBODY; ok = 1 :: else -> ok = 0 fi }
}

inline tell(n, what) {
  assert(len(mail[n]) == 0);              /* one message for each arm */
  mail[n]!what
}

/* ---- the holder's rounds ---- */

/* The receiver waits for its message no longer: whoever sleeps must get exactly one. Leaves the receiver NOBODY. */
inline dismiss() {
  w = receiver;
  if
  :: w < CONTROL ->
#ifdef NOUNSELECT /* BROKEN: the select of one who got its reply goes on */
     ok = 1;
#else
     unselect(w);
#endif
     atomic {
       receiver = NOBODY;
       if
#ifndef FIREDTWICE /* BROKEN: whether it has come back already, and may sleep again, is not looked at */
       :: receiver_fired -> receiver_fired = 0
       :: !receiver_fired && place[w] == TOLD && ok -> tell(w, CANCELLED); place[w] = GIVEN_UP
       :: !receiver_fired && place[w] == TOLD && !ok -> place[w] = GIVEN_UP
#ifndef FIREDISTOLD /* BROKEN: one whose select has fired already is told as well */
       :: !receiver_fired && place[w] == ARMED && !ok -> place[w] = PENDING /* it comes by itself */
#endif
#else
       :: place[w] == TOLD && ok -> tell(w, CANCELLED); place[w] = GIVEN_UP
       :: place[w] == TOLD && !ok -> place[w] = GIVEN_UP
       :: place[w] == ARMED && !ok -> place[w] = PENDING
#endif
       :: else
       fi
     }
  :: else -> receiver = NOBODY /* what the control process is told too much does no harm */
  fi;
  w = 0
}

inline resolve(n, what) {
  assert(what != REPLY || !anothers[n]);
  if
  :: place[n] == PENDING -> place[n] = DONE; found[n] = what
  :: place[n] == ARMED -> tell(n, what); place[n] = UNUSED
  :: place[n] == GIVEN_UP -> place[n] = UNUSED
  :: else -> assert(0)
  fi
}

inline write_round() {
  do
  :: atomic { if :: begun == written -> swapped = tail :: else fi };
     if
     :: attached && written < swapped && room ->
        atomic { begun = swapped; written = swapped };
#ifdef WRITEONCE /* BROKEN: what was appended while the rest was written is left to nobody */
        break
#endif
#ifdef PARTIAL
     :: attached && written < swapped && room && partials > 0 -> /* all but the last byte, and then there is no room */
        atomic { partials--; begun = swapped; written = swapped - 1; room = 0; select_write = 1 }; break
#endif
     :: else -> break
     fi
  od
}

inline break_up() {
  if :: receiver != NOBODY -> dismiss() :: else fi;
  atomic {
    do
    :: head < tail ->
#ifdef PARTISNONE /* BROKEN: a request of which a part is out counts as not written */
       if :: head < written -> resolve(head, CLOSED) :: else -> assert(head >= begun); resolve(head, RETRY) fi;
#else
       if :: head < begun -> resolve(head, CLOSED) :: else -> resolve(head, RETRY) fi;
#endif
       head++
    :: else -> break
    od;
    attached = 0; select_write = 0; selected = (selected == CONTROL -> NOBODY : selected);
    assert(selected == NOBODY || len(mail[selected]) == 0)
  }
}

/* As deliver() of the replies that one receive brought. */
inline read_round() {
  do
  :: !attached || head == begun -> break
  :: else ->
     atomic { got = replied; fails = broken };
     if
     :: got > head ->
#ifndef DELIVERFIRST /* BROKEN: the receiver's reply is delivered before its select is undone */
        if :: receiver < CONTROL && receiver < got -> dismiss() :: else fi;
#endif
        atomic {
          do
          :: head < got -> resolve(head, REPLY); assert(head < begun); head++
          :: else -> break
          od;
          taken = head;
          if
          :: head == tail ->
             /* It is checked in. */
             assert(begun == written && written == tail && (selected == NOBODY || selected == CONTROL));
             attached = 0; receiver = NOBODY; selected = NOBODY
          :: else
          fi
        }
     :: got <= head && fails -> break_up(); break
     :: else -> break
     fi
  od;
  got = 0; fails = 0
}

/* Whoever sleeps is behind a select whose message does not depend on another sleeper. */
inline select_round() {
  atomic {
    armed = 0; n = head;
    do
    :: n < tail -> armed = armed + (place[n] == ARMED -> 1 : 0); n++
    :: else -> break
    od;
    n = 0
  };
  if
  :: receiver < CONTROL && (place[receiver] != ARMED
#ifndef NOUPGRADE /* BROKEN: who sleeps as well relies on the first to come back */
       || tail - head > 1
#endif
     ) -> dismiss()
  :: else
  fi;
  atomic {
    armed = 0; n = head;
    do
    :: n < tail -> armed = armed + (place[n] == ARMED -> 1 : 0); n++
    :: else -> break
    od;
    n = 0;
    if
    :: attached && armed > 0 && receiver == NOBODY ->
       receiver = (tail - head == 1 -> head : CONTROL); got = 1
    :: else
    fi
  };
  if
  :: got -> atomic { got = 0; selected = receiver; if :: selected < CONTROL -> assert(len(mail[selected]) == 0) :: else fi }
  :: else
  fi;
  armed = 0
}

inline round() {
  atomic { wish = io - HELD; io = HELD };
  atomic { if :: receiver_fired -> receiver = NOBODY; receiver_fired = 0 :: else fi };
  if :: wish & WRITE -> write_round() :: else fi;
  if :: wish & READ -> read_round() :: else fi;
  if :: wish & SELECT -> select_round() :: else fi;
  wish = 0
}

/* Never waits: who finds it held leaves its wish. */
inline do_io(wishes) {
  atomic {
    ok = !(io & HELD);
#ifdef NOWISH /* BROKEN: the holder does not hear of what is wished for meanwhile */
    if :: ok -> io = io | HELD | (wishes) :: else fi
#else
    io = io | HELD | (wishes)
#endif
  };
  if
  :: ok ->
     do
     :: round();
#ifdef RELEASEBLIND /* BROKEN: load and store instead of a compare-and-swap */
        ok = (io == HELD);
        if :: ok -> io = 0; break :: else fi
#else
        atomic { if :: io == HELD -> io = 0; ok = 1 :: else -> ok = 0 fi };
        if :: ok -> break :: else fi
#endif
     od
  :: else
  fi;
  ok = 0
}
