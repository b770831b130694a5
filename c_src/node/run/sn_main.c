/* sockpool_node: see usage() below. */
#include "sn_cookie.h"
#include "node/base/sn_descriptors.h"
#include "node/base/sn_log_ring.h"
#include "sn_process.h"
#include "sn_run.h"
#include "sn_settings.h"
#include "node/option/sn_options.h"

#include <ei.h>
#include <errno.h>
#include <getopt.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <netdb.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define EXIT_START 1 /* something is not there yet: another try may help */
#define EXIT_USAGE 2 /* what it was told is wrong: another try does not help */
#define NS_PER_S UINT64_C(1000000000)
#define EPMD_PORT 4369
#define TICK_TIME_S 60
#define STOP_TIMEOUT_MS 10000
/* libuv's threads look up names. Those of a name server that does not answer are busy for long. */
#define LOOKUP_THREADS "128"
#define LARGE_BYTES (256 * 1024)
/* Smaller ones were given out in turn by epmds of old. */
#define CREATION_LEAST 4

static void usage(FILE *to)
{
    fputs(
        "sockpool_node --name NAME@HOST [OPTION...]\n"
        "sockpool_node --config FILE [OPTION...]\n"
        "A hidden node of an Erlang cluster, written in C, whose registered name is sockpool.\n"
        "\n"
        "  --config FILE       JSON: name, cookie_file, listen, metrics, tick_time, and pools to\n"
        "                      serve; the options here come before what it says\n"
        "  --check             find out whether it could start now, and end: nobody is served\n"
        "  --options           show which options a pool has, their defaults, what is allowed\n"
        "  --name NAME@HOST    the node's name; it is registered with the epmd of this host\n"
        "  --cookie-file FILE  the cookie is its first line; only its owner may have access\n"
        "  --cookie-stdin      the cookie is the first line of stdin\n"
        "                      without either: the environment's SOCKPOOL_COOKIE\n"
        "  --listen ADDRESS    the IP address to listen on; by default those that HOST stands "
        "for,\n"
        "                      one of IPv4 and one of IPv6\n"
        "  --metrics ADDRESS:PORT, --metrics /PATH\n"
        "                      tell there by HTTP, at /metrics, what the pools count, for "
        "Prometheus;\n"
        "                      the address is of IP, in [] where it is of IPv6; or a Unix socket\n"
        "  --tick-time SECONDS the cluster's net_ticktime, 60 by default\n"
        "  --stop-timeout MS   how long leases may take to end, at the end, 10000 by default\n"
        "  --port              run as an Erlang port: end orderly at a line on stdin, and at once\n"
        "                      when it is closed\n"
        "  --core-dumps        leave it to the system whether it may dump its memory, in which\n"
        "                      the cookie and keys are, and who may look into it\n"
        "  --help\n"
        "\n"
        "ERL_EPMD_PORT in the environment is epmd's port, 4369 by default.\n"
        "Ends orderly at SIGTERM and SIGINT. At SIGHUP, reads the configuration file and\n"
        "the files of TLS again.\n"
        "Logs to stderr.\n"
        "Exit status: 0 after an orderly end; 1 if it cannot start now, and another try may help;\n"
        "2 for wrong options, a wrong configuration file or a wrong cookie.\n",
        to);
}

static void complain(const char *what, const char *value, const char *problem)
{
    fprintf(stderr, "sockpool_node: %s %s: %s\n", what, value, problem);
}

static int refuse(const char *what, const char *value, const char *problem)
{
    complain(what, value, problem);
    return EXIT_USAGE;
}

static bool show_rows(FILE *to, const char *prefix, const struct sn_option *rows, size_t count)
{
    int index;

    for (size_t i = 0; i < count; i++) {
        index = 0;
        if (fprintf(to, "%s%s\t", prefix, rows[i].key.text) < 0 ||
            ei_print_term(to, (const char *)rows[i].def.term, &index) < 0 ||
            fprintf(to, "\t%s\n", rows[i].allowed) < 0)
            return false;
    }
    return true;
}

/* What options a pool has. One line for each: its key (tls.KEY for those in the map `tls'), its default as an Erlang
 * term, and what is allowed, with a tab between them. False where it could not be written. */
static bool show_options(FILE *to)
{
    size_t count, tls_count;
    const struct sn_option *rows = sn_options_table(&count);
    const struct sn_option *tls_rows = sn_options_tls_table(&tls_count);

    return show_rows(to, "", rows, count) && show_rows(to, "tls.", tls_rows, tls_count) &&
           fflush(to) == 0;
}

struct options {
    const char *name, *cookie_file, *listen, *metrics, *tick_time, *stop_timeout, *config;
    bool cookie_stdin, is_port, check, core_dumps;
};

enum {
    NAME = 256,
    COOKIE_FILE,
    COOKIE_STDIN,
    LISTEN,
    METRICS,
    TICK_TIME,
    STOP_TIMEOUT,
    PORT,
    CONFIG,
    CHECK,
    CORE_DUMPS,
    OPTIONS,
    HELP
};

