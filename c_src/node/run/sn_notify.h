/* What a service manager is told, by the protocol of systemd's sd_notify(3): datagrams to the socket that
 * NOTIFY_SOCKET in the environment names. Without it nothing is told. Never blocks. */
#ifndef SN_NOTIFY_H
#define SN_NOTIFY_H

#include <stdint.h>

void sn_notify_ready(void);     /* it serves; also once a reload is over, however it went */
void sn_notify_reloading(void); /* a reload begins */
void sn_notify_stopping(void);
void sn_notify_alive(void); /* for the watchdog */

/* How often it should be told that this is alive, in milliseconds; 0: it does not ask. */
uint64_t sn_notify_alive_period_ms(void);

#endif
