/* sn_hash: finding, equal hashes, growth, removal. */
#include "node/etf/sn_hash.h"

#include <criterion/criterion.h>
#include <string.h>

struct thing {
    struct sn_hash_node node;
    unsigned value;
};

static struct sn_hash hash;

static void begin(void)
{
    sn_hash_init(&hash);
}

static void end(void)
{
    sn_hash_free(&hash);
    cr_assert(hash.count == 0 && !hash.buckets);
}

TestSuite(sn_hash, .init = begin, .fini = end);

static struct thing *thing_of(struct sn_hash_node *node)
{
    return SP_CONTAINER(node, struct thing, node);
}

Test(sn_hash, nothing_in_it)
{
    cr_assert_null(sn_hash_first(&hash, 0));
    cr_assert_null(sn_hash_first(&hash, 7));
}

Test(sn_hash, many_are_found_and_removed)
{
    enum { COUNT = 5000 };
    static struct thing things[COUNT];

    for (unsigned i = 0; i < COUNT; i++) {
        things[i].value = i;
        cr_assert_eq(sn_hash_add(&hash, &things[i].node, (uint64_t)i * 48), SP_OK);
    }
    cr_assert_eq(hash.count, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        struct sn_hash_node *node = sn_hash_first(&hash, (uint64_t)i * 48);

        cr_assert_eq(thing_of(node)->value, i);
        cr_assert_null(sn_hash_next(&hash, node));
        cr_assert_null(sn_hash_first(&hash, (uint64_t)i * 48 + 1));
    }
    for (unsigned i = 0; i < COUNT; i += 2)
        sn_hash_remove(&hash, &things[i].node);
    for (unsigned i = 0; i < COUNT; i++)
        cr_assert_eq(sn_hash_first(&hash, (uint64_t)i * 48) != NULL, i % 2 == 1);
    for (unsigned i = 1; i < COUNT; i += 2)
        sn_hash_remove(&hash, &things[i].node);
    cr_assert_eq(hash.count, 0);
}

Test(sn_hash, equal_hashes)
{
    struct thing things[3] = {{.value = 1}, {.value = 2}, {.value = 4}};
    unsigned seen = 0;

    for (int i = 0; i < 3; i++)
        cr_assert_eq(sn_hash_add(&hash, &things[i].node, 5), SP_OK);
    for (struct sn_hash_node *at = sn_hash_first(&hash, 5); at; at = sn_hash_next(&hash, at))
        seen += thing_of(at)->value;
    cr_assert_eq(seen, 7);
    sn_hash_remove(&hash, &things[1].node);
    seen = 0;
    for (struct sn_hash_node *at = sn_hash_first(&hash, 5); at; at = sn_hash_next(&hash, at))
        seen += thing_of(at)->value;
    cr_assert_eq(seen, 5);
}

static void add_value(struct sn_hash_node *node, void *arg)
{
    *(unsigned *)arg += thing_of(node)->value;
    memset(node, 0xee, sizeof *node); /* as if it were freed */
}

Test(sn_hash, each_may_be_freed)
{
    static struct thing things[100];
    unsigned sum = 0;

    for (unsigned i = 0; i < 100; i++) {
        things[i].value = i;
        cr_assert_eq(sn_hash_add(&hash, &things[i].node, i / 3), SP_OK);
    }
    sn_hash_each(&hash, add_value, &sum);
    cr_assert_eq(sum, 4950);
}

Test(sn_hash, bytes_make_different_hashes)
{
    uint64_t one = sn_hash_bytes((struct sn_slice){(const uint8_t *)"one", 3});

    cr_assert_eq(one, sn_hash_bytes((struct sn_slice){(const uint8_t *)"one", 3}));
    cr_assert_neq(one, sn_hash_bytes((struct sn_slice){(const uint8_t *)"onf", 3}));
    cr_assert_neq(one, sn_hash_bytes((struct sn_slice){(const uint8_t *)"one", 2}));
}
