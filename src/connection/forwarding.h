#pragma once

#include "connection/connection.h"

/*
 * What becomes of a connection whose request a backend answers: how its exchange begins, and the
 * ways in which it ends.
 */

/* Who forwards the request in the reading; NULL: nobody does, by the present configuration. */
struct handler *forwarding_find_handler(struct connection *connection);
/* Its head is complete: as exchange_begin(). Returns as requests_answered(). */
bool forwarding_begin(
    struct connection *connection, struct handler *handler, double patience, unsigned attempts);
/* It closes after the answer under way, where that was not clear before. */
void forwarding_close_after(struct connection *connection);

/* Each ends the exchange, and the connection may be gone: */

/* The answer has gone out whole. */
void forwarding_answered(struct connection *connection);
/* There is none: the client gets @status instead. */
void forwarding_fail(struct connection *connection, unsigned status);
/* The client has left. */
void forwarding_abandon(struct connection *connection);
/* It has to go in the middle of its answer; @status is logged where there was none yet. */
void forwarding_end(struct connection *connection, unsigned status, enum counter reason);
/* The same, because it will not be completed, and the client must be able to tell. */
void forwarding_break_off(struct connection *connection, unsigned status);
/*
 * It becomes a tunnel to @backend; the flows hold what is unsent, and @rest are the first bytes
 * that came from there. Takes the backend and the flows.
 */
void forwarding_switch(struct connection *connection, struct backend *backend,
    struct flow to_client, struct flow to_backend, struct span rest);
