#include "sp_dist_answer.h"

#include "core/base/sp_bytes.h"

#include <string.h>

#define HEAD_BYTES 6 /* 112, a version, the tag and arity of a small tuple, a small integer */
#define VERSION 131
#define PASS_THROUGH 112

/* Tags of the external term format. */
enum { SMALL_TUPLE = 104, SMALL_INTEGER = 97, INTEGER = 98, SMALL_BIG = 110, LIST = 108 };
enum { ATOM = 100, SMALL_ATOM = 115, ATOM_UTF8 = 118, SMALL_ATOM_UTF8 = 119 };
enum { PID = 103, NEW_PID = 88, NEW_REFERENCE = 114, NEWER_REFERENCE = 90 };

/* Control messages. */
enum { LINK = 1, SEND = 2, EXIT = 3, REG_SEND = 6, MONITOR = 19, MONITOR_EXIT = 21 };
enum { UNLINK_ID = 35, UNLINK_ID_ACK = 36 };

/* Bytes that are there; data is NULL once something else was met than expected. */
struct part {
    const uint8_t *data;
    size_t len;
};

/* ---- reading ---- */

/* Cuts off the first bytes. */
static struct part cut(struct part *rest, size_t len)
{
    struct part part = {NULL, 0};

    if (rest->data && len <= rest->len) {
        part = (struct part){rest->data, len};
        rest->data += len;
        rest->len -= len;
    } else {
        rest->data = NULL;
    }
    return part;
}

static unsigned tag_of(const struct part *rest)
{
    return rest->data && rest->len > 0 ? rest->data[0] : 0;
}

static size_t atom_len(const struct part *rest)
{
    switch (tag_of(rest)) {
    case SMALL_ATOM:
    case SMALL_ATOM_UTF8:
        return rest->len < 2 ? SIZE_MAX : 2 + (size_t)rest->data[1];
    case ATOM:
    case ATOM_UTF8:
        return rest->len < 3 ? SIZE_MAX : 3 + (size_t)sp_get(rest->data + 1, 2);
    }
    return SIZE_MAX;
}

static struct part take_atom(struct part *rest)
{
    return cut(rest, atom_len(rest));
}

/* A term of `before` bytes, an atom, and `after` bytes. */
static struct part take_named(struct part *rest, size_t before, size_t after)
{
    struct part whole = *rest, at = *rest;

    (void)cut(&at, before);
    (void)take_atom(&at);
    (void)cut(&at, after);
    return at.data ? cut(rest, whole.len - at.len) : cut(rest, SIZE_MAX);
}

static struct part take_pid(struct part *rest)
{
    switch (tag_of(rest)) {
    case NEW_PID:
        return take_named(rest, 1, 12);
    case PID:
        return take_named(rest, 1, 9);
    }
    return cut(rest, SIZE_MAX);
}

static struct part take_reference(struct part *rest)
{
    size_t words = rest->data && rest->len >= 3 ? (size_t)sp_get(rest->data + 1, 2) : 0;

    switch (tag_of(rest)) {
    case NEWER_REFERENCE:
        return take_named(rest, 3, 4 + 4 * words);
    case NEW_REFERENCE:
        return take_named(rest, 3, 1 + 4 * words);
    }
    return cut(rest, SIZE_MAX);
}

static struct part take_integer(struct part *rest)
{
    switch (tag_of(rest)) {
    case SMALL_INTEGER:
        return cut(rest, 2);
    case INTEGER:
        return cut(rest, 5);
    case SMALL_BIG:
        return cut(rest, rest->len < 2 ? SIZE_MAX : 3 + (size_t)rest->data[1]);
    }
    return cut(rest, SIZE_MAX);
}

static bool is_text(struct part atom, const char *text)
{
    struct part name = atom;
    size_t len = strlen(text);

    (void)cut(&name, atom.len - (len < atom.len ? len : atom.len));
    return name.data &&
           atom.len == len + (atom.data[0] == ATOM || atom.data[0] == ATOM_UTF8 ? 3 : 2) &&
           memcmp(name.data, text, len) == 0;
}

static bool take_tuple(struct part *rest, unsigned arity)
{
    struct part head = cut(rest, 2);

    if (head.data && head.data[0] == SMALL_TUPLE && head.data[1] == arity)
        return true;
    rest->data = NULL;
    return false;
}

/* A reference, or [alias | Reference]: a caller's, of gen. */
static struct part take_call_tag(struct part *rest)
{
    struct part whole = *rest, at = *rest, head;

    if (tag_of(rest) != LIST)
        return take_reference(rest);
    head = cut(&at, 5);
    if (!head.data || sp_get(head.data + 1, 4) != 1 || !is_text(take_atom(&at), "alias") ||
        !take_reference(&at).data)
        return cut(rest, SIZE_MAX);
    return cut(rest, whole.len - at.len);
}

/* ---- writing ---- */

struct writer {
    uint8_t *at;
    size_t room, len; /* len is SIZE_MAX where there was no room */
};

static void put(struct writer *writer, const void *data, size_t len)
{
    if (writer->len == SIZE_MAX || len > writer->room - writer->len) {
        writer->len = SIZE_MAX;
        return;
    }
    memcpy(writer->at + writer->len, data, len);
    writer->len += len;
}

static void put_part(struct writer *writer, struct part part)
{
    put(writer, part.data, part.len);
}

