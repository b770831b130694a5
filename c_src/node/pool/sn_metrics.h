/* What the pools have counted, as text for Prometheus (0.0.4) or as OpenMetrics (1.0.0): the families, names and labels are those
 * of src/observe/sockpool_metrics_table.erl, and a test compares them. It is made in pieces, since others
 * want to be served meanwhile: of the pools that there were when it was begun, those that are left. Everything
 * runs in the loop's thread. */
#ifndef SN_METRICS_H
#define SN_METRICS_H

#include "sn_pools.h"

struct sn_metrics;

/* NULL: there is no memory. The pools outlive it. */
struct sn_metrics *sn_metrics_begin(struct sn_pools *pools, bool openmetrics);
/* Does a piece. SP_BUSY: there is more to do; SP_OK: the text is there; SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sn_metrics_go_on(struct sn_metrics *metrics);
/* It is the caller's until sn_metrics_free(). */
const char *sn_metrics_text(const struct sn_metrics *metrics, size_t *len);
/* NULL is nothing. */
void sn_metrics_free(struct sn_metrics *metrics);

#endif
