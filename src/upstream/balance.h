#pragma once

#include "upstream/upstream.h"

/*
 * Which server is asked next. Those that can be used come first that are not avoided, have room,
 * and have not just failed @demand; among them Balance= decides. Returns NULL where none can be
 * used now.
 */
struct upstream_server *balance_choose(struct upstream *upstream, const struct demand *demand);
/* Whether that would be the one that has just failed @demand. */
bool balance_repeats(const struct upstream *upstream, const struct demand *demand);