static void put_name(struct writer *writer, const char *text)
{
    uint8_t head[2] = {SMALL_ATOM_UTF8, (uint8_t)strlen(text)};

    put(writer, head, sizeof head);
    put(writer, text, head[1]);
}

static void put_number(struct writer *writer, size_t bytes, uint64_t number)
{
    uint8_t out[8];

    sp_put(out, bytes, number);
    put(writer, out, bytes);
}

static struct writer begin(uint8_t *out, uint8_t arity, uint8_t operation)
{
    struct writer writer = {out, SP_DIST_ANSWER_MAX, 0};
    const uint8_t head[HEAD_BYTES] = {PASS_THROUGH, VERSION,       SMALL_TUPLE,
                                      arity,        SMALL_INTEGER, operation};

    put(&writer, head, sizeof head);
    return writer;
}

static size_t end(const struct writer *writer)
{
    return writer->len == SIZE_MAX ? 0 : writer->len;
}

/* ---- questions ---- */

static bool is_user(struct part pid, const uint8_t *user)
{
    return user && pid.len > SP_DIST_PID_NUMBERS &&
           memcmp(pid.data + pid.len - SP_DIST_PID_NUMBERS, user, SP_DIST_PID_NUMBERS) == 0;
}

/* {19, From, To, Reference}: To is a pid or a name */
static size_t answer_monitor(struct part rest, const uint8_t *user, uint8_t *out)
{
    struct part from = take_pid(&rest);
    bool is_name = atom_len(&rest) != SIZE_MAX;
    struct part to = is_name ? take_atom(&rest) : take_pid(&rest),
                reference = take_reference(&rest);
    struct writer writer = begin(out, 5, MONITOR_EXIT);

    if (!rest.data || (is_name ? is_text(to, "net_kernel") : is_user(to, user)))
        return 0;
    put_part(&writer, to);
    put_part(&writer, from);
    put_part(&writer, reference);
    put_name(&writer, "noproc");
    return end(&writer);
}

/* {1, From, To} */
static size_t answer_link(struct part rest, const uint8_t *user, uint8_t *out)
{
    struct part from = take_pid(&rest), to = take_pid(&rest);
    struct writer writer = begin(out, 4, EXIT);

    if (!rest.data || is_user(to, user))
        return 0;
    put_part(&writer, to);
    put_part(&writer, from);
    put_name(&writer, "noproc");
    return end(&writer);
}

/* {35, Id, From, To} */
static size_t answer_unlink(struct part rest, uint8_t *out)
{
    struct part id = take_integer(&rest), from = take_pid(&rest), to = take_pid(&rest);
    struct writer writer = begin(out, 4, UNLINK_ID_ACK);

    if (!rest.data)
        return 0;
    put_part(&writer, id);
    put_part(&writer, to);
    put_part(&writer, from);
    return end(&writer);
}

/* {6, From, Unused, net_kernel}, and {'$gen_call', {Pid, Tag}, {is_auth, Node}} */
static size_t answer_message(struct part rest, uint8_t *out)
{
    static const uint8_t pair[] = {VERSION, SMALL_TUPLE, 2};
    struct writer writer = begin(out, 3, SEND);
    struct part pid, tag, version;

    (void)take_pid(&rest);
    (void)take_atom(&rest);
    if (!is_text(take_atom(&rest), "net_kernel"))
        return 0;
    version = cut(&rest, 1);
    if (!version.data || version.data[0] != VERSION || !take_tuple(&rest, 3) ||
        !is_text(take_atom(&rest), "$gen_call") || !take_tuple(&rest, 2))
        return 0;
    pid = take_pid(&rest);
    tag = take_call_tag(&rest);
    if (!take_tuple(&rest, 2) || !is_text(take_atom(&rest), "is_auth"))
        return 0;
    put_name(&writer, "");
    put_part(&writer, pid);
    put(&writer, pair, sizeof pair);
    put_part(&writer, tag);
    put_name(&writer, "yes");
    return end(&writer);
}

size_t sp_dist_answer(const uint8_t *frame, size_t len, const uint8_t *user,
                      uint8_t answer[SP_DIST_ANSWER_MAX])
{
    struct part rest = {frame, len}, head = cut(&rest, HEAD_BYTES);

    if (!head.data || head.data[0] != PASS_THROUGH || head.data[1] != VERSION ||
        head.data[2] != SMALL_TUPLE || head.data[4] != SMALL_INTEGER)
        return 0;
    switch (head.data[5]) {
    case MONITOR:
        return answer_monitor(rest, user, answer);
    case LINK:
        return answer_link(rest, user, answer);
    case UNLINK_ID:
        return answer_unlink(rest, answer);
    case REG_SEND:
        return answer_message(rest, answer);
    }
    return 0;
}

/* ---- the node ---- */

size_t sp_dist_probe(const struct sp_node_names *us, uint8_t probe[SP_DIST_ANSWER_MAX])
{
    static const uint8_t pid = NEW_PID, reference[] = {NEWER_REFERENCE, 0, 3};
    struct writer writer = begin(probe, 4, MONITOR);

    put(&writer, &pid, sizeof pid);
    put_name(&writer, us->name);
    put_number(&writer, 8, 0);
    put_number(&writer, 4, us->creation);
    put_name(&writer, "undefined");
    put(&writer, reference, sizeof reference);
    put_name(&writer, us->name);
    put_number(&writer, 4, us->creation);
    put_number(&writer, 4, 0);
    put_number(&writer, 8, 0);
    return end(&writer);
}
