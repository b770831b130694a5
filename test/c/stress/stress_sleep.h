/* A control process that sleeps while nothing is due, against those who take connections: whoever dies with one is found
 * out, however the two meet. */
#ifndef STRESS_SLEEP_H
#define STRESS_SLEEP_H

void stress_sleep(unsigned times);

#endif
