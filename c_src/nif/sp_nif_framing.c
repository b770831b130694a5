/* Framings as terms: raw, 1, 2, 4, line, resp, fun (of which another function tells: cut/1), {fixed, Bytes}, {delimiter, Binary}, and {length, #{offset, bytes, endian,
 * adjust, header}} with all of its keys. */
#include "sp_nif.h"

#include <string.h>

static bool get_width(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_framing *framing)
{
    int width;

    if (!enif_get_int(env, term, &width) || (width != 0 && width != 1 && width != 2 && width != 4))
        return false;
    if (width > 0)
        *framing = sp_framing_header((uint8_t)width);
    return true;
}

static bool get_word(ERL_NIF_TERM term, struct sp_framing *framing)
{
    if (enif_is_identical(term, sp_atoms.line))
        *framing = sp_framing_line();
    else if (enif_is_identical(term, sp_atoms.resp))
        framing->kind = SP_FRAMING_RESP;
    else if (enif_is_identical(term, sp_atoms.fun))
        framing->kind = SP_FRAMING_FUN;
    else
        return enif_is_identical(term, sp_atoms.raw);
    return true;
}

static bool get_delimiter(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_framing *framing)
{
    ErlNifBinary bin;

    if (!enif_inspect_binary(env, term, &bin) || bin.size == 0 || bin.size > SP_DELIMITER_MAX)
        return false;
    framing->kind = SP_FRAMING_DELIMITER;
    framing->delimiter_len = (uint8_t)bin.size;
    memcpy(framing->delimiter, bin.data, bin.size);
    return true;
}

static bool get_fixed(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_framing *framing)
{
    unsigned bytes;

    if (!enif_get_uint(env, term, &bytes) || bytes == 0)
        return false;
    framing->kind = SP_FRAMING_FIXED;
    framing->fixed = bytes;
    return true;
}

static bool get_value(ErlNifEnv *env, ERL_NIF_TERM map, const char *key, ERL_NIF_TERM *value)
{
    return enif_get_map_value(env, map, enif_make_atom(env, key), value);
}

static bool get_length(ErlNifEnv *env, ERL_NIF_TERM map, struct sp_framing *framing)
{
    ERL_NIF_TERM offset, bytes, endian, adjust, header;
    unsigned offset_number, bytes_number;
    int adjust_number;

    if (!enif_is_map(env, map) || !get_value(env, map, "offset", &offset) ||
        !get_value(env, map, "bytes", &bytes) || !get_value(env, map, "endian", &endian) ||
        !get_value(env, map, "adjust", &adjust) || !get_value(env, map, "header", &header) ||
        !enif_get_uint(env, offset, &offset_number) || offset_number > UINT8_MAX ||
        !enif_get_uint(env, bytes, &bytes_number) || bytes_number < 1 || bytes_number > 8 ||
        !enif_get_int(env, adjust, &adjust_number))
        return false;
    framing->kind = SP_FRAMING_LENGTH;
    framing->offset = (uint8_t)offset_number;
    framing->bytes = (uint8_t)bytes_number;
    framing->little = enif_is_identical(endian, sp_atoms.little);
    framing->adjust = adjust_number;
    framing->strip = enif_is_identical(header, sp_atoms.strip);
    return !framing->strip || framing->offset == 0;
}

bool sp_nif_get_framing(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_framing *framing)
{
    const ERL_NIF_TERM *items;
    int arity;

    *framing = (struct sp_framing){0};
    if (get_word(term, framing) || get_width(env, term, framing))
        return true;
    if (!enif_get_tuple(env, term, &arity, &items) || arity != 2)
        return false;
    if (enif_is_identical(items[0], sp_atoms.length))
        return get_length(env, items[1], framing);
    if (enif_is_identical(items[0], sp_atoms.delimiter))
        return get_delimiter(env, items[1], framing);
    return enif_is_identical(items[0], sp_atoms.fixed) && get_fixed(env, items[1], framing);
}

static ERL_NIF_TERM length_term(ErlNifEnv *env, const struct sp_framing *framing)
{
    ERL_NIF_TERM map = enif_make_new_map(env);
    const struct {
        const char *key;
        ERL_NIF_TERM value;
    } entries[] = {{"offset", enif_make_uint(env, framing->offset)},
                   {"bytes", enif_make_uint(env, framing->bytes)},
                   {"endian", framing->little ? sp_atoms.little : enif_make_atom(env, "big")},
                   {"adjust", enif_make_int(env, framing->adjust)},
                   {"header", framing->strip ? sp_atoms.strip : enif_make_atom(env, "keep")}};

    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        enif_make_map_put(env, map, enif_make_atom(env, entries[i].key), entries[i].value, &map);
    return enif_make_tuple2(env, sp_atoms.length, map);
}

static ERL_NIF_TERM delimiter_term(ErlNifEnv *env, const struct sp_framing *framing)
{
    ERL_NIF_TERM bytes;

    memcpy(enif_make_new_binary(env, framing->delimiter_len, &bytes), framing->delimiter,
           framing->delimiter_len);
    return enif_make_tuple2(env, sp_atoms.delimiter, bytes);
}

ERL_NIF_TERM sp_nif_framing_term(ErlNifEnv *env, const struct sp_framing *framing)
{
    switch ((enum sp_framing_kind)framing->kind) {
    case SP_FRAMING_LENGTH:
        return sp_framing_is_width(framing) ? enif_make_uint(env, framing->bytes)
                                            : length_term(env, framing);
    case SP_FRAMING_DELIMITER:
        return sp_framing_is_line(framing) ? sp_atoms.line : delimiter_term(env, framing);
    case SP_FRAMING_FIXED:
        return enif_make_tuple2(env, sp_atoms.fixed, enif_make_uint(env, framing->fixed));
    case SP_FRAMING_RESP:
        return sp_atoms.resp;
    case SP_FRAMING_FUN:
        return sp_atoms.fun;
    case SP_FRAMING_RAW:
        break;
    }
    return sp_atoms.raw;
}
