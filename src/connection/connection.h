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
    uint16_t status;         /* of the answer under way */
    bool close;              /* no further request after this answer */
    bool linger;             /* the client may still be sending when we close */
    bool drain;              /* the next answer says close: nobody listens where it came from */
    bool unfit;              /* counted as one that could not be moved when it was tried */
    enum counter reason;     /* how it ends, once that is known */
    uint64_t requests;       /* heads received on it */
    uint64_t head_sent;      /* bytes of the answer that are head, for the access log */
    uint64_t sent;           /* bytes of the answer that went out */
    int64_t taken;           /* of these, what the client had when the deadline was armed */
    struct reading *reading; /* NULL while IDLE or LINGER */
    struct output *output;   /* NULL unless REPLY */
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
 * A new one begins with a PROXY header, or becomes a tunnel at once: as its listener wants it. It may
 * be gone afterwards.
 */
void connection_open(struct connection *connection);
/*
 * The same for what has to do with a backend. The first asks for one anew, the others go on with
 * connection->exchange or ->tunnel, which is filled in. After the first two it may be gone.
 */
void connection_resume_waiting(
    struct connection *connection, double patience, unsigned attempts);
void connection_resume_exchange(struct connection *connection, double seconds_left);
void connection_resume_tunnel(struct connection *connection);
/* Who forwards its request; NULL: nobody does, by the present configuration. */
struct handler *connection_find_forwarder(struct connection *connection);
/* Ends it now, counts @reason, frees everything, and tells the server's owner. */
void connection_end(struct connection *connection, enum counter reason);
/* What its server's retirement means for it now. It may be gone afterwards. */
void connection_retire(struct connection *connection);
/* The deadline of a drain has come: a request without an answer gets a 503, then the end. */
void connection_cut(struct connection *connection);

/*
 * For what a connection has under way: an exchange or a tunnel.
 */

/* After every event: sets what is waited for, and until when. */
void connection_settle(struct connection *connection);
/* Receives into the reading. As recv(2). */
ssize_t connection_receive(struct connection *connection);
/* It closes after the answer under way, and for no reason that was known before. */
void connection_close_after(struct connection *connection);
/* The exchange's answer has gone out whole. The connection may be gone afterwards, as in the next. */
void connection_answered(struct connection *connection);
/* The exchange ends without an answer: the client gets @status instead. */
void connection_fail(struct connection *connection, unsigned status);
/* The answer under way will not be completed, and the client must be able to tell. */
void connection_break_off(struct connection *connection);
/*
 * The exchange becomes a tunnel to @backend, for which these flows are still unsent; @rest are the
 * first bytes that came from there.
 */
void connection_switch(struct connection *connection, struct backend *backend,
    struct flow to_client, struct flow to_backend, struct span rest);

/* The deadlines' callbacks, for server_init(). */
void connection_idle_expired(struct deadline *deadline);
void connection_header_expired(struct deadline *deadline);
void connection_body_expired(struct deadline *deadline);
void connection_send_expired(struct deadline *deadline);
void connection_linger_expired(struct deadline *deadline);
