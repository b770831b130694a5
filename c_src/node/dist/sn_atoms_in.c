#include "sn_atoms_in.h"

#include "sn_operation.h"
#include "node/etf/sn_scan.h"
#include "node/etf/sn_tag.h"
#include "core/base/sp_bytes.h"

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
/* What is copied for a piece. */
#define PIECE_BYTES 64

void sn_atoms_in_free(struct sn_atoms_in *atoms)
{
    for (size_t i = 0; atoms->atoms && i < SN_ATOMS_IN_MAX; i++)
        free(atoms->atoms[i]);
    free(atoms->atoms);
    free(atoms->plain);
    *atoms = (struct sn_atoms_in){0};
}

/* ---- the header ---- */

static bool skip(struct sn_atoms_in *atoms, size_t len, const uint8_t **bytes)
{
    *bytes = atoms->copied;
    if ((size_t)(atoms->end - atoms->copied) < len)
        atoms->status = SP_BAD_DATA;
    else
        atoms->copied += len;
    return atoms->status == SP_OK;
}

static void learn(struct sn_atoms_in *atoms, uint16_t number, const uint8_t *text, size_t len)
{
    size_t head = len <= UINT8_MAX ? 2 : 3;
    uint8_t **place = &atoms->atoms[number], *atom = realloc(*place, head + len);

    if (!atom) {
        atoms->status = SP_NO_MEMORY;
        return;
    }
    *place = atom;
    atom[0] = head == 2 ? SN_TAG_SMALL_ATOM_UTF8 : SN_TAG_ATOM_UTF8;
    sp_put(atom + 1, head - 1, len);
    memcpy(atom + head, text, len);
}

static void take_ref(struct sn_atoms_in *atoms, unsigned flags, size_t len_bytes)
{
    const uint8_t *bytes, *text;
    uint16_t number;

    if (!skip(atoms, 1, &bytes))
        return;
    number = (uint16_t)((flags & SEGMENT) << 8 | bytes[0]);
    atoms->refs[atoms->ref_count++] = number;
    if (!(flags & SN_ATOM_IS_NEW)) {
        if (!atoms->atoms[number])
            atoms->status = SP_BAD_DATA;
    } else if (skip(atoms, len_bytes, &bytes)) {
        size_t len = (size_t)sp_get(bytes, len_bytes);

        if (len > TEXT_MAX)
            atoms->status = SP_BAD_DATA;
        else if (skip(atoms, len, &text))
            learn(atoms, number, text, len);
    }
}

static unsigned half_byte(const uint8_t *bytes, unsigned at)
{
    return bytes[at / 2] >> (at % 2 ? 4 : 0) & 0xf;
}

static void take_header(struct sn_atoms_in *atoms)
{
    const uint8_t *head, *flags;
    unsigned count;
    size_t len_bytes;

    if (!skip(atoms, 3, &head))
        return;
    if (head[0] != SN_VERSION || head[1] != SN_ATOM_HEADER)
        atoms->status = SP_BAD_DATA;
    count = head[2];
    if (count == 0 || atoms->status != SP_OK || !skip(atoms, count / 2 + 1, &flags))
        return;
    len_bytes = half_byte(flags, count) & LONG_TEXTS ? 2 : 1;
    for (unsigned i = 0; i < count && atoms->status == SP_OK; i++)
        take_ref(atoms, half_byte(flags, i), len_bytes);
}

/* ---- the terms ---- */

/* As much of it as may be there. */
static void put(struct sn_atoms_in *atoms, const uint8_t *bytes, size_t len)
{
    size_t room = atoms->max - atoms->len, taken = len < room ? len : room;

    if (atoms->status != SP_OK)
        return;
    if (taken > atoms->cap - atoms->len) {
        /* At first what came, and some more. */
        size_t came = (size_t)(atoms->end - atoms->frame);
        size_t cap = LEAST_BYTES + 2 * atoms->len + (atoms->len ? taken : came + came / 8);
        uint8_t *plain = realloc(atoms->plain, cap);

        if (!plain) {
            atoms->status = SP_NO_MEMORY;
            return;
        }
        atoms->plain = plain;
        atoms->cap = cap;
    }
    memcpy(atoms->plain + atoms->len, bytes, taken);
    atoms->len += taken;
    if (taken < len)
        atoms->status = SP_TOO_BIG;
}

static void put_byte(struct sn_atoms_in *atoms, uint8_t byte)
{
    put(atoms, &byte, 1);
}

static void enter_fun(struct sn_atoms_in *atoms, const uint8_t *size)
{
    if (atoms->fun_count == SN_ATOMS_IN_FUNS_MAX)
        return;
    atoms->funs[atoms->fun_count].end = (uint64_t)(size - atoms->frame) + sp_get(size, 4);
    atoms->funs[atoms->fun_count++].size_at = atoms->len;
}

