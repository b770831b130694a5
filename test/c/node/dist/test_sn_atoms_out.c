/* sn_atoms_out: headers byte by byte, and that sn_atoms_in gets from them what was queued. */
#include "node/dist/sn_atoms_out.h"

#include "node/dist/sn_atoms_in.h"
#include "core/base/sp_bytes.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM ((size_t)1 << 22)
#define SLICE(text) ((struct sn_slice){(const uint8_t *)(text), sizeof(text) - 1})
#define NOTHING ((struct sn_slice){NULL, 0})

static struct sn_queue queue;
static struct sn_atoms_out *atoms;
static struct sn_atoms_in receiver;

static void begin(void)
{
    sn_queue_init(&queue);
    atoms = sn_atoms_out_new();
    cr_assert(atoms);
}

static void end(void)
{
    sn_queue_free(&queue);
    free(atoms);
    sn_atoms_in_free(&receiver);
}

TestSuite(sn_atoms_out, .init = begin, .fini = end);

/* The queued frame, behind its length, which is right. */
static struct sn_slice taken(void)
{
    static uint8_t *bytes;
    struct iovec piece;
    size_t len = 0;

    free(bytes);
    bytes = malloc(queue.bytes);
    while (sn_queue_front(&queue, &piece, 1)) {
        memcpy(bytes + len, piece.iov_base, piece.iov_len);
        len += piece.iov_len;
        sn_queue_written(&queue, piece.iov_len);
    }
    cr_assert_eq(sp_get(bytes, 4), len - 4);
    return (struct sn_slice){bytes + 4, len - 4};
}

/* From memory of exactly their sizes. */
static sp_status queue_exact(struct sn_slice control, struct sn_slice payload, struct sn_slice tail)
{
    uint8_t *head = malloc(control.len), *body = malloc(payload.len ? payload.len : 1);
    sp_status status;

    memcpy(head, control.data, control.len);
    if (payload.len)
        memcpy(body, payload.data, payload.len);
    status = sn_atoms_out_frame(atoms, &queue, (struct sn_slice){head, control.len},
                                (struct sn_slice){body, payload.len}, tail);
    free(head);
    free(body);
    return status;
}

static void expect(struct sn_slice control, struct sn_slice payload, struct sn_slice tail,
                   struct sn_slice wanted)
{
    struct sn_slice frame;

    cr_assert_eq(queue_exact(control, payload, tail), SP_OK);
    frame = taken();
    cr_assert_eq(frame.len, wanted.len);
    cr_assert_arr_eq(frame.data, wanted.data, wanted.len);
}

/* Returns the frame. */
static struct sn_slice expect_same(struct sn_slice control, struct sn_slice payload,
                                   struct sn_slice tail)
{
    size_t pieces = SIZE_MAX;
    struct sn_slice frame;
    const uint8_t *plain;

    cr_assert_eq(queue_exact(control, payload, tail), SP_OK);
    frame = taken();
    cr_assert_eq(sn_atoms_in_begin(&receiver, frame.data, frame.len, ROOM), SP_OK);
    cr_assert_eq(sn_atoms_in_go_on(&receiver, &pieces), SP_OK);
    plain = receiver.plain;
    cr_assert_eq(receiver.len, 1 + control.len + payload.len + tail.len);
    cr_assert_arr_eq(plain + 1, control.data, control.len);
    if (payload.len)
        cr_assert_arr_eq(plain + 1 + control.len, payload.data, payload.len);
    if (tail.len)
        cr_assert_arr_eq(plain + 1 + control.len + payload.len, tail.data, tail.len);
    return frame;
}

Test(sn_atoms_out, without_atoms)
{
    expect(SLICE("\x83h\1a\2"), NOTHING, NOTHING,
           SLICE("\x83"
                 "D\0h\1a\2"));
    expect(SLICE("\x83j"), SLICE("\x83m\0\0\0\4w\1"), SLICE("A!"),
           SLICE("\x83"
                 "D\0jm\0\0\0\4w\1A!"));
}

/* Where an atom goes is for the hash to say; the rest is as the documentation has it. */
Test(sn_atoms_out, new_once_and_a_number_from_then_on)
{
    struct sn_slice frame;
    uint8_t one, two, three;

    cr_assert_eq(sn_atoms_out_frame(atoms, &queue, SLICE("\x83h\2w\3onew\3two"),
                                    SLICE("\x83h\2w\3twow\3one"), NOTHING),
                 SP_OK);
    frame = taken();
    cr_assert_eq(frame.len, 3 + 2 + 2 * 5 + 2 * 6);
    cr_assert_arr_eq(frame.data,
                     "\x83"
                     "D\2\x88\0",
                     5);
    one = frame.data[5];
    two = frame.data[10];
    cr_assert_neq(one, two);
    cr_assert_arr_eq(frame.data + 6, "\3one", 4);
    cr_assert_arr_eq(frame.data + 11, "\3twoh\2R\0R\1h\2R\1R\0", 4 + 12);

    cr_assert_eq(
        sn_atoms_out_frame(atoms, &queue, SLICE("\x83h\3w\3twow\5threew\3one"), NOTHING, NOTHING),
        SP_OK);
    frame = taken();
    cr_assert_eq(frame.len, 3 + 2 + 1 + 7 + 1 + 2 + 3 * 2);
    cr_assert_arr_eq(frame.data,
                     "\x83"
                     "D\3\x80\0",
                     5);
    cr_assert_eq(frame.data[5], two);
    three = frame.data[6];
    cr_assert(three != one && three != two);
    cr_assert_arr_eq(frame.data + 7, "\5three", 6);
    cr_assert_eq(frame.data[13], one);
    cr_assert_arr_eq(frame.data + 14, "h\3R\0R\1R\2", 8);
}

