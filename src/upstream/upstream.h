#pragma once

#include "base/error.h"
#include "config/config.h"
#include "connection/gateway.h"
#include "observe/backends.h"
#include "observe/counter.h"
#include "upstream/resolver.h"
#include "upstream/server.h"

/*
 * An [Upstream NAME] as one worker sees it: its servers, and the requests that wait for one. It is
 * the gateway of the exchanges and tunnels that use it.
 *
 * A demand is granted a kept connection, or a new one; meanwhile it waits, in the order in which it
 * came. It waits as well while no server can be reached, at the most for HoldTimeout=, and while
 * the upstream is paused. Connections are dialled for the upstream, not for a demand: whoever waits
 * longest gets the next one. One that only the server could serve that has just failed it asks
 * again a moment later: as a rule that server is going down, and would fail it until it is gone.
 */
struct upstream {
    struct gateway gateway; /* first: a struct gateway * is a struct upstream * */
    const struct config_upstream *config;
    struct counters *counters;
    struct board_backend *shown; /* what the status says of it */
    struct upstream_server *servers;
    size_t server_count;
    struct link waiting; /* demands */
    size_t waiting_count;
    size_t dialling;                    /* connections that are being made */
    struct deadline_list hold, again;   /* of demands: that wait, that are postponed */
    struct deadline_list idle, connect; /* of backends, of dials */
    ev_timer retry, change, pause;
    bool paused;
    size_t turn;   /* where round robin goes on among equals */
    char why[256]; /* the last failure, for whoever is refused */
};

/*
 * @config and @counters stay the caller's and must outlive it; @resolver as well, NULL where no
 * server has a name. @counters may be NULL: nothing is counted. @backends gives it the entries that
 * the status shows; NULL: it shows none. Returns 0, or -errno with the reason.
 */
int upstream_new(const struct config_upstream *config, struct ev_loop *loop,
    struct resolver *resolver, struct counters *counters, struct backends *backends,
    struct upstream **ret, struct reason *reason);
/* Kept connections are closed. No demand may wait, and no backend be lent. NULL is allowed. */
void upstream_free(struct upstream *upstream);
/* Closes what is kept: for a worker that retires. */
void upstream_release_idle(struct upstream *upstream);

/* Demands wait from now on, for @seconds at the most; then, or with upstream_resume(), they go. */
void upstream_pause(struct upstream *upstream, double seconds);
void upstream_resume(struct upstream *upstream);

/*
 * For servers: something has changed, so that a demand may be granted, or has to be refused; that
 * is done when the present event is over. upstream_note() keeps why a server could not be used.
 */
void upstream_go_on(struct upstream *upstream);
/* A connection has been made: it is whoever's that waits longest. */
void upstream_grant_new(struct upstream *upstream, struct backend *backend);
void upstream_note(
    struct upstream *upstream, const struct upstream_server *server, const char *cause);