/* The funs around `at` have become longer. */
static void lengthen_funs(struct sn_atoms_in *atoms, const uint8_t *at, size_t by)
{
    while (atoms->fun_count &&
           atoms->funs[atoms->fun_count - 1].end <= (uint64_t)(at - atoms->frame))
        atoms->fun_count--;
    for (unsigned i = 0; i < atoms->fun_count; i++) {
        uint8_t *size = atoms->plain + atoms->funs[i].size_at;

        sp_put(size, 4, sp_get(size, 4) + by);
    }
}

static void put_atom(struct sn_atoms_in *atoms, const uint8_t *found)
{
    struct sn_head head;
    const uint8_t *atom;
    size_t len;

    if (found[1] >= atoms->ref_count)
        return;
    atom = atoms->atoms[atoms->refs[found[1]]];
    head = sn_head_of(atom);
    len = (size_t)(head.end - atom + head.count);
    put(atoms, atom, len);
    atoms->copied += 2;
    if (atoms->status == SP_OK)
        lengthen_funs(atoms, found, len - 2);
}

static void begin_term(struct sn_atoms_in *atoms)
{
    put_byte(atoms, SN_VERSION);
    atoms->scan = sn_scan_begin(atoms->copied, (size_t)(atoms->end - atoms->copied));
    atoms->due = atoms->copied;
    atoms->event = SN_SCAN_AGAIN;
}

sp_status sn_atoms_in_begin(struct sn_atoms_in *atoms, const uint8_t *frame, size_t len, size_t max)
{
    if (atoms->cap > KEPT_BYTES) {
        free(atoms->plain);
        atoms->plain = NULL;
        atoms->cap = 0;
    }
    if (!atoms->atoms && !(atoms->atoms = calloc(SN_ATOMS_IN_MAX, sizeof *atoms->atoms)))
        return SP_NO_MEMORY;
    atoms->len = 0;
    atoms->max = max;
    atoms->frame = atoms->copied = frame;
    atoms->end = frame + len;
    atoms->status = SP_OK;
    atoms->in_payload = false;
    atoms->ref_count = atoms->fun_count = 0;
    take_header(atoms);
    put_byte(atoms, SN_PASS_THROUGH);
    begin_term(atoms);
    return atoms->status;
}

/* Copies what is due; false where there is more. */
static bool copy_due(struct sn_atoms_in *atoms, size_t *pieces)
{
    size_t len = (size_t)(atoms->due - atoms->copied), used;

    if (len / PIECE_BYTES > *pieces)
        len = *pieces * PIECE_BYTES;
    used = len / PIECE_BYTES;
    put(atoms, atoms->copied, len);
    atoms->copied += len;
    *pieces -= used;
    return atoms->copied == atoms->due;
}

/* What the scan has found, now that all before it is copied. True: the term is over. */
static bool take_event(struct sn_atoms_in *atoms)
{
    if (atoms->event == SN_SCAN_DONE || atoms->event == SN_SCAN_LOST)
        return true;
    if (atoms->event == SN_SCAN_CACHED)
        put_atom(atoms, atoms->due);
    else if (atoms->event == SN_SCAN_FUN)
        enter_fun(atoms, atoms->due);
    atoms->event = SN_SCAN_AGAIN;
    atoms->due = atoms->copied;
    return false;
}

static void scan_on(struct sn_atoms_in *atoms, size_t *pieces)
{
    const uint8_t *found = atoms->end;

    atoms->scan.pieces = *pieces;
    atoms->event = sn_scan_next(&atoms->scan, &found);
    *pieces = atoms->scan.pieces;
    atoms->due = atoms->event == SN_SCAN_DONE   ? atoms->scan.at
                 : atoms->event == SN_SCAN_LOST ? atoms->end
                                                : found;
}

sp_status sn_atoms_in_go_on(struct sn_atoms_in *atoms, size_t *pieces)
{
    while (atoms->status == SP_OK) {
        if (!copy_due(atoms, pieces))
            return atoms->status == SP_OK ? SP_AGAIN : atoms->status;
        if (take_event(atoms)) {
            if (atoms->copied == atoms->end)
                return atoms->status;
            /* Whatever is behind the payload is left as it came. */
            if (atoms->in_payload)
                atoms->due = atoms->end;
            else
                begin_term(atoms);
            atoms->in_payload = true;
        } else if (*pieces == 0) {
            return SP_AGAIN;
        } else {
            scan_on(atoms, pieces);
        }
    }
    return atoms->status;
}
