#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/*
 * Every section and key there is, as data: what the reader of the configuration goes by, and what
 * the tests hold baton.conf(5) and the installed baton.conf against.
 */

struct config_key;

/*
 * Reads @value into the member of @object that @key names; the empty value is "none": no string, an
 * empty list. A list grows by what @value holds. Returns 0, -EINVAL with the reason, or -ENOMEM.
 */
typedef int config_setter(
    void *object, const struct config_key *key, const char *value, struct reason *reason);

struct config_key {
    const char *name;
    config_setter *set;
    size_t offset;                 /* of the member in the object of the section */
    size_t count_offset;           /* of the list's count; 0: not a list */
    const char *default_value;     /* as in a file; NULL: none */
    const char *minimum, *maximum; /* as in a file, inclusive; NULL: no range */
    bool inherited; /* without a value of its own, it has that of [Server]'s key of the same name */
};

enum config_section_type {
    CONFIG_SERVER,   /* struct config */
    CONFIG_LISTEN,   /* struct config_listen */
    CONFIG_ROUTE,    /* struct config_route */
    CONFIG_UPSTREAM, /* struct config_upstream */
    CONFIG_SECTION_TYPES,
};

struct config_section_info {
    const char *type;
    bool named; /* [TYPE NAME], else [TYPE] */
    const struct config_key *keys;
    size_t key_count; /* at most 64 */
    /* Where the objects of a named section are: an array of struct config, and its count. */
    size_t object_size; /* the first member is the name */
    size_t objects_offset, count_offset;
};
extern const struct config_section_info config_section_infos[CONFIG_SECTION_TYPES];

static inline void *config_key_member(const struct config_key *key, void *object)
{
    return (char *)object + key->offset;
}

/* For lists only. */
static inline size_t *config_key_count(const struct config_key *key, void *object)
{
    return (size_t *)(void *)((char *)object + key->count_offset);
}
