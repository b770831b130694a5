/* Two threads at one place of the core, again and again: what chance seldom brings about. */
#ifndef STRESS_DUEL_H
#define STRESS_DUEL_H

/* A check-in against an enqueue: the waiter always gets the connection. */
void stress_duel_hand_over(unsigned rounds);
/* A check-out from an empty pool against shut and open: it never succeeds. */
void stress_duel_phases(unsigned rounds);

#endif
