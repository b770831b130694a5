/* The options of a pool, out of a term: what sockpool_opts:parse/2 does, in C. */
#ifndef SN_OPTIONS_H
#define SN_OPTIONS_H

#include "sn_option.h"
#include "node/etf/sn_value.h"
#include "core/pool/sp_pool.h"
#include "core/tls/sp_tls_ctx.h"

/* Options that are longer are refused: what is made of them takes up to thirty times as much memory. */
#define SN_OPTIONS_BYTES_MAX (1u << 20)

/* In the order of the words in the table. */
enum sn_transport { SN_TCP, SN_TLS, SN_UNIX, SN_NODE };

struct sn_host {
    sa_family_t family;  /* AF_UNSPEC: a name to be resolved */
    uint8_t address[16]; /* in network byte order */
    const char *text;    /* the name, or the address as text */
};

#define SN_HEALTH_BYTES_MAX 512
struct sn_bytes {
    size_t len;
    uint8_t bytes[SN_HEALTH_BYTES_MAX];
};

/* How idle connections are checked. */
struct sn_health {
    uint64_t interval_ns, timeout_ns; /* 0: they are not */
    bool is_prefix;                   /* the answer may go on */
    struct sn_bytes send, expect;
};

/* Everything in here lives until sn_options_free(). */
struct sn_options {
    char name[SN_ATOM_BYTES_MAX + 1]; /* the pool's, in UTF-8 */
    size_t name_len;
    struct sp_config config; /* with transport, and without sockopts.settings */
    enum sn_transport transport;
    struct sn_host *hosts; /* none with SN_UNIX; with SN_NODE that of the node's name */
    size_t host_count;
    uint16_t port;    /* 0 with SN_NODE: epmd is to be asked */
    const char *path; /* of SN_UNIX, else NULL */
    uint64_t checkout_timeout_ns, connect_timeout_ns, send_timeout_ns; /* SP_NEVER: none */
    uint64_t slow_checkout_ns;                                         /* likewise */
    bool has_tls; /* SN_TLS, or SN_NODE by TLS distribution */
    struct sp_tls_options tls;
    struct sp_tls_ctx *
        tls_ctx; /* what they make, with a reference, where somebody has made it already; or NULL */
    const char *node; /* of SN_NODE, else NULL; as are the rest */
    char *cookie;     /* NULL: the daemon's own; wiped when it is freed */
    struct sn_health health;
    uint64_t max_inflight; /* calls at the same time over one connection */
    struct sn_memory memory;
};

/* Checks the options of a pool; name and options are checked terms. SP_OK: then sn_options_free().
 * SP_BAD_DATA and *bad, which is {bad_option, Key, Value}; SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sn_options_parse(struct sn_slice name, struct sn_slice terms,
                                         struct sn_options *options, struct sn_bad_option *bad);
/* Changes those of a pool that runs which are given, and leaves the others. SP_BAD_DATA: nothing has changed; *bad says
 * what is wrong or, where *needs_restart, what cannot change. SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sn_options_change(struct sn_options *options, struct sn_slice terms,
                                          struct sn_bad_option *bad, bool *needs_restart);
void sn_options_free(struct sn_options *options);

/* Where to connect to: the `i'th host, or the path (i is not looked at). False where it is a name. */
SP_MUST_CHECK bool sn_options_address(const struct sn_options *options, size_t i,
                                      struct sp_addr *addr);

/* The value of `packet'; false where it is none. */
SP_MUST_CHECK bool sn_options_framing(struct sn_slice value, struct sp_framing *framing);

/* For sn_options.c: the value of `tls', which sn_options_free() is to free in any case. */
SP_MUST_CHECK enum sn_verdict sn_options_parse_tls(struct sn_slice terms, struct sn_memory *memory,
                                                   struct sp_tls_options *tls,
                                                   struct sn_bad_option *bad);

/* Checks of the tables, beside those of sn_option.h. */
SN_CHECK(pool_name);
SN_CHECK(hosts); /* one or a list of them, struct sn_host in `data` */
SN_CHECK(path);
SN_CHECK(packet);
SN_CHECK(ip_address);
SN_CHECK(keepalive); /* sn_options_keepalive() reads its `number` is */
SN_CHECK(validate);
SN_CHECK(backoff);
SN_CHECK(lifetime); /* from `number` to `other` */
SN_CHECK(health);   /* struct sn_health in `data` */
SN_CHECK(tls);
SN_CHECK(node_name); /* a text in `data` */
SN_CHECK(cookie);    /* a text that is to be wiped */
SN_CHECK(server_name);
SN_CHECK(certs);
SN_CHECK(versions);
SN_CHECK(alpn);

/* Into the three of them. */
void sn_options_keepalive(uint64_t number, struct sp_sockopts *sockopts);
/* An IP address as a tuple. */
SP_MUST_CHECK bool sn_options_ip(struct sn_slice value, sa_family_t *family, uint8_t bytes[16]);
/* Of an IP address as text; AF_UNSPEC where it is none. */
sa_family_t sn_options_family(const char *text, uint8_t address[16]);
/* Has the value of a host that is refused be without what may be a password. */
void sn_options_hide_user(struct sn_bad_option *bad);

/* The tables, for what shows them or makes terms for them. */
const struct sn_option *sn_options_table(size_t *count);
const struct sn_option *sn_options_tls_table(size_t *count);

#endif
