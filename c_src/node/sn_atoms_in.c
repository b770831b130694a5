#include "sn_atoms_in.h"

#include "sn_operation.h"
#include "sn_scan.h"
#include "sp_bytes.h"

#include <stdlib.h>
#include <string.h>

/* Of an atom: as many bytes as 255 characters may have. */
#define TEXT_MAX (4 * 255)
/* In a header, four bits for each atom say what is new, and the segment of its number; */
#define SEGMENT 7
/* the four after the last: */
#define LONG_TEXTS 1
/* Room for a frame: at first, and what is kept of it for the next one. */
#define LEAST_BYTES ((size_t)1024)
#define KEPT_BYTES ((size_t)16 * 1024)
/* Funs within funs whose sizes are put right. One with more is left wrong, and so not understood. */
#define FUNS_MAX 8

/* A frame on its way to one without numbers. */
struct taking {
    struct sn_atoms_in *atoms;
    const uint8_t *frame, *end, *copied; /* what came up to there is in the new frame */
    size_t len, max;                     /* of the new frame */
    sp_status status;
    unsigned ref_count;
    uint16_t refs[SN_ATOM_HEADER_MAX]; /* by the header, numbers of the cache */
    unsigned fun_count;
    struct {
        uint64_t end;   /* in the old frame, from its start */
        size_t size_at; /* in the new one */
    } funs[FUNS_MAX];
};

void sn_atoms_in_free(struct sn_atoms_in *atoms)
{
    for (size_t i = 0; atoms->atoms && i < SN_ATOMS_IN_MAX; i++)
        free(atoms->atoms[i]);
    free(atoms->atoms);
    free(atoms->frame);
    *atoms = (struct sn_atoms_in){0};
}

/* ---- the header ---- */

static bool skip(struct taking *taking, size_t len, const uint8_t **bytes)
{
    *bytes = taking->copied;
    if ((size_t)(taking->end - taking->copied) < len)
        taking->status = SP_BAD_DATA;
    else
        taking->copied += len;
    return taking->status == SP_OK;
}

static void learn(struct taking *taking, uint16_t number, const uint8_t *text, size_t len)
{
    size_t head = len <= UINT8_MAX ? 2 : 3;
    uint8_t **place = &taking->atoms->atoms[number], *atom = realloc(*place, head + len);

    if (!atom) {
        taking->status = SP_NO_MEMORY;
        return;
    }
    *place = atom;
    atom[0] = head == 2 ? 'w' : 'v';
    sp_put(atom + 1, head - 1, len);
    memcpy(atom + head, text, len);
}

static void take_ref(struct taking *taking, unsigned flags, size_t len_bytes)
{
    const uint8_t *bytes, *text;
    uint16_t number;

    if (!skip(taking, 1, &bytes))
        return;
    number = (uint16_t)((flags & SEGMENT) << 8 | bytes[0]);
    taking->refs[taking->ref_count++] = number;
    if (!(flags & SN_ATOM_IS_NEW)) {
        if (!taking->atoms->atoms[number])
            taking->status = SP_BAD_DATA;
    } else if (skip(taking, len_bytes, &bytes)) {
        size_t len = (size_t)sp_get(bytes, len_bytes);

        if (len > TEXT_MAX)
            taking->status = SP_BAD_DATA;
        else if (skip(taking, len, &text))
            learn(taking, number, text, len);
    }
}

static unsigned half_byte(const uint8_t *bytes, unsigned at)
{
    return bytes[at / 2] >> (at % 2 ? 4 : 0) & 0xf;
}

static void take_header(struct taking *taking)
{
    const uint8_t *head, *flags;
    unsigned count;
    size_t len_bytes;

    if (!skip(taking, 3, &head))
        return;
    if (head[0] != SN_VERSION || head[1] != SN_ATOM_HEADER)
        taking->status = SP_BAD_DATA;
    count = head[2];
    if (count == 0 || taking->status != SP_OK || !skip(taking, count / 2 + 1, &flags))
        return;
    len_bytes = half_byte(flags, count) & LONG_TEXTS ? 2 : 1;
    for (unsigned i = 0; i < count && taking->status == SP_OK; i++)
        take_ref(taking, half_byte(flags, i), len_bytes);
}