static const struct option OPTION_TABLE[] = {
    {"name", required_argument, NULL, NAME},
    {"cookie-file", required_argument, NULL, COOKIE_FILE},
    {"cookie-stdin", no_argument, NULL, COOKIE_STDIN},
    {"listen", required_argument, NULL, LISTEN},
    {"metrics", required_argument, NULL, METRICS},
    {"tick-time", required_argument, NULL, TICK_TIME},
    {"stop-timeout", required_argument, NULL, STOP_TIMEOUT},
    {"port", no_argument, NULL, PORT},
    {"config", required_argument, NULL, CONFIG},
    {"check", no_argument, NULL, CHECK},
    {"core-dumps", no_argument, NULL, CORE_DUMPS},
    {"options", no_argument, NULL, OPTIONS},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0}};

/* 0, or an exit status plus one. */
static int get_options(struct options *options, int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "", OPTION_TABLE, NULL)) != -1) {
        switch (option) {
        case NAME:
            options->name = optarg;
            break;
        case COOKIE_FILE:
            options->cookie_file = optarg;
            break;
        case COOKIE_STDIN:
            options->cookie_stdin = true;
            break;
        case LISTEN:
            options->listen = optarg;
            break;
        case METRICS:
            options->metrics = optarg;
            break;
        case TICK_TIME:
            options->tick_time = optarg;
            break;
        case STOP_TIMEOUT:
            options->stop_timeout = optarg;
            break;
        case PORT:
            options->is_port = true;
            break;
        case CONFIG:
            options->config = optarg;
            break;
        case CHECK:
            options->check = true;
            break;
        case CORE_DUMPS:
            options->core_dumps = true;
            break;
        case OPTIONS:
            return 1 + (show_options(stdout) ? EXIT_SUCCESS : EXIT_START);
        case HELP:
            usage(stdout);
            return 1 + EXIT_SUCCESS;
        default:
            usage(stderr);
            return 1 + EXIT_USAGE;
        }
    }
    return optind < argc ? 1 + refuse("argument", argv[optind], "not an option") : 0;
}

static bool get_number(const char *text, unsigned long most, unsigned long *number)
{
    char *end;

    errno = 0;
    *number = strtoul(text, &end, 10);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && *number >= 1 &&
           *number <= most;
}

/* Where it comes from: 0, or an exit status. It is nowhere else afterwards. */
static int get_cookie(const struct options *options, struct sn_cookie *cookie)
{
    char *environment = getenv("SOCKPOOL_COOKIE");
    bool unreadable = false;
    const char *error;

    if (options->cookie_file && options->cookie_stdin) {
        error = "not together with --cookie-stdin";
    } else if (options->cookie_file) {
        error = sn_cookie_from_file(cookie, options->cookie_file, &unreadable);
    } else if (options->cookie_stdin) {
        error = sn_cookie_from_descriptor(cookie, STDIN_FILENO, &unreadable);
    } else {
        error = environment ? sn_cookie_from_text(cookie, environment) : "is not set";
    }
    if (error)
        complain(options->cookie_file    ? "--cookie-file"
                 : options->cookie_stdin ? "--cookie-stdin"
                                         : "environment",
                 options->cookie_file    ? options->cookie_file
                 : options->cookie_stdin ? ""
                                         : "SOCKPOOL_COOKIE",
                 error);
    if (environment)
        OPENSSL_cleanse(environment, strlen(environment));
    unsetenv("SOCKPOOL_COOKIE");
    return !error ? 0 : unreadable ? EXIT_START : EXIT_USAGE;
}

static int not_usable(const struct sn_complaint *complaint)
{
    fprintf(stderr, "sockpool_node: %s\n", complaint->text);
    return complaint->is_passing ? EXIT_START : EXIT_USAGE;
}

/* What the command line does not say, the file does. 0, or an exit status. */
static int get_settings(struct options *options, struct sn_settings *settings,
                        unsigned long *tick_time_s)
{
    struct sn_complaint complaint;

    if (!options->config)
        return 0;
    if (!sn_settings_read(options->config, settings, &complaint))
        return not_usable(&complaint);
    if (!options->name)
        options->name = settings->name;
    if (!options->cookie_file && !options->cookie_stdin)
        options->cookie_file = settings->cookie_file;
    if (!options->listen)
        options->listen = settings->listen;
    if (!options->metrics)
        options->metrics = settings->metrics;
    if (settings->tick_time_s)
        *tick_time_s = settings->tick_time_s;
    return 0;
}

/* 0, or an exit status. */
static int get_config(const struct options *options, unsigned long tick_time_s,
                      struct sn_config *config)
{
    static char name[SP_DIST_NODE_NAME_MAX + 1];
    const char *epmd_port = getenv("ERL_EPMD_PORT");
    unsigned long port = EPMD_PORT, stop_timeout_ms = STOP_TIMEOUT_MS;

