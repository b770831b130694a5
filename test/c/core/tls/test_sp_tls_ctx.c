/* sp_tls_ctx and sp_tls_file: what is refused and why, sharing, slots. */
#include "core/tls/sp_tls_file.h"
#include "kit/tls_kit.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

static struct sp_tls_options options;
static struct sp_tls_refusal refusal;

static void made(void)
{
    tkit_world_make();
    options = tkit_options();
}

static void done(void)
{
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 0);
    tkit_world_free();
}

static void refused(const char *option, const char *why)
{
    cr_assert_null(sp_tls_ctx_get(tkit_registry, &options, &refusal));
    cr_expect_str_eq(refusal.option, option);
    cr_expect_str_eq(refusal.why, why);
}

TestSuite(tls_ctx, .init = made, .fini = done);

Test(tls_ctx, files_that_are_not_there)
{
    options.cacertfile = "/nonexistent/ca.pem";
    refused("cacertfile", "enoent");
    options.cacertfile = "/";
    refused("cacertfile", "einval");
    options = tkit_options();
    options.certfile = "/nonexistent/cert.pem";
    refused("certfile", "enoent");
    options.certfile = tkit_pem(tkit_world.leaf.cert, NULL, NULL);
    options.keyfile = "/nonexistent/key.pem";
    refused("keyfile", "enoent");
}

Test(tls_ctx, files_without_what_they_should_have)
{
    options.cacertfile = tkit_file("nothing\n", 8);
    refused("cacertfile", "no_certificate");
    options.cacertfile = tkit_file("", 0);
    refused("cacertfile", "no_certificate");
    options.cacertfile =
        tkit_file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 59);
    refused("cacertfile", "bad_certificate");
    options = tkit_options();
    options.certfile = tkit_pem(NULL, tkit_world.leaf.key, NULL);
    refused("certfile", "no_certificate");
    options.certfile = tkit_pem(tkit_world.leaf.cert, NULL, NULL);
    refused("keyfile", "no_key");
    options.keyfile = tkit_pem(NULL, tkit_world.ca.key, NULL);
    refused("keyfile", "key_does_not_fit_certificate");
}

Test(tls_ctx, certificates_in_der)
{
    unsigned char *der = NULL;
    int len = i2d_X509(tkit_world.ca.cert, &der);
    struct sp_tls_blob certs[] = {{der, (size_t)len}, {"junk", 4}};

    options.cacertfile = NULL;
    options.cacerts = certs;
    options.cacert_count = 1;
    sp_tls_ctx_unref(tkit_ctx(&options));
    options.cacert_count = 2;
    refused("cacerts", "bad_certificate");
    OPENSSL_free(der);
}

Test(tls_ctx, keys_with_a_password)
{
    options.certfile = tkit_pem(tkit_world.leaf.cert, tkit_world.leaf.key, NULL);
    sp_tls_ctx_unref(tkit_ctx(&options)); /* both in one file */
    options.keyfile = tkit_pem(NULL, tkit_world.leaf.key, "sesame");
    refused("password", "password_required");
    options.password = (struct sp_tls_blob){"wrong", 5};
    refused("password", "bad_password");
    options.password = (struct sp_tls_blob){"sesame", 6};
    sp_tls_ctx_unref(tkit_ctx(&options));
}

/* OpenSSL's own reader would ask for the password at the terminal. The password is the key's: it is
 * not tried on certificates. */
Test(tls_ctx, certificates_with_a_password)
{
    const char *clear = tkit_pem(tkit_world.leaf.cert, tkit_world.leaf.key, NULL);

    options.cacertfile = tkit_encrypted(NULL, tkit_world.ca.cert, "sesame");
    refused("cacertfile", "encrypted");
    options.cacertfile = tkit_encrypted(tkit_world.ca.cert, tkit_world.leaf.cert, "sesame");
    refused("cacertfile", "encrypted");
    options = tkit_options();
    options.keyfile = clear;
    options.certfile = tkit_encrypted(NULL, tkit_world.leaf.cert, "sesame");
    refused("certfile", "encrypted");
    options.password = (struct sp_tls_blob){"sesame", 6};
    refused("certfile", "encrypted");
    options.certfile = tkit_encrypted(tkit_world.leaf.cert, tkit_world.ca.cert, "sesame");
    refused("certfile", "encrypted");
    options.certfile = clear;
    sp_tls_ctx_unref(tkit_ctx(&options));
}

