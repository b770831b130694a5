#include "sn_atoms_out.h"

#include "node/etf/sn_hash.h"
#include "sn_operation.h"
#include "node/etf/sn_scan.h"
#include "node/etf/sn_tag.h"

#include <stdlib.h>
#include <string.h>

/* Three bytes and the flags, and a number, a length and a text for each atom. */
#define HEADER_MAX                                                                                 \
    (3 + SN_ATOM_HEADER_MAX / 2 + 1 + SN_ATOM_HEADER_MAX * (2 + SN_ATOMS_OUT_TEXT_MAX))
/* Terms of up to so many bytes need no memory from the heap. */
#define SMALL_BYTES 1024

/* A frame on its way to one with numbers. */
struct sending {
    struct sn_atoms_out *atoms;
    uint8_t *terms; /* no longer than they were */
    size_t len;
    unsigned ref_count;
    struct {
        uint8_t place;
        bool is_new;
    } refs[SN_ATOM_HEADER_MAX];
    uint8_t ref_of[SN_ATOMS_OUT_MAX]; /* of a place, by this header: its number + 1, 0 for none */
};

struct sn_atoms_out *sn_atoms_out_new(void)
{
    return calloc(1, sizeof(struct sn_atoms_out));
}

/* The number of the atom in this frame's header, which it enters; -1 where it has to go as a text. */
static int number_of(struct sending *sending, const uint8_t *text, size_t len)
{
    struct sn_atoms_out *atoms = sending->atoms;
    unsigned set = (unsigned)(sn_hash_bytes((struct sn_slice){text, len}) % SN_ATOMS_OUT_SETS),
             place = 0;
    bool is_new = true;

    for (unsigned way = 0; way < SN_ATOMS_OUT_WAYS && is_new; way++) {
        place = set * SN_ATOMS_OUT_WAYS + way;
        is_new = atoms->atoms[place].len != len || memcmp(atoms->atoms[place].text, text, len) != 0;
    }
    if (is_new)
        place = set * SN_ATOMS_OUT_WAYS + !atoms->last_way[set];
    if (!is_new && sending->ref_of[place])
        return sending->ref_of[place] - 1;
    /* A place has one atom in one frame. */
    if (sending->ref_count == SN_ATOM_HEADER_MAX || sending->ref_of[place])
        return -1;
    if (is_new) {
        atoms->atoms[place].len = (uint8_t)len;
        memcpy(atoms->atoms[place].text, text, len);
    }
    atoms->last_way[set] = place % SN_ATOMS_OUT_WAYS;
    sending->refs[sending->ref_count].place = (uint8_t)place;
    sending->refs[sending->ref_count].is_new = is_new;
    sending->ref_of[place] = (uint8_t)++sending->ref_count;
    return (int)sending->ref_count - 1;
}

static void put(struct sending *sending, const uint8_t *bytes, size_t len)
{
    memcpy(sending->terms + sending->len, bytes, len);
    sending->len += len;
}

/* The term may be cut off, where the frame has a tail. */
static void put_term(struct sending *sending, struct sn_slice versioned)
{
    const uint8_t *copied = versioned.data + 1, *end = versioned.data + versioned.len, *found;
    struct sn_scan scan = sn_scan_begin(copied, versioned.len - 1);
    enum sn_scan_event event;

    do {
        event = sn_scan_next(&scan, &found);
        if (event == SN_SCAN_ATOM && found[0] == SN_TAG_SMALL_ATOM_UTF8 && found[1] > 0 &&
            found[1] <= SN_ATOMS_OUT_TEXT_MAX) {
            int number = number_of(sending, found + 2, found[1]);

            if (number >= 0) {
                put(sending, copied, (size_t)(found - copied));
                put(sending, (const uint8_t[]){SN_TAG_CACHED_ATOM, (uint8_t)number}, 2);
                copied = scan.at;
            }
        }
    } while (event == SN_SCAN_ATOM);
    put(sending, copied, (size_t)(end - copied));
}

static size_t make_header(const struct sending *sending, uint8_t header[HEADER_MAX])
{
    uint8_t *flags = header + 3, *at = flags;

    header[0] = SN_VERSION;
    header[1] = SN_ATOM_HEADER;
    header[2] = (uint8_t)sending->ref_count;
    if (sending->ref_count == 0)
        return 3;
    at += sending->ref_count / 2 + 1;
    memset(flags, 0, (size_t)(at - flags));
    for (unsigned i = 0; i < sending->ref_count; i++) {
        unsigned place = sending->refs[i].place;
        uint8_t len = sending->atoms->atoms[place].len;

        *at++ = (uint8_t)place;
        if (!sending->refs[i].is_new)
            continue;
        flags[i / 2] |= (uint8_t)(SN_ATOM_IS_NEW << (i % 2 ? 4 : 0));
        *at++ = len;
        memcpy(at, sending->atoms->atoms[place].text, len);
        at += len;
    }
    return (size_t)(at - header);
}

sp_status sn_atoms_out_frame(struct sn_atoms_out *atoms, struct sn_queue *queue,
                             struct sn_slice control, struct sn_slice payload, struct sn_slice tail)
{
    uint8_t header[HEADER_MAX], small[SMALL_BYTES];
    struct sending sending = {.atoms = atoms, .terms = small};
    size_t header_len;
    sp_status status;

    if (control.len + payload.len > sizeof small &&
        !(sending.terms = malloc(control.len + payload.len)))
        return SP_NO_MEMORY;
    put_term(&sending, control);
    if (payload.len)
        put_term(&sending, payload);
    header_len = make_header(&sending, header);
    status = sn_queue_parts(
        queue, (struct sn_slice[]){{header, header_len}, {sending.terms, sending.len}, tail}, 3);
    if (sending.terms != small)
        free(sending.terms);
    return status;
}