    if (!options->name || !sp_dist_is_node_name(options->name, strlen(options->name)))
        return refuse("--name", options->name ? options->name : "", "must be NAME@HOST");
    if (options->tick_time && !get_number(options->tick_time, SN_TICK_TIME_MAX_S, &tick_time_s))
        return refuse("--tick-time", options->tick_time, "must be from 1 to 86400 seconds");
    if (options->stop_timeout && !get_number(options->stop_timeout, UINT32_MAX, &stop_timeout_ms))
        return refuse("--stop-timeout", options->stop_timeout,
                      "must be from 1 to 4294967295 milliseconds");
    if (epmd_port && !get_number(epmd_port, UINT16_MAX, &port))
        return refuse("ERL_EPMD_PORT", epmd_port, "must be from 1 to 65535");
    if (options->is_port && !sn_process_has_live_input())
        return refuse("--port", "", "stdin must be a pipe, a socket or a terminal");
    /* It may lie in the settings, which do not last. */
    snprintf(name, sizeof name, "%s", options->name);
    config->us.name = name;
    config->tick_time_ns = tick_time_s * NS_PER_S;
    config->drain_time_ns = stop_timeout_ms * SP_MS;
    config->epmd_port = (uint16_t)port;
    config->is_port = options->is_port;
    config->settings_path = options->config;
    return 0;
}

/* 0, or an exit status. */
static int get_listen(const struct options *options, struct sn_listen *listen)
{
    const char *host = options->listen ? options->listen : strchr(options->name, '@') + 1;
    int error = sn_listen_resolve(listen, host, options->listen != NULL);

    if (error) {
        complain(options->listen ? "--listen" : "--name", host, gai_strerror(error));
        return options->listen ? EXIT_USAGE : EXIT_START;
    }
    error = sn_listen_bind(listen);
    if (error)
        complain("cannot start: cannot listen on", host, strerror(-error));
    return error ? EXIT_START : 0;
}

/* 0, or an exit status. */
static int get_metrics(const struct options *options, struct sn_scrape_listen *listen)
{
    int error;

    if (!sn_scrape_listen_parse(listen, options->metrics))
        return refuse("--metrics", options->metrics, "must be " SN_SCRAPE_LISTEN_ALLOWED);
    error = options->check ? sn_scrape_listen_check(listen) : sn_scrape_listen_bind(listen);
    if (error)
        complain("cannot start: cannot listen on", options->metrics, strerror(-error));
    return error ? EXIT_START : 0;
}

/* A pool whose files are not there yet starts without them: only a check says so, when it has found nothing
 * else. 0, or an exit status. */
static int get_tls(const struct options *options, struct sn_settings *settings)
{
    struct sn_complaint complaint;

    if (!options->config || sn_settings_check_tls(settings, NULL, options->config, &complaint) ||
        (complaint.is_passing && !options->check))
        return 0;
    return not_usable(&complaint);
}

/* Large pieces of memory of their own: they grow without being copied, and go back at once. By default they
 * come out of the heap after the first of their size, where each takes milliseconds. */
static void set_up_memory(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
#endif
}

static int serve(struct sn_config *config)
{
    static struct sn_server server;
    int status;

    setenv("UV_THREADPOOL_SIZE", LOOKUP_THREADS, 0);
    sn_descriptors_raise();
    set_up_memory();
    while (config->us.creation < CREATION_LEAST) {
        if (getrandom(&config->us.creation, sizeof config->us.creation, 0) !=
            sizeof config->us.creation) {
            complain("getrandom", "", strerror(errno));
            return EXIT_START;
        }
    }
    sn_log_ring_start(STDERR_FILENO);
    status = sn_run(&server, config);
    sn_log_ring_stop(SN_LOG_LAST_MS);
    if (status != 0)
        complain("cannot start", config->us.name, uv_strerror(status));
    return status == 0 ? EXIT_SUCCESS : EXIT_START;
}

/* All that a start needs is looked at before anything begins, so that a check finds what a start would. */
static int check_or_serve(struct options *options, struct sn_settings *settings,
                          struct sn_cookie *cookie)
{
    struct sn_config config = {.settings = settings, .us.cookie = cookie->text};
    unsigned long tick_time_s = TICK_TIME_S;
    struct sn_scrape_listen metrics;
    struct sn_listen listen;
    int status = get_settings(options, settings, &tick_time_s);

    if (status == 0)
        status = get_config(options, tick_time_s, &config);
    if (status == 0)
        status = get_cookie(options, cookie);
    if (status == 0)
        status = get_listen(options, &listen);
    if (status == 0)
        status = get_tls(options, settings);
    if (status == 0 && options->metrics)
        status = get_metrics(options, &metrics);
    if (status != 0)
        return status;
    if (options->check) {
        sn_listen_close(&listen);
        return EXIT_SUCCESS;
    }
    config.listen = &listen;
    config.metrics = options->metrics ? &metrics : NULL;
    return serve(&config);
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct sn_settings settings = {0};
    struct sn_cookie cookie;
    int status;

    sn_process_begin();
    status = get_options(&options, argc, argv);
    if (status)
        return status - 1;
    if (!options.core_dumps)
        sn_process_keep_secrets();
    ei_init();
    status = check_or_serve(&options, &settings, &cookie);
    OPENSSL_cleanse(&cookie, sizeof cookie);
    sn_settings_free(&settings);
    return status;
}
