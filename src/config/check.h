#pragma once

#include "config/draft.h"

/*
 * What no key can tell by itself: what may stand beside what, what a section lacks, what two of
 * them may not share, and whether a section that is named is there.
 */

/*
 * Notes every problem of a draft that was read to its end; fills in where the upstreams are that
 * others name. Returns 0 or -ENOMEM.
 */
int check_draft(struct draft *draft, const struct config_sources *sources);
