#pragma once

#include <ev.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "connection/exchange.h"
#include "connection/output.h"
#include "connection/reading.h"
#include "connection/server.h"
#include "connection/tunnel.h"
#include "net/deadline.h"
#include "observe/counter.h"

/*
 * One client's connection (RFC 9112 §9). All that it needs in order to go on is its fds and plain
 * values; what it holds beyond this struct, it holds only while a request is under way.
 */

enum connection_state {
    CONNECTION_IDLE,   /* between requests: holds no buffer */
    CONNECTION_HEAD,   /* part of a head was received */
    CONNECTION_BODY,   /* the head is complete, the body is being received (and dropped) */
    CONNECTION_REPLY,  /* an answer is being sent, and the socket was full */
    CONNECTION_LINGER, /* the last answer is out; RFC 9112 §9.6: read on until the client closes */
    CONNECTION_CLOSED, /* about to be freed */
    CONNECTION_PROXY,  /* a PROXY header is expected before anything else (AcceptProxy=) */
    CONNECTION_EXCHANGE, /* a backend answers the request */
    CONNECTION_TUNNEL,   /* bytes go both ways between client and backend */
};

struct connection {
    struct link link; /* server->connections */
    struct server *server;
    ev_io io;
    struct deadline deadline;
    struct sockaddr_in6 peer; /* or sockaddr_in, or only the family: AF_UNIX */
    enum connection_state state;
    enum connection_state settled; /* the state that the deadline was armed for */
    uint16_t listener;
    uint16_t status;           /* of the answer under way */
    bool close;                /* no further request after this answer */
    bool linger;               /* the client may still be sending when we close */
    bool drain;                /* the next answer says close: nobody listens where it came from */
    bool unfit;                /* counted as one that could not be moved when it was tried */
    bool sending;              /* the deadline was armed for what the client has to take */
    enum counter reason;       /* how it ends, once that is known */
    uint64_t requests;         /* heads received on it */
    uint64_t head_sent;        /* bytes of the answer that are head, for the access log */
    uint64_t sent;             /* bytes of the answer that went out */
    int64_t taken;             /* of these, what the client had when the deadline was armed */
    struct reading *reading;   /* NULL while IDLE or LINGER */
    struct output *output;     /* NULL unless REPLY */
    struct exchange *exchange; /* NULL unless EXCHANGE */
    struct tunnel *tunnel;     /* NULL unless TUNNEL */
};

/* Takes @fd. NULL when memory ran out: then @fd is closed. */
struct connection *connection_new(
    struct server *server, int fd, const struct address *peer, unsigned listener);
/*
 * Sets a new connection, filled with what it was, to going on with it; @deadline_usec is what is
 * left of its time (-1: all of it). It may be gone afterwards.
 */
void connection_resume(
    struct connection *connection, enum connection_state state, int64_t deadline_usec);
/*
 * The same with an exchange, which is filled in; @seconds_left of its backend's time (below 0: all
 * of it).
 */
void connection_resume_exchange(
    struct connection *connection, int64_t deadline_usec, double seconds_left);
/* Ends it now, counts @reason, frees everything, and tells the server's owner. */
void connection_end(struct connection *connection, enum counter reason);
/* What its server's retirement means for it now. It may be gone afterwards. */
void connection_retire(struct connection *connection);

/*
 * For those who deal with a part of its life: opening.h, requests.h, forwarding.h, exchange.h,
 * tunnel.h, expiry.h.
 */

/* The one place where a connection changes its state. */
void connection_set_state(struct connection *connection, enum connection_state state);
/* After every event: sets what is waited for, and until when. */
void connection_settle(struct connection *connection);
/* Of the answer's bytes, those that the client's side of the network has; may be below 0. */
int64_t connection_bytes_taken(const struct connection *connection);
/* Receives into the reading, or, LINGER, nowhere. As recv(2). */
ssize_t connection_receive(struct connection *connection);
/* Bytes are there, or its end. It may be gone afterwards. */
void connection_on_readable(struct connection *connection);
void connection_release_reading(struct connection *connection);
/* The line of the answer under way, or just sent. */
void connection_log_access(struct connection *connection);
/* Closes after the answer under way, which says so where that is still possible. */
void connection_close_after(struct connection *connection, enum counter reason, bool linger);

static inline void connection_count(
    struct connection *connection, enum counter counter, uint64_t by)
{
    connection->server->counters->values[counter] += by;
}
