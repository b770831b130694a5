/* libFuzzer over the calls of the daemon's clients: the input is a program of requests, casts, control
 * messages, ends of processes and turns of the loop, against a pool whose server is in here. At its end
 * the client goes, the pools are stopped, and nothing may be left. */
#include "node/serve/sn_io.h"
#include "node/serve/sn_session_end.h"
#include "node/serve/sn_service.h"
#include "core/base/sp_bytes.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define NODE "c@h"
#define TERM_BYTES 2048
#define SERVED_MAX 64

static const struct sn_identity US = {.name = "sp@h", .cookie = "c", .creation = 77};
static const struct sn_here HERE = {.host = "h", .cookie = "c", .epmd_port = 1};

static struct {
    uv_loop_t uv;
    struct sn_loop loop;
    struct sn_service service;
    struct sn_client client;
    uv_async_t keeper; /* without a handle of this kind the loop would not turn */
    int listener, served[SERVED_MAX];
    char path[64];
} world;

struct input {
    const uint8_t *data;
    size_t len;
};

struct term {
    uint8_t bytes[TERM_BYTES];
    size_t len;
};

static unsigned take_byte(struct input *input)
{
    if (input->len == 0)
        return 0;
    input->len--;
    return *input->data++;
}

static void put(struct term *term, const void *bytes, size_t len)
{
    if (len > sizeof term->bytes - term->len)
        abort();
    memcpy(term->bytes + term->len, bytes, len);
    term->len += len;
}

static void put_byte(struct term *term, unsigned byte)
{
    uint8_t one = (uint8_t)byte;

    put(term, &one, 1);
}

static void put_number(struct term *term, size_t width, uint64_t number)
{
    uint8_t bytes[8];

    sp_put(bytes, width, number);
    put(term, bytes, width);
}

static void put_atom(struct term *term, const char *text)
{
    put_byte(term, 'w');
    put_byte(term, (unsigned)strlen(text));
    put(term, text, strlen(text));
}

static void put_pid(struct term *term, const char *node, unsigned number)
{
    put_byte(term, 'X');
    put_atom(term, node);
    put_number(term, 4, number);
    put_number(term, 8, 5);
}

static void put_reference(struct term *term, const char *node, uint32_t creation, unsigned number)
{
    put_byte(term, 'Z');
    put_number(term, 2, 3);
    put_atom(term, node);
    put_number(term, 4, creation);
    put_number(term, 4, number);
    put_number(term, 8, 0);
}

static void put_lease(struct term *term, unsigned number)
{
    put(term, "h\4", 2);
    put_atom(term, "$sockpool_lease");
    put_atom(term, US.name);
    put_byte(term, 'm');
    put_number(term, 4, SN_INCARNATION_BYTES);
    put(term, world.service.calls.sessions.incarnation, SN_INCARNATION_BYTES);
    put_byte(term, 'a');
    put_byte(term, number);
}

/* A term of the input's own, where it has one. */
static void put_any(struct term *term, struct input *input)
{
    size_t used;

    if (sn_term_check(input->data, input->len, &used) != SN_TERM_OK || used > 256) {
        put_byte(term, 'j');
        return;
    }
    put(term, input->data, used);
    input->data += used;
    input->len -= used;
}

static void put_opts(struct term *term, unsigned value)
{
    put(term, "l\0\0\0\1h\2", 7);
    put_atom(term, value & 1 ? "packet" : value & 4 ? "sndbuf" : "nodelay");
    put(term, value & 2 ? "w\4true" : "a\2", value & 2 ? 6 : 2);
    put_byte(term, 'j');
}

/* Mostly of the kind that belongs there: i(d), n(ame), l(ease), t(ime), d(ata), s(ize), p(id), o(ptions). */
static void put_argument(struct term *term, struct input *input, char kind)
{
    static const char kinds[] = "inltdspo";
    static const char *const words[] = {"infinity", "default", "packet", "undefined"};
    static const uint8_t bytes[256];
    unsigned byte = take_byte(input), value = byte & 31;

    if (byte >= 0xf0) {
        put_any(term, input);
        return;
    }
    switch (byte >= 0xe0 ? kinds[byte & 7] : kind) {
    case 'i':
        put_reference(term, NODE, 5, value);
        return;
    case 'n':
        put_atom(term, value == 31 ? "q" : "p");
        return;
    case 'l':
        put_lease(term, value);
        return;
    case 'p':
        put_pid(term, value & 16 ? US.name : NODE, value & 3);
        return;
    case 'd':
        put_byte(term, 'm');
        put_number(term, 4, 8 * value);
        put(term, bytes, 8 * value);
        return;
    case 'o':
        put_opts(term, value);
        return;
    default:
        if (value >= 28) {
            put_atom(term, words[value - 28]);
        } else {
            put_byte(term, 'a');
            put_byte(term, value);
        }
    }
}

