#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * An intrusive, circular, doubly linked list. A link that is in no list points at itself, so that
 * list_remove() is always allowed.
 */
struct link {
    struct link *next, *previous;
};

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* Walks the list; the current entry may be removed, no other. */
#define LIST_EACH(cursor, list)                                                                    \
    for (struct link *cursor = (list)->next, *cursor##_after = cursor->next; cursor != (list);     \
         cursor = cursor##_after, cursor##_after = cursor->next)

static inline void list_init(struct link *link)
{
    link->next = link->previous = link;
}

static inline bool list_empty(const struct link *list)
{
    return list->next == list;
}

static inline void list_insert_before(struct link *where, struct link *link)
{
    link->previous = where->previous;
    link->next = where;
    where->previous->next = link;
    where->previous = link;
}

static inline void list_append(struct link *list, struct link *link)
{
    list_insert_before(list, link);
}

static inline void list_remove(struct link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    list_init(link);
}
