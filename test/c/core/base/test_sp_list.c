/* sp_list: order, removal anywhere, stealing. */
#include "core/base/sp_list.h"

#include <criterion/criterion.h>

struct item {
    int number;
    struct sp_list_node node;
};

static struct sp_list list;
static struct item items[5];

static void five(void)
{
    sp_list_init(&list);
    for (int i = 0; i < 5; i++) {
        items[i].number = i;
        sp_list_push_newest(&list, &items[i].node);
    }
}

/* Takes the oldest, again and again: their numbers as one decimal number. */
static int drain(struct sp_list *from)
{
    struct sp_list_node *node;
    int numbers = 0;

    while ((node = sp_list_oldest(from))) {
        sp_list_remove(node);
        cr_assert(!node->prev && !node->next);
        numbers = 10 * numbers + SP_CONTAINER(node, struct item, node)->number + 1;
    }
    return numbers;
}

Test(list, an_empty_one_has_neither_end)
{
    sp_list_init(&list);
    cr_assert(sp_list_empty(&list));
    cr_assert_null(sp_list_newest(&list));
    cr_assert_null(sp_list_oldest(&list));
}

Test(list, keeps_the_order_of_pushing, .init = five)
{
    cr_assert_not(sp_list_empty(&list));
    cr_assert_eq(sp_list_newest(&list), &items[4].node);
    cr_assert_eq(sp_list_oldest(&list), &items[0].node);
    cr_assert_eq(drain(&list), 12345);
    cr_assert(sp_list_empty(&list));
}

Test(list, removes_at_either_end_and_between, .init = five)
{
    sp_list_remove(&items[2].node);
    sp_list_remove(&items[0].node);
    sp_list_remove(&items[4].node);
    cr_assert_eq(drain(&list), 24);
}

Test(list, a_removed_node_can_come_back, .init = five)
{
    sp_list_remove(&items[1].node);
    sp_list_push_newest(&list, &items[1].node);
    cr_assert_eq(drain(&list), 13452);
}

Test(list, steal_moves_all, .init = five)
{
    struct sp_list to;

    sp_list_steal(&to, &list);
    cr_assert(sp_list_empty(&list));
    cr_assert_eq(drain(&to), 12345);
    sp_list_push_newest(&list, &items[3].node);
    cr_assert_eq(drain(&list), 4);
}

Test(list, steal_of_one_and_of_none)
{
    struct sp_list to;

    sp_list_init(&list);
    sp_list_steal(&to, &list);
    cr_assert(sp_list_empty(&to) && sp_list_empty(&list));
    items[0].number = 0;
    sp_list_push_newest(&list, &items[0].node);
    sp_list_steal(&to, &list);
    cr_assert_eq(drain(&to), 1);
    cr_assert(sp_list_empty(&list));
}
