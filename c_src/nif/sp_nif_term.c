#include "sp_nif.h"

#include "core/dist/sp_dist_connect.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

struct sp_nif_atoms sp_atoms;

void sp_nif_make_atoms(ErlNifEnv *env)
{
#define SP_ATOM_MAKE(name) sp_atoms.name = enif_make_atom(env, #name);
    SP_ATOM_MAP(SP_ATOM_MAKE)
#undef SP_ATOM_MAKE
    sp_atoms.dollar_sockpool = enif_make_atom(env, "$sockpool");
    sp_atoms.true_ = enif_make_atom(env, "true");
    sp_atoms.false_ = enif_make_atom(env, "false");
    sp_atoms.unix_ = enif_make_atom(env, "unix");
}

ERL_NIF_TERM sp_nif_error_term(ErlNifEnv *env, sp_status status)
{
    return enif_make_tuple2(env, sp_atoms.error, sp_nif_reason_term(env, status));
}

ERL_NIF_TERM sp_nif_reason_term(ErlNifEnv *env, sp_status status)
{
    if (status >= SP_NODE_BASE)
        return enif_make_tuple2(env, sp_atoms.node,
                                enif_make_atom(env, sp_node_error_name(status)));
    if (status >= SP_STATUS_TRANSPORT)
        return sp_nif_tls_reason_term(env, status);
    return enif_make_atom(env, sp_status_name(status));
}

ERL_NIF_TERM sp_nif_no_stream_term(ErlNifEnv *env, ERL_NIF_TERM transport)
{
    return enif_make_tuple2(env, sp_atoms.error,
                            enif_make_tuple3(env, enif_make_atom(env, "bad_option"),
                                             enif_make_atom(env, "transport"), transport));
}

static ERL_NIF_TERM bytes_tuple(ErlNifEnv *env, const uint8_t *bytes, unsigned groups,
                                unsigned width)
{
    ERL_NIF_TERM items[8];

    for (unsigned i = 0; i < groups; i++) {
        unsigned value = 0;
        for (unsigned j = 0; j < width; j++)
            value = value << 8 | bytes[i * width + j];
        items[i] = enif_make_uint(env, value);
    }
    return enif_make_tuple_from_array(env, items, groups);
}

ERL_NIF_TERM sp_nif_words_term(ErlNifEnv *env, const struct sp_conn *conn)
{
    size_t len = strlen(conn->words.text);
    ERL_NIF_TERM text;

    memcpy(enif_make_new_binary(env, len, &text), conn->words.text, len);
    return enif_make_tuple2(env, sp_nif_reason_term(env, SP_UNREAD), text);
}

ERL_NIF_TERM sp_nif_addr_term(ErlNifEnv *env, const struct sp_addr *addr)
{
    ERL_NIF_TERM term;

    if (addr->storage.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->storage;
        return enif_make_tuple2(env, bytes_tuple(env, (const uint8_t *)&in->sin_addr, 4, 1),
                                enif_make_uint(env, ntohs(in->sin_port)));
    }
    if (addr->storage.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->storage;
        return enif_make_tuple2(env, bytes_tuple(env, in6->sin6_addr.s6_addr, 8, 2),
                                enif_make_uint(env, ntohs(in6->sin6_port)));
    }
    const struct sockaddr_un *un = (const struct sockaddr_un *)&addr->storage;
    size_t prefix = offsetof(struct sockaddr_un, sun_path);
    size_t len = addr->len > prefix ? strnlen(un->sun_path, addr->len - prefix) : 0;
    memcpy(enif_make_new_binary(env, len, &term), un->sun_path, len);
    return enif_make_tuple2(env, sp_atoms.local, term);
}

bool sp_nif_get_addr(ErlNifEnv *env, ERL_NIF_TERM host, ERL_NIF_TERM port, struct sp_addr *addr)
{
    ErlNifBinary bin;
    unsigned number;
    bool local;

    memset(addr, 0, sizeof *addr);
    local = enif_is_identical(port, sp_atoms.local);
    if (!enif_inspect_binary(env, host, &bin) ||
        (!local && (!enif_get_uint(env, port, &number) || number > UINT16_MAX)))
        return false;
    if (local) {
        struct sockaddr_un *un = (struct sockaddr_un *)&addr->storage;
        if (bin.size == 0 || bin.size >= sizeof un->sun_path)
            return false;
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, bin.data, bin.size);
        addr->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bin.size + 1);
    } else if (bin.size == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)&addr->storage;
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)number);
        memcpy(&in->sin_addr, bin.data, 4);
        addr->len = sizeof *in;
    } else if (bin.size == 16) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr->storage;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)number);
        memcpy(&in6->sin6_addr, bin.data, 16);
        addr->len = sizeof *in6;
    } else {
        return false;
    }
    return true;
}

bool sp_nif_get_bool(ERL_NIF_TERM term, bool *value)
{
    *value = enif_is_identical(term, sp_atoms.true_);
    return *value || enif_is_identical(term, sp_atoms.false_);
}

ERL_NIF_TERM sp_nif_ms_term(ErlNifEnv *env, uint64_t ms)
{
    return ms == SP_NEVER ? sp_atoms.infinity : enif_make_uint64(env, ms);
}

ERL_NIF_TERM sp_nif_wait_term(ErlNifEnv *env, uint64_t ns)
{
    return sp_nif_ms_term(env, ns == SP_NEVER ? SP_NEVER : (ns + SP_MS - 1) / SP_MS);
}

bool sp_nif_get_word(ErlNifEnv *env, ERL_NIF_TERM term, const char *const *words, int count,
                     int *which)
{
    char word[16];

    if (!enif_get_atom(env, term, word, sizeof word, ERL_NIF_LATIN1))
        return false;
    for (*which = 0; *which < count; ++*which)
        if (strcmp(word, words[*which]) == 0)
            return true;
    return false;
}
