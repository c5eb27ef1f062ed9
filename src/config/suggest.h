#pragma once

#include <stddef.h>

/*
 * The valid name that a wrong one was probably meant to be: start with only @wrong set, offer every
 * valid name, and read @nearest. Near is at most one edit (a character added, left out, replaced,
 * or two neighbours swapped; case is ignored) for every three characters. Of equally near names the
 * first wins.
 */
struct suggest {
    const char *wrong;
    const char *nearest; /* one of the names offered; NULL: none is near enough */
    size_t distance;     /* of @nearest */
};

void suggest_offer(struct suggest *suggest, const char *name);
