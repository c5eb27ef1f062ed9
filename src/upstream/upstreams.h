#pragma once

#include "upstream/upstream.h"

/*
 * All upstreams of one worker, and the resolver that they share.
 */
struct upstreams;

/*
 * @config, @counters and @board stay the caller's and must outlive them. They show themselves on
 * the board as those of the worker in @slot. Returns 0, or -errno with the reason.
 */
int upstreams_new(const struct config *config, struct ev_loop *loop, struct counters *counters,
    const struct board *board, unsigned slot, struct upstreams **ret, struct reason *reason);
/* NULL is allowed. */
void upstreams_free(struct upstreams *upstreams);

/* That of config->upstreams[index]. */
struct gateway *upstreams_at(struct upstreams *upstreams, size_t index);
/*
 * That of that name. Where there is none: a stand-in without servers, for those who have a backend
 * already. It refuses all who ask.
 */
struct gateway *upstreams_find(struct upstreams *upstreams, struct span name);
/* Closes all kept connections: for a worker that retires. */
void upstreams_release_idle(struct upstreams *upstreams);
/* How many fds are open that no connection has: kept ones, and those that are being made. */
size_t upstreams_fd_count(const struct upstreams *upstreams);
/* Pauses those that the board says are paused (pauses.h), and resumes the others. */
void upstreams_apply_pauses(struct upstreams *upstreams, const struct board *board);
/* How many there are, in the order of the configuration. */
size_t upstreams_count(const struct upstreams *upstreams);
struct upstream *upstreams_get(struct upstreams *upstreams, size_t index);
