#pragma once

#include "observe/board.h"

/*
 * Which upstreams are paused: a table on the board, which the supervisor writes and every worker
 * reads. So a pause holds over reloads, and for workers that replace others. Times are
 * CLOCK_MONOTONIC; a pause whose time has come is none any more.
 */

/* The pause of that upstream; NULL: it is not paused. */
const struct board_pause *pauses_find(
    const struct board *board, const char *upstream, uint64_t now_usec);

/*
 * Pauses it, or sets a new end for its pause. Returns 0, -ENOSPC (BOARD_PAUSES are paused already)
 * or -ENAMETOOLONG.
 */
int pauses_set(struct board *board, const char *upstream, uint64_t now_usec, uint64_t until_usec);
void pauses_clear(struct board *board, const char *upstream);

/* The one that ends first, or has ended and was not cleared; NULL: there is none. */
const struct board_pause *pauses_first(const struct board *board);
