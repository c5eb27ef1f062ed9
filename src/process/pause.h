#pragma once

#include "process/supervisor.h"

/*
 * What `baton pause` and `baton resume` do: the supervisor writes on the board which upstreams are
 * paused (pauses.h), and tells all workers to look. Those that start later look by themselves.
 */

/* Each answers the asker. @upstream is a name that nobody has checked. */
void pause_begin(
    struct supervisor *supervisor, struct control_connection *asker, const char *upstream);
void pause_end(
    struct supervisor *supervisor, struct control_connection *asker, const char *upstream);

/* Watches for the end of the pauses on the board: for an image that takes over. */
void pause_watch(struct supervisor *supervisor);
void pause_expired(struct ev_loop *loop, ev_timer *timer, int events);