Test(sn_atoms_out, what_goes_as_text)
{
    uint8_t longest[3 + SN_ATOMS_OUT_TEXT_MAX] = "\x83w",
                        longer[4 + SN_ATOMS_OUT_TEXT_MAX] = "\x83w";

    expect(SLICE("\x83h\4w\0s\1av\0\1ad\0\1a"), NOTHING, NOTHING,
           SLICE("\x83"
                 "D\0h\4w\0s\1av\0\1ad\0\1a"));
    longest[2] = SN_ATOMS_OUT_TEXT_MAX;
    longer[2] = SN_ATOMS_OUT_TEXT_MAX + 1;
    memset(longest + 3, 'x', SN_ATOMS_OUT_TEXT_MAX);
    memset(longer + 3, 'x', SN_ATOMS_OUT_TEXT_MAX + 1);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(expect_same((struct sn_slice){longer, sizeof longer}, NOTHING, NOTHING).len,
                     3 + sizeof longer - 1);
    (void)expect_same((struct sn_slice){longest, sizeof longest}, NOTHING, NOTHING);
    cr_assert_eq(expect_same((struct sn_slice){longest, sizeof longest}, NOTHING, NOTHING).len,
                 3 + 1 + 1 + 2);
}

Test(sn_atoms_out, pids_references_and_funs_of_others)
{
#define FUN "p\0\0\0\x39\1md5_md5_md5_md5_indx\0\0\0\1w\3m@ha\1a\2Xw\3m@hnumbsericreaj"
    for (int i = 0; i < 3; i++)
        (void)expect_same(SLICE("\x83h\3a\2Xw\3a@bnumbsericreaw\3a@b"),
                          SLICE("\x83h\3Z\0\1w\3a@bcreaword" FUN "w\1x"), NOTHING);
}

/* A tail is the end of the payload's last binary, or its last term. */
Test(sn_atoms_out, tails)
{
    for (int i = 0; i < 2; i++) {
        (void)expect_same(SLICE("\x83w\1a"), SLICE("\x83h\2w\2okm\0\0\0\x06"), SLICE("w\1aw\1b"));
        (void)expect_same(SLICE("\x83w\1a"), SLICE("\x83h\2w\2ok"), SLICE("w\1b"));
    }
}

/* More atoms in one frame than a header has room for. */
Test(sn_atoms_out, a_header_is_full)
{
    enum { COUNT = 2000 };
    static uint8_t payload[6 + COUNT * 6 + 1] = "\x83l";
    uint8_t *at = payload + 6;

    sp_put(payload + 2, 4, COUNT);
    for (int i = 0; i < COUNT; i++, at += 6) {
        char text[16];

        (void)snprintf(text, sizeof text, "w\4%04d", i);
        memcpy(at, text, 6);
    }
    *at = 'j';
    for (int i = 0; i < 3; i++) {
        struct sn_slice frame =
            expect_same(SLICE("\x83j"), (struct sn_slice){payload, sizeof payload}, NOTHING);

        cr_assert_gt(frame.data[2], 200, "most places are used");
    }
}

/* What comes and goes among more atoms than there are places. */
Test(sn_atoms_out, any_frames)
{
    size_t shortened = 0;

    srand(7);
    for (int round = 0; round < 20000; round++) {
        uint8_t payload[3 + 40 * 5] = "\x83h";
        size_t len = 3, count = (size_t)rand() % 40, sent;

        payload[2] = (uint8_t)count;
        for (size_t i = 0; i < count; i++, len += 5) {
            char text[16];

            (void)snprintf(text, sizeof text, "w\3%03x",
                           (unsigned)rand() % (round % 2 ? 0x30 : 0x900));
            memcpy(payload + len, text, 5);
        }
        sent = expect_same(SLICE("\x83h\2a\1w\7control"), (struct sn_slice){payload, len}, NOTHING)
                   .len;
        shortened += sent < len + 13;
    }
    cr_assert_gt(shortened, 9000, "those of few atoms at least");
}

Test(sn_atoms_out, the_queue_has_no_room)
{
    uint8_t *bytes = calloc(1, SN_QUEUE_MAX);

    cr_assert_eq(sn_queue_bytes(&queue, bytes, SN_QUEUE_MAX), SP_OK);
    cr_assert_eq(sn_atoms_out_frame(atoms, &queue, SLICE("\x83j"), NOTHING, NOTHING), SP_FULL);
    free(bytes);
}