/* ---- the terms ---- */

static void put(struct taking *taking, const uint8_t *bytes, size_t len)
{
    struct sn_atoms_in *atoms = taking->atoms;

    if (taking->status != SP_OK)
        return;
    if (len > taking->max - taking->len) {
        taking->status = SP_TOO_BIG;
        return;
    }
    if (len > atoms->cap - taking->len) {
        size_t cap = LEAST_BYTES + 2 * taking->len + len;
        uint8_t *frame = realloc(atoms->frame, cap);

        if (!frame) {
            taking->status = SP_NO_MEMORY;
            return;
        }
        atoms->frame = frame;
        atoms->cap = cap;
    }
    memcpy(atoms->frame + taking->len, bytes, len);
    taking->len += len;
}

static void put_byte(struct taking *taking, uint8_t byte)
{
    put(taking, &byte, 1);
}

static void copy_to(struct taking *taking, const uint8_t *end)
{
    put(taking, taking->copied, (size_t)(end - taking->copied));
    taking->copied = end;
}

static void enter_fun(struct taking *taking, const uint8_t *size)
{
    if (taking->fun_count == FUNS_MAX)
        return;
    taking->funs[taking->fun_count].end = (uint64_t)(size - taking->frame) + sp_get(size, 4);
    taking->funs[taking->fun_count++].size_at = taking->len + (size_t)(size - taking->copied);
}

/* The funs around `at` have become longer. */
static void lengthen_funs(struct taking *taking, const uint8_t *at, size_t by)
{
    while (taking->fun_count &&
           taking->funs[taking->fun_count - 1].end <= (uint64_t)(at - taking->frame))
        taking->fun_count--;
    for (unsigned i = 0; i < taking->fun_count; i++) {
        uint8_t *size = taking->atoms->frame + taking->funs[i].size_at;

        sp_put(size, 4, sp_get(size, 4) + by);
    }
}

static void put_atom(struct taking *taking, const uint8_t *found)
{
    const uint8_t *atom;
    size_t len;

    copy_to(taking, found);
    if (taking->status != SP_OK || found[1] >= taking->ref_count)
        return;
    atom = taking->atoms->atoms[taking->refs[found[1]]];
    len = atom[0] == 'w' ? 2 + (size_t)atom[1] : 3 + (size_t)sp_get(atom + 1, 2);
    put(taking, atom, len);
    taking->copied += 2;
    if (taking->status == SP_OK)
        lengthen_funs(taking, found, len - 2);
}

static void put_term(struct taking *taking)
{
    struct sn_scan scan = sn_scan_begin(taking->copied, (size_t)(taking->end - taking->copied));
    enum sn_scan_event event = SN_SCAN_ATOM;
    const uint8_t *found;

    while (taking->status == SP_OK && event != SN_SCAN_DONE && event != SN_SCAN_LOST) {
        event = sn_scan_next(&scan, &found);
        if (event == SN_SCAN_CACHED)
            put_atom(taking, found);
        else if (event == SN_SCAN_FUN)
            enter_fun(taking, found);
    }
    copy_to(taking, event == SN_SCAN_DONE ? scan.at : taking->end);
}

sp_status sn_atoms_in_take(struct sn_atoms_in *atoms, const uint8_t *frame, size_t len, size_t max,
                           const uint8_t **plain, size_t *plain_len)
{
    struct taking taking = {
        .atoms = atoms, .frame = frame, .end = frame + len, .copied = frame, .max = max};

    if (atoms->cap > KEPT_BYTES) {
        free(atoms->frame);
        atoms->frame = NULL;
        atoms->cap = 0;
    }
    if (!atoms->atoms && !(atoms->atoms = calloc(SN_ATOMS_IN_MAX, sizeof *atoms->atoms)))
        return SP_NO_MEMORY;
    take_header(&taking);
    put_byte(&taking, SN_PASS_THROUGH);
    put_byte(&taking, SN_VERSION);
    put_term(&taking);
    if (taking.status == SP_OK && taking.copied < taking.end) {
        put_byte(&taking, SN_VERSION);
        put_term(&taking);
        copy_to(&taking, taking.end);
    }
    *plain = atoms->frame;
    *plain_len = taking.len;
    return taking.status;
}
