/* Workers that are lost at any moment, while others check them out and in. */
#ifndef STRESS_LOST_H
#define STRESS_LOST_H

void stress_lost(unsigned ops);

#endif
