#pragma once

#include "base/list.h"
#include "config/config.h"
#include "connection/gateway.h"
#include "net/dial.h"
#include "observe/backends.h"
#include "upstream/probe.h"
#include "upstream/resolver.h"

/*
 * One Server= of an upstream: where it is, the connections to it, and whether it can be used.
 *
 * It is unreachable from a connection that could not be made until one can: it is dialled again at
 * growing intervals, while somebody waits. It is avoided for FailTimeout= after MaxFails= requests
 * that it took and did not answer, as long as there is another. It is down while its probes say so.
 */

#define SERVER_DIALS_MAX 32 /* at a time: a server that starts has a short queue */

struct upstream;

struct upstream_server {
    struct upstream *upstream;
    const struct config_server *config;
    struct resolver_name *name; /* NULL: it has an address */
    bool resolving; /* what the name means is not known yet, nor that it means nothing */
    struct address addresses[RESOLVER_ADDRESSES_MAX];
    size_t address_count, next_address;
    struct link idle; /* backends; the last one was used last */
    size_t idle_count;
    size_t lent; /* to exchanges and tunnels */
    size_t dialling;
    struct dial dials[SERVER_DIALS_MAX];
    bool unreachable;
    double retry_at;    /* when it is dialled again; clock_monotonic_seconds() */
    double retry_after; /* seconds: how long that was put off */
    unsigned fails;     /* since fails_since */
    double fails_since, avoid_until;
    double credit; /* of weighted round robin */
    uint32_t hash; /* of its text, for Balance=hash */
    struct probe probe;
    uint64_t requests, failures; /* for the status */
    struct board_backend *shown; /* and what it says of the server */
};

int upstream_server_init(struct upstream_server *server, struct upstream *upstream,
    const struct config_server *config, struct resolver *resolver, struct backends *backends);
void upstream_server_deinit(struct upstream_server *server);
/* Brings what the status says of it up to date. */
void upstream_server_show(const struct upstream_server *server);

/* Whether it can be asked now; avoided ones can. */
bool upstream_server_is_usable(const struct upstream_server *server, double now);
bool upstream_server_is_avoided(const struct upstream_server *server, double now);
/* Whether a connection more is allowed. */
bool upstream_server_has_room(const struct upstream_server *server);

/* A kept connection, lent; NULL: there is none. */
struct backend *upstream_server_take_idle(struct upstream_server *server);
/* Begins to make one. Returns 0, or -errno: it could not even begin; it is unreachable then. */
int upstream_server_dial(struct upstream_server *server);
/* A lent backend comes back: it is kept if it can be, else closed. */
void upstream_server_take_back(struct backend *backend, enum backend_end how);
void upstream_server_close_idle(struct upstream_server *server);
/* A connection that came from another worker: takes @fd. NULL: no memory, and it is closed. */
struct backend *upstream_server_adopt(
    struct upstream *upstream, struct upstream_server *server, int fd);

/* For upstream's list: a kept connection has been so long enough. */
void upstream_server_idle_expired(struct deadline *deadline);
