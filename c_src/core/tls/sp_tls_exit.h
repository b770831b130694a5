/* OpenSSL and the end of the process.
 *
 * OpenSSL takes itself apart at exit, unless its first user said no, which may have been somebody else in
 * the VM. Threads that are in it then crash. So its callers are counted, each thread for itself, and the
 * exit waits for those who are in, and lets nobody in any more. */
#ifndef SP_TLS_EXIT_H
#define SP_TLS_EXIT_H

#include "core/base/sp_status.h"

#include <stdbool.h>

/* Once for each library that is loaded, before any thread of it uses OpenSSL. False where there is no memory. */
SP_MUST_CHECK bool sp_tls_exit_prepare(void);
/* Brackets whatever calls OpenSSL; may be nested. False: the process exits, OpenSSL must not be called. */
SP_MUST_CHECK bool sp_tls_enter(void);
void sp_tls_leave(void);

#endif
