#pragma once

#include "connection/answer.h"
#include "connection/download.h"
#include "connection/gateway.h"
#include "connection/held.h"
#include "connection/upload.h"

/*
 * One request that a backend answers (RFC 9110 §3.7, a gateway): waiting for a backend, then an
 * upload and a download side by side. It belongs to a connection in the state EXCHANGE, which hands
 * it the client's events and asks it what to wait for.
 *
 * Memory: neither side is read while the other does not take what was read of it.
 */

struct connection;

struct exchange {
    struct connection *connection;
    struct handler *handler; /* NULL: its route is gone, and with it a second attempt */
    struct demand demand;
    struct backend *backend; /* NULL: none yet, or given back */
    struct upload upload;
    struct download download;
    unsigned attempts; /* that failed */
    bool waiting;      /* the demand does */
    bool broken;       /* the backend takes no more of the request; it may have answered already */
    bool silent;       /* armed for the response: the backend is waited for */
};

/*
 * Sets out to have the connection's request answered by @handler's backends. @patience: seconds
 * left of a waiting that began in another worker (below 0: it begins now); @attempts: that failed
 * there. Returns 0, and the connection has an exchange; or the status that it has to be answered
 * with, and none.
 */
unsigned exchange_begin(
    struct connection *connection, struct handler *handler, double patience, unsigned attempts);
/*
 * One to be filled in; @handler may be NULL. NULL: no memory. exchange_take() gives it a backend,
 * and exchange_resume() goes on with it: @seconds_left of the backend's time (below 0: all of it).
 */
struct exchange *exchange_new(
    struct connection *connection, struct handler *handler, struct gateway *gateway);
void exchange_take(struct exchange *exchange, struct backend *backend);
void exchange_resume(struct exchange *exchange, double seconds_left);
/* What is @held goes to the client before the answer. Without memory the connection ends. */
void exchange_send_before(struct exchange *exchange, struct held *held);
/* Cancels what waits, closes the backend. NULL is allowed. */
void exchange_free(struct exchange *exchange);

/* The client's socket is readable or writable. The connection may be gone afterwards. */
void exchange_on_client(struct exchange *exchange, int events);
/* What of the client's is waited for: EV_READ, EV_WRITE, both, or 0. */
int exchange_client_events(const struct exchange *exchange);
/* Whether the client is waited for: to take the answer, or else to send the body. */
bool exchange_client_takes(const struct exchange *exchange);
bool exchange_client_sends(const struct exchange *exchange);
/* Whether something of the answer's final head was sent: then no other answer is possible. */
bool exchange_has_answered(const struct exchange *exchange);

/* For the gateway's lists: the backend's time is over. */
void exchange_send_expired(struct deadline *deadline);
void exchange_response_expired(struct deadline *deadline);