/* As it comes from the network: in memory of exactly its size. */
static struct sn_slice copied(const struct term *term)
{
    uint8_t *bytes = malloc(term->len);

    memcpy(bytes, term->bytes, term->len);
    return (struct sn_slice){bytes, term->len};
}

static void call(struct input *input)
{
    static const struct {
        const char *name;
        const char *arguments;
    } requests[] = {{"checkout", "int"}, {"request", "indst"}, {"checkin", "l"},
                    {"discard", "l"},    {"send", "ldt"},      {"recv", "lst"},
                    {"info", "l"},       {"peername", "l"},    {"sockname", "l"},
                    {"setopts", "lo"},   {"give_away", "lp"},  {"stats", "n"},
                    {"stop_pool", "n"},  {"start_pool", "no"}, {"await_ready", "inst"}};
    unsigned byte = take_byte(input), process = byte >> 6;
    struct term request = {.len = 0}, pid = {.len = 0}, tag = {.len = 0};
    struct sn_caller caller = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct sn_request parts;
    struct sn_slice slice;

    byte %= 17;
    if (byte < 15) {
        put_byte(&request, 'h');
        put_byte(&request, 1 + (unsigned)strlen(requests[byte].arguments));
        put_atom(&request, requests[byte].name);
        for (const char *kind = requests[byte].arguments; *kind; kind++)
            put_argument(&request, input, *kind);
    } else if (byte == 15) {
        put_atom(&request, "which_pools");
    } else {
        put_any(&request, input);
    }
    put_pid(&pid, NODE, process);
    put_reference(&tag, NODE, 5, 1);
    caller.pid = (struct sn_slice){pid.bytes, pid.len};
    caller.tag = (struct sn_slice){tag.bytes, tag.len};
    if (process & 1)
        caller.alias = caller.tag;
    slice = copied(&request);
    parts = sn_request_of(slice);
    sn_calls_take(&world.service.calls, &world.client, &caller, &parts);
    free((void *)slice.data);
}

static void cast(struct input *input)
{
    struct term request = {.len = 0};
    struct sn_request parts;
    struct sn_slice slice;

    put(&request, "h\2", 2);
    put_atom(&request, "cancel");
    put_argument(&request, input, take_byte(input) & 1 ? 'i' : 'l');
    slice = copied(&request);
    parts = sn_request_of(slice);
    sn_calls_take_cast(&world.service.calls, &parts);
    free((void *)slice.data);
}

/* The end of a process, by its monitor or another one. */
static void process_down(struct input *input)
{
    struct term pid = {.len = 0};
    unsigned byte = take_byte(input);

    put_pid(&pid, NODE, byte & 3);
    sn_sessions_process_down(&world.service.calls.sessions, (struct sn_slice){pid.bytes, pid.len},
                             byte >> 2);
}

static void frame(struct input *input)
{
    static struct sn_opening opening;
    size_t len = take_byte(input), pieces = SIZE_MAX;
    uint8_t *bytes;

    if (len > input->len)
        len = input->len;
    bytes = malloc(len ? len : 1);
    memcpy(bytes, input->data, len);
    input->data += len;
    input->len -= len;
    sn_message_begin(&opening, bytes, len, false);
    if (sn_message_go_on(&opening, &pieces) == SN_TERM_OK) {
        sp_status status = sn_service_take(&world.service, &world.client, &opening.message);
        (void)status;
    }
    free(bytes);
}

static void turn(void)
{
    (void)uv_run(&world.uv, UV_RUN_NOWAIT);
}

/* The server: sends back what has come, so many bytes more, or ends. */
static void serve(struct input *input)
{
    unsigned byte = take_byte(input);
    uint8_t bytes[4096] = {0};

    for (int i = 0; i < SERVED_MAX; i++) {
        ssize_t len;

        if (world.served[i] < 0)
            world.served[i] = accept4(world.listener, NULL, NULL, SOCK_NONBLOCK);
        if (world.served[i] < 0)
            return;
        len = recv(world.served[i], bytes, sizeof bytes, 0);
        if (len > 0)
            (void)!send(world.served[i], bytes, (size_t)len, MSG_NOSIGNAL);
        if (byte & 1)
            (void)!send(world.served[i], bytes, byte, MSG_NOSIGNAL);
        if (len == 0 || (byte & 2)) {
            close(world.served[i]);
            world.served[i] = -1;
        }
    }
}