Test(tls_ctx, names_that_openssl_does_not_know)
{
    options.ciphers = "NO-SUCH-CIPHER";
    refused("ciphers", "unknown");
    options = tkit_options();
    options.ciphersuites = "NO_SUCH_SUITE";
    refused("ciphersuites", "unknown");
    options = tkit_options();
    options.groups = "no-such-group";
    refused("groups", "unknown");
    options = tkit_options();
    options.keylog = "/nonexistent/keys";
    refused("keylog", "enoent");
}

Test(tls_ctx, one_for_each_configuration)
{
    struct sp_tls_ctx *first = tkit_ctx(&options), *second = tkit_ctx(&options), *other;

    cr_assert_eq(first, second);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 1);
    options.verify_peer = false;
    other = tkit_ctx(&options);
    cr_assert_neq(other, first);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 2);
    sp_tls_ctx_unref(first);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 2);
    sp_tls_ctx_unref(second);
    sp_tls_ctx_unref(other);
}

/* A registry may be left while contexts of it live; another one knows nothing of them. */
Test(tls_ctx, each_registry_has_its_own)
{
    struct sp_tls_registry *registry = sp_tls_registry_new();
    struct sp_tls_ctx *here = tkit_ctx(&options), *there, *again;

    cr_assert_not_null(registry);
    there = sp_tls_ctx_get(registry, &options, &refusal);
    cr_assert_not_null(there);
    cr_assert_neq(here, there);
    again = sp_tls_ctx_get(registry, &options, &refusal);
    cr_assert_eq(again, there);
    cr_assert_eq(sp_tls_ctx_count(registry), 1);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 1);
    sp_tls_registry_unref(registry);
    sp_tls_ctx_unref(again);
    sp_tls_ctx_unref(there);
    sp_tls_ctx_unref(here);
}

/* The same path, with another content, is another configuration: so a reload finds it. */
Test(tls_ctx, what_the_files_hold_counts)
{
    struct sp_tls_ctx *before = tkit_ctx(&options), *after;
    struct tkit_cert ca = tkit_cert_new("another", NULL, true, NULL, -100, 100);
    const char *path = tkit_pem(ca.cert, NULL, NULL);

    cr_assert_eq(rename(path, options.cacertfile), 0);
    after = tkit_ctx(&options);
    cr_assert_neq(before, after);
    sp_tls_ctx_unref(before);
    sp_tls_ctx_unref(after);
    tkit_cert_free(&ca);
}

/* A key that a password opened is not for whoever has another one. */
Test(tls_ctx, the_password_counts)
{
    struct sp_tls_ctx *ctx;

    options.certfile = tkit_pem(tkit_world.leaf.cert, NULL, NULL);
    options.keyfile = tkit_pem(NULL, tkit_world.leaf.key, "sesame");
    options.password = (struct sp_tls_blob){"sesame", 6};
    ctx = tkit_ctx(&options);
    options.password = (struct sp_tls_blob){"guess", 5};
    refused("password", "bad_password");
    sp_tls_ctx_unref(ctx);
}

Test(tls_ctx, a_slot_gives_what_was_put_last)
{
    struct sp_tls_ctx *first = tkit_ctx(&options), *second, *got;
    struct sp_tls_slot slot;

    sp_tls_slot_init(&slot);
    cr_assert_null(sp_tls_slot_get(&slot));
    sp_tls_slot_set(&slot, first, 1);
    got = sp_tls_slot_get(&slot);
    cr_assert_eq(got, first);
    options.session_reuse = false;
    second = tkit_ctx(&options);
    sp_tls_slot_set(&slot, second, 2);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 2, "the first lives as long as somebody has it");
    sp_tls_ctx_unref(got);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 1);
    sp_tls_slot_destroy(&slot);
}

