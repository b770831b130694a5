/* Intrusive doubly-linked list. A node is in at most one list; the list's lock is its user's. */
#ifndef SP_LIST_H
#define SP_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct sp_list_node {
    struct sp_list_node *prev, *next;
};

/* A ring through a sentinel: newest after the head, oldest before it. */
struct sp_list {
    struct sp_list_node head;
};

static inline void sp_list_init(struct sp_list *list)
{
    list->head.prev = list->head.next = &list->head;
}

static inline bool sp_list_empty(const struct sp_list *list)
{
    return list->head.next == &list->head;
}

static inline void sp_list_push_newest(struct sp_list *list, struct sp_list_node *node)
{
    node->prev = &list->head;
    node->next = list->head.next;
    node->next->prev = node;
    list->head.next = node;
}

static inline void sp_list_push_oldest(struct sp_list *list, struct sp_list_node *node)
{
    node->next = &list->head;
    node->prev = list->head.prev;
    list->head.prev->next = node;
    list->head.prev = node;
}

/* As the next older than a node that is in a list, or than its head: as the newest. */
static inline void sp_list_insert_older(struct sp_list_node *than, struct sp_list_node *node)
{
    node->prev = than;
    node->next = than->next;
    node->next->prev = node;
    than->next = node;
}

static inline void sp_list_remove(struct sp_list_node *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->prev = node->next = NULL;
}

static inline struct sp_list_node *sp_list_newest(struct sp_list *list)
{
    return sp_list_empty(list) ? NULL : list->head.next;
}

static inline struct sp_list_node *sp_list_oldest(struct sp_list *list)
{
    return sp_list_empty(list) ? NULL : list->head.prev;
}

/* The one after it, from the oldest on. */
static inline struct sp_list_node *sp_list_newer(const struct sp_list *list,
                                                 const struct sp_list_node *node)
{
    return node->prev == &list->head ? NULL : node->prev;
}

/* Moves every node of `from` to the empty list `to`; `from` is empty afterwards. */
static inline void sp_list_steal(struct sp_list *to, struct sp_list *from)
{
    sp_list_init(to);
    if (sp_list_empty(from))
        return;
    to->head = from->head;
    to->head.next->prev = &to->head;
    to->head.prev->next = &to->head;
    sp_list_init(from);
}

#define SP_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
