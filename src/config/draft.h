#pragma once

#include "base/buffer.h"
#include "base/span.h"
#include "config/config.h"
#include "config/keys.h"

/*
 * A configuration while it is read: what the sections hold so far, where each thing was said, and
 * every problem found.
 */

/* A line of a source; line 0 is the source as a whole. */
struct place {
    const struct config_source *source;
    unsigned line;
};

struct draft_section {
    enum config_section_type type;
    size_t index;        /* of its object in the array of its type */
    struct place place;  /* where it was first opened */
    struct place *given; /* where each key's own value stands; no source: it has the default */
    uint64_t wrong;      /* bit n: a value of key n was refused */
    struct place *items; /* where each Address=, Host= or Server= was said, in the list's order */
    size_t item_count;
};

struct draft {
    struct config *config;
    struct draft_section *sections; /* [Server] is the first, whether it was opened or not */
    size_t section_count;
    void *names;                       /* of the sections: tsearch(3) */
    size_t current;                    /* the open section, or one of the two below */
    bool opened[CONFIG_SECTION_TYPES]; /* even if its name was refused */
    struct buffer *problems;
    bool failed;
};

#define DRAFT_NO_SECTION SIZE_MAX            /* before the first one */
#define DRAFT_REFUSED_SECTION (SIZE_MAX - 1) /* keys of a section that was refused are ignored */

/* A configuration of defaults. Returns 0 or -ENOMEM; draft_deinit() is called in any case. */
int draft_init(struct draft *draft, struct buffer *problems);
void draft_deinit(struct draft *draft);

/* Each notes what is wrong as a problem and returns 0; -ENOMEM alone is an error. */
int draft_problem(struct draft *draft, struct place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A line that begins with '['. Opens the section, anew or again. */
int draft_open(struct draft *draft, struct place place, struct span header);
/* Key=value in the open section. The first item of a list replaces the default. */
int draft_assign(struct draft *draft, struct place place, const char *name, const char *value);

/* The name of the section's object; "" for [Server]. */
const char *draft_section_name(const struct draft *draft, const struct draft_section *section);
/* Where the key's own value stands; of a list, the last part. NULL: the key was not given. */
const struct place *draft_section_given(const struct draft_section *section, const char *key);
/* Whether a value of that key was refused, so that nothing can be concluded from what it holds. */
bool draft_section_wrong(const struct draft_section *section, const char *key);
