/* The head of an HTTP request for metrics. Pure. */
#ifndef SN_SCRAPE_REQUEST_H
#define SN_SCRAPE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

/* A head that is longer is refused. */
#define SN_SCRAPE_HEAD_MAX 4096

struct sn_scrape_request {
    bool head_only;   /* HEAD */
    bool openmetrics; /* is among what it accepts */
};

/* 0: it is not whole yet. Otherwise the status of the answer: 200; 400 for what is no request; 404 for another path than
 * /metrics; 405 for another method than GET and HEAD; 431 where `len' is SN_SCRAPE_HEAD_MAX and it is not whole; 505 for
 * another version than HTTP/1. */
int sn_scrape_request(const char *bytes, size_t len, struct sn_scrape_request *request);

#endif