Test(tls_ctx, what_was_asked_for_earlier_and_comes_later_is_dropped)
{
    struct sp_tls_ctx *newer = tkit_ctx(&options), *got;
    struct sp_tls_slot slot;

    sp_tls_slot_init(&slot);
    sp_tls_slot_set(&slot, newer, 2);
    options.session_reuse = false;
    sp_tls_slot_set(&slot, tkit_ctx(&options), 1);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 1);
    got = sp_tls_slot_get(&slot);
    cr_assert_eq(got, newer);
    sp_tls_ctx_unref(got);
    sp_tls_slot_destroy(&slot);
}

/* A shut: the key goes with the last connection. */
Test(tls_ctx, an_emptied_slot_leaves_the_context_to_connections)
{
    struct sp_tls_ctx *connections;
    struct sp_tls_slot slot;

    sp_tls_slot_init(&slot);
    sp_tls_slot_set(&slot, tkit_ctx(&options), 1);
    connections = sp_tls_slot_get(&slot);
    sp_tls_slot_set(&slot, NULL, 2);
    cr_assert_null(sp_tls_slot_get(&slot));
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 1);
    sp_tls_ctx_unref(connections);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 0);
    sp_tls_slot_destroy(&slot);
}

Test(tls_ctx, a_reload_that_a_shut_has_overtaken_is_dropped)
{
    struct sp_tls_slot slot;

    sp_tls_slot_init(&slot);
    sp_tls_slot_set(&slot, tkit_ctx(&options), 1);
    sp_tls_slot_set(&slot, NULL, 3);
    sp_tls_slot_set(&slot, tkit_ctx(&options), 2);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 0);
    sp_tls_slot_set(&slot, tkit_ctx(&options), 4);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 1, "the next life's");
    sp_tls_slot_destroy(&slot);
}

struct shut_race {
    struct sp_tls_slot slot;
    _Atomic int64_t turns;
};

static void *reload_often(void *arg)
{
    struct shut_race *race = arg;

    for (int i = 0; i < 50; i++) {
        int64_t turn = atomic_fetch_add(&race->turns, 1) + 1;
        sp_tls_slot_set(&race->slot, tkit_ctx(&options), turn);
        sp_tls_ctx_unref(sp_tls_slot_get(&race->slot));
    }
    return NULL;
}

Test(tls_ctx, reloads_and_a_shut_at_once)
{
    struct shut_race race = {.turns = 0};
    pthread_t threads[3];

    sp_tls_slot_init(&race.slot);
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, reload_often, &race);
    /* Later than any turn of theirs, and set while they run. */
    sp_tls_slot_set(&race.slot, NULL, 1000000);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 0);
    sp_tls_slot_destroy(&race.slot);
}

static void *get_and_drop(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++)
        sp_tls_ctx_unref(tkit_ctx(&options));
    return NULL;
}

Test(tls_ctx, several_threads_share_and_drop)
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, get_and_drop, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

Test(tls_ctx, a_file_is_read_whole)
{
    static char big[100000];
    struct sp_tls_file file;

    memset(big, 'x', sizeof big);
    cr_assert_eq(sp_tls_file_read(tkit_file(big, sizeof big), &file), SP_OK);
    cr_assert_eq(file.len, sizeof big);
    cr_assert(memcmp(file.data, big, sizeof big) == 0);
    sp_tls_file_wipe(&file);
    cr_assert_null(file.data);
    cr_assert_eq(sp_tls_file_read(NULL, &file), SP_OK);
    cr_assert_eq(file.len, 0);
    cr_assert_eq(sp_tls_file_read("/dev/zero", &file), -EINVAL);
}
