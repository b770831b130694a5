/* sockpool_node: see usage() below. */
#include "sn_cookie.h"
#include "sn_descriptors.h"
#include "sn_server.h"
#include "sn_settings.h"
#include "sn_show.h"

#include <arpa/inet.h>
#include <ei.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define EXIT_START 1 /* it could not start */
#define EXIT_USAGE 2 /* options, cookie, configuration file */
#define NS_PER_S UINT64_C(1000000000)
#define EPMD_PORT 4369
#define TICK_TIME_S 60
#define DRAIN_TIME_S 10
/* libuv's threads look up names. Those of a name server that does not answer are busy for long. */
#define LOOKUP_THREADS "16"
/* Smaller ones were given out in turn by epmds of old. */
#define CREATION_LEAST 4

static void usage(FILE *to)
{
    fputs("sockpool_node --name NAME@HOST [OPTION...]\n"
          "sockpool_node --config FILE [OPTION...]\n"
          "A hidden node of an Erlang cluster, written in C, whose registered name is sockpool.\n"
          "\n"
          "  --config FILE       JSON: name, cookie_file, listen, tick_time, and pools to serve;\n"
          "                      the options here come before what it says\n"
          "  --check             read the file of --config, say what is wrong in it, and end\n"
          "  --options           show which options a pool has, their defaults, what is allowed\n"
          "  --name NAME@HOST    the node's name; it is registered with the epmd of this host\n"
          "  --cookie-file FILE  the cookie is its first line; only its owner may have access\n"
          "  --cookie-stdin      the cookie is the first line of stdin\n"
          "                      without either: the environment's SOCKPOOL_COOKIE\n"
          "  --listen ADDRESS    the IP address to listen on; what HOST stands for by default\n"
          "  --tick-time SECONDS the cluster's net_ticktime, 60 by default\n"
          "  --port              run as an Erlang port: end when stdin is closed, or at a line "
          "there\n"
          "  --help\n"
          "\n"
          "ERL_EPMD_PORT in the environment is epmd's port, 4369 by default.\n"
          "Ends orderly at SIGTERM and SIGINT. At SIGHUP, reads the configuration file and\n"
          "the files of TLS again.\n"
          "Logs to stderr.\n"
          "Exit status: 0 after an orderly end, 1 if it could not start, 2 for wrong options, a "
          "wrong\n"
          "configuration file or a cookie that cannot be had.\n",
          to);
}

static void complain(const char *what, const char *value, const char *problem)
{
    fprintf(stderr, "sockpool_node: %s %s: %s\n", what, value, problem);
}

struct options {
    const char *name, *cookie_file, *listen, *tick_time, *config;
    bool cookie_stdin, is_port, check;
};

/* 0, or an exit status plus one. */
static int get_options(struct options *options, int argc, char **argv)
{
    enum {
        NAME = 256,
        COOKIE_FILE,
        COOKIE_STDIN,
        LISTEN,
        TICK_TIME,
        PORT,
        CONFIG,
        CHECK,
        OPTIONS,
        HELP
    };
    static const struct option table[] = {{"name", required_argument, NULL, NAME},
                                          {"cookie-file", required_argument, NULL, COOKIE_FILE},
                                          {"cookie-stdin", no_argument, NULL, COOKIE_STDIN},
                                          {"listen", required_argument, NULL, LISTEN},
                                          {"tick-time", required_argument, NULL, TICK_TIME},
                                          {"port", no_argument, NULL, PORT},
                                          {"config", required_argument, NULL, CONFIG},
                                          {"check", no_argument, NULL, CHECK},
                                          {"options", no_argument, NULL, OPTIONS},
                                          {"help", no_argument, NULL, HELP},
                                          {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
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
        case TICK_TIME:
            options->tick_time = optarg;
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
        case OPTIONS:
            return 1 + (sn_show_options(stdout) ? EXIT_SUCCESS : EXIT_START);
        case HELP:
            usage(stdout);
            return 1 + EXIT_SUCCESS;
        default:
            usage(stderr);
            return 1 + EXIT_USAGE;
        }
    }
    if (optind < argc) {
        complain("argument", argv[optind], "not an option");
        return 1 + EXIT_USAGE;
    }
    return 0;
}

static bool get_number(const char *text, unsigned long most, unsigned long *number)
{
    char *end;

    errno = 0;
    *number = strtoul(text, &end, 10);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && *number >= 1 &&
           *number <= most;
}