static void act(struct input *input)
{
    switch (take_byte(input) % 8) {
    case 0:
    case 1:
        call(input);
        return;
    case 2:
        cast(input);
        return;
    case 3:
        process_down(input);
        return;
    case 4:
        frame(input);
        return;
    case 5:
        serve(input);
        turn();
        return;
    case 6:
        world.client.out.congested = take_byte(input) & 1;
        if (!world.client.out.congested)
            sn_sessions_resume(&world.service.calls.sessions, &world.client);
        turn();
        return;
    default:
        turn();
    }
}

/* ---- the world ---- */

static void on_wake(struct sn_client *client)
{
    (void)client;
}

/* Its connections may be shared, and its messages have a header of a byte, or not. */
static void start_pool(const char *name, unsigned way)
{
    struct sp_tls_refusal refusal;
    struct sn_bad_option bad;
    struct sn_options options;
    struct term term = {.len = 0}, atom = {.len = 0};

    put_atom(&atom, name);
    put(&term, "t\0\0\0\6", 5);
    put_atom(&term, "transport");
    put_atom(&term, "unix");
    put_atom(&term, "path");
    put_byte(&term, 'm');
    put_number(&term, 4, strlen(world.path));
    put(&term, world.path, strlen(world.path));
    put_atom(&term, "size");
    put(&term, "a\2", 2);
    put_atom(&term, "max_overflow");
    put(&term, "a\1", 2);
    put_atom(&term, "pipeline");
    put(&term, way & 1 ? "a\3" : "a\1", 2);
    put_atom(&term, "packet");
    put(&term, way & 2 ? "a\1" : "a\0", 2);
    if (sn_options_parse((struct sn_slice){atom.bytes, atom.len},
                         (struct sn_slice){term.bytes, term.len}, &options, &bad) != SP_OK ||
        sn_pools_start(&world.service.pools, &options, &refusal) != SP_OK)
        abort();
}

static void leave(void)
{
    unlink(world.path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)argc;
    (void)argv;
    ei_init();
    snprintf(world.path, sizeof world.path, "/tmp/fuzz_calls.%d", getpid());
    strcpy(address.sun_path, world.path);
    unlink(world.path);
    world.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(world.listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(world.listener, SERVED_MAX) != 0 || uv_loop_init(&world.uv) != 0 ||
        uv_async_init(&world.uv, &world.keeper, NULL) != 0 ||
        sn_loop_init(&world.loop, &world.uv) != 0 ||
        sn_service_init(&world.service, &US, &HERE, &world.loop) != SP_OK)
        abort();
    atexit(leave);
    memset(world.service.calls.sessions.incarnation, 7, SN_INCARNATION_BYTES);
    memset(world.served, -1, sizeof world.served);
    return 0;
}

static void begin(unsigned way)
{
    sn_client_init(&world.client);
    world.client.name = NODE;
    world.client.flags = SP_DIST_FLAG_ALIAS;
    world.client.wake = on_wake;
    sn_calls_client_up(&world.service.calls, &world.client);
    world.service.calls.sessions.numbers = 0;
    start_pool("p", way);
    for (int i = 0; i < 3; i++)
        turn();
}

static void end(void)
{
    struct sn_calls *calls = &world.service.calls;
    struct sn_pool *pool;

    sn_calls_client_down(calls, &world.client);
    while ((pool = sn_pools_next(&world.service.pools, NULL)))
        if (sn_pools_stop(&world.service.pools, pool->options.name, pool->options.name_len, NULL,
                          NULL) != SP_OK)
            abort();
    while (!sp_list_empty(&world.service.pools.list) || world.uv.active_reqs.count)
        turn();
    for (int i = 0; i < 3; i++)
        turn();
    if (calls->sessions.by_id.count || calls->sessions.by_number.count ||
        calls->sessions.owners.by_pid.count || calls->sessions.kept_bytes)
        abort();
    sn_client_free(&world.client);
    for (int i = 0; i < SERVED_MAX; i++) {
        if (world.served[i] >= 0)
            close(world.served[i]);
        world.served[i] = -1;
    }
    for (int fd; (fd = accept(world.listener, NULL, NULL)) >= 0;)
        close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct input input = {data, len};

    begin(take_byte(&input));
    while (input.len > 0)
        act(&input);
    end();
    return 0;
}
