#pragma once

#include "base/span.h"

/*
 * The file format of baton.conf(5): text → sections and assignments, each with its line, and a
 * complaint for every line that is neither. inih splits the assignments; what it would alter, cut
 * or join without a word is refused before it sees it.
 */

/* Each returns 0, or a negative errno that ends the reading. The texts are valid in the call. */
struct reader_events {
    int (*section)(void *user, unsigned line, struct span header); /* begins with '[' */
    int (*assignment)(void *user, unsigned line, const char *name, const char *value);
    int (*problem)(void *user, unsigned line, const char *problem);
};

/* Returns 0, a negative errno of an event, or -ENOMEM. */
int reader_read(const char *text, const struct reader_events *events, void *user);