static bool get_cookie(const struct options *options, struct sn_cookie *cookie)
{
    const char *environment = getenv("SOCKPOOL_COOKIE"), *error;

    if (options->cookie_file && options->cookie_stdin) {
        complain("--cookie-file", options->cookie_file, "not together with --cookie-stdin");
        return false;
    }
    if (options->cookie_file) {
        error = sn_cookie_from_file(cookie, options->cookie_file);
        if (error)
            complain("--cookie-file", options->cookie_file, error);
    } else if (options->cookie_stdin) {
        error = sn_cookie_from_descriptor(cookie, 0);
        if (error)
            complain("--cookie-stdin", "", error);
    } else {
        error = environment ? sn_cookie_from_text(cookie, environment) : "is not set";
        if (error)
            complain("environment", "SOCKPOOL_COOKIE", error);
    }
    unsetenv("SOCKPOOL_COOKIE");
    return error == NULL;
}

static bool get_address(const struct options *options, struct sockaddr_storage *address)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    const char *host = options->listen ? options->listen : strchr(options->name, '@') + 1;
    int error;

    if (options->listen)
        hints.ai_flags = AI_NUMERICHOST;
    error = getaddrinfo(host, NULL, &hints, &found);
    if (error) {
        complain(options->listen ? "--listen" : "--name", host, gai_strerror(error));
        return false;
    }
    memcpy(address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

/* What the command line does not say, the file does. */
static bool get_settings(struct options *options, struct sn_settings *settings,
                         unsigned long *tick_time_s)
{
    char error[1024];

    if (!options->config) {
        if (options->check)
            complain("--check", "", "needs --config FILE");
        return !options->check;
    }
    if (!sn_settings_read(options->config, settings, error, sizeof error) ||
        !sn_settings_check_tls(settings, options->config, error, sizeof error)) {
        fprintf(stderr, "sockpool_node: %s\n", error);
        return false;
    }
    if (!options->name)
        options->name = settings->name;
    if (!options->cookie_file && !options->cookie_stdin)
        options->cookie_file = settings->cookie_file;
    if (!options->listen)
        options->listen = settings->listen;
    if (settings->tick_time_s)
        *tick_time_s = settings->tick_time_s;
    return true;
}

static bool get_config(const struct options *options, unsigned long tick_time_s,
                       struct sn_cookie *cookie, struct sn_config *config)
{
    static char name[SP_DIST_NODE_NAME_MAX + 1];
    const char *epmd_port = getenv("ERL_EPMD_PORT");
    unsigned long port = EPMD_PORT;

    if (!options->name || !sp_dist_is_node_name(options->name, strlen(options->name))) {
        complain("--name", options->name ? options->name : "", "must be NAME@HOST");
        return false;
    }
    if (options->tick_time && !get_number(options->tick_time, SN_TICK_TIME_MAX_S, &tick_time_s)) {
        complain("--tick-time", options->tick_time, "must be from 1 to 86400 seconds");
        return false;
    }
    if (epmd_port && !get_number(epmd_port, UINT16_MAX, &port)) {
        complain("ERL_EPMD_PORT", epmd_port, "must be from 1 to 65535");
        return false;
    }
    /* It may lie in the settings, which do not last. */
    snprintf(name, sizeof name, "%s", options->name);
    config->us.name = name;
    config->us.cookie = cookie->text;
    config->tick_time_ns = tick_time_s * NS_PER_S;
    config->drain_time_ns = DRAIN_TIME_S * NS_PER_S;
    config->epmd_port = (uint16_t)port;
    config->ends_with_stdin = options->is_port;
    config->settings_path = options->config;
    return get_cookie(options, cookie) && get_address(options, &config->listen);
}

static int serve(struct sn_config *config)
{
    static struct sn_server server;
    int status;

    setenv("UV_THREADPOOL_SIZE", LOOKUP_THREADS, 0);
    signal(SIGPIPE, SIG_IGN);
    sn_descriptors_raise();
    while (config->us.creation < CREATION_LEAST) {
        if (getrandom(&config->us.creation, sizeof config->us.creation, 0) !=
            sizeof config->us.creation) {
            complain("getrandom", "", strerror(errno));
            return EXIT_START;
        }
    }
    status = sn_server_run(&server, config);
    if (status != 0)
        complain("cannot start", config->us.name, uv_strerror(status));
    return status == 0 ? EXIT_SUCCESS : EXIT_START;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct sn_settings settings = {0};
    struct sn_config config = {.settings = &settings};
    struct sn_cookie cookie;
    unsigned long tick_time_s = TICK_TIME_S;
    int status = get_options(&options, argc, argv);

    if (status)
        return status - 1;
    ei_init();
    if (!get_settings(&options, &settings, &tick_time_s))
        status = EXIT_USAGE;
    else if (options.check)
        status = EXIT_SUCCESS;
    else if (!get_config(&options, tick_time_s, &cookie, &config))
        status = EXIT_USAGE;
    else
        status = serve(&config);
    sn_settings_free(&settings);
    return status;
}
