#pragma once

#include "connection/flow.h"
#include "connection/gateway.h"

/*
 * Bytes both ways between a client and a backend, whatever they mean: after 101 (RFC 9110 §7.8), or
 * on a listener with Tunnel=. It belongs to a connection in the state TUNNEL. Each side's end is
 * passed on to the other as such (shutdown(2)); both ends end the tunnel.
 */

struct connection;

struct tunnel {
    struct connection *connection;
    struct demand demand;
    struct backend *backend; /* NULL: it is waited for */
    struct flow to_client, to_backend;
    bool client_ended, backend_ended; /* has sent its last byte */
    bool client_told, backend_told;   /* was told that the other side has */
    bool waiting;                     /* the demand does */
};

/*
 * Gives @connection a tunnel to a backend of @gateway, which gets @early first; @patience as in a
 * demand. The connection may be gone when this returns: when no backend is to be had.
 */
void tunnel_begin(
    struct connection *connection, struct gateway *gateway, struct span early, double patience);
/* A tunnel of two sides that are there, with what is unsent of each. Takes the backend and flows.
 */
struct tunnel *tunnel_new(struct connection *connection, struct backend *backend,
    struct flow to_client, struct flow to_backend);
/* Sends what is unsent, and goes on from there. The connection may be gone afterwards. */
void tunnel_start(struct tunnel *tunnel);
/* Goes on with a filled-in one; @seconds_left of its time without traffic (below 0: all of it). */
void tunnel_resume(struct tunnel *tunnel, double seconds_left);
/* Cancels what waits, closes the backend. NULL is allowed. */
void tunnel_free(struct tunnel *tunnel);

/* The client's socket is readable or writable. The connection may be gone afterwards. */
void tunnel_on_client(struct tunnel *tunnel, int events);
int tunnel_client_events(const struct tunnel *tunnel);

/* For the gateway's list. */
void tunnel_expired(struct deadline *deadline);
