#pragma once

#include <ev.h>

#include "base/address.h"
#include "base/list.h"
#include "config/config.h"
#include "connection/answer.h"
#include "connection/held.h"
#include "connection/reading.h"
#include "connection/workspace.h"
#include "http/date.h"
#include "net/deadline.h"
#include "observe/access_log.h"
#include "observe/counter.h"

/*
 * What all connections of one worker share: the loop, the limits, the pool of read buffers, the
 * lists of deadlines, the one answer, the counters. And what is done to all of them: retiring.
 */

struct connection;

struct gateway;

struct listener_manner {
    bool proxy_header;      /* AcceptProxy=: a PROXY header comes first */
    struct gateway *tunnel; /* Tunnel=: no HTTP; NULL: HTTP */
};

/* What the worker decides for the connections. */
struct server_calls {
    /* Who answers this request, received through listener number @listener. NULL: 404. */
    struct handler *(*route)(void *owner, unsigned listener, const struct request *request);
    /* What listener number @listener is called, for the record of a connection. */
    void (*describe)(void *owner, unsigned listener, struct span *ret_name, bool *ret_admin);
    /* A connection has ended: there is room for another; the last one of a retiring worker went. */
    void (*ended)(void *owner);
    /* How connections of listener number @listener begin. */
    void (*listener)(void *owner, unsigned listener, struct listener_manner *ret);
    /* The upstream of that name, or a stand-in where there is none any more. */
    struct gateway *(*find_gateway)(void *owner, struct span name);
    /*
     * A backend gave no answer; the client got @status. @request is NULL for a tunnel, @server
     * empty where none was reached; @why is valid in the call.
     */
    void (*failed)(void *owner, const struct request *request, const char *upstream,
        struct span server, unsigned status, const char *why);
};

enum retirement {
    NOT_RETIRING,
    RETIRING_MOVE,  /* a reload: every connection is about to live on in another worker */
    RETIRING_DRAIN, /* they cannot: idle ones may send one more request; answers say close */
    RETIRING_STOP,  /* a stop: idle connections are closed now; answers say close */
};

struct server {
    struct ev_loop *loop;
    const struct config *config;
    struct counters *counters;
    struct access_log *access_log; /* NULL: off */
    const struct server_calls *calls;
    void *owner;

    struct link connections;
    size_t connection_count;
    size_t second_fd_count; /* of them with a second fd, or perhaps one: a file or a backend */
    enum retirement retirement;

    struct reading_pool readings;
    struct head_limits head_limits;
    struct answer answer;
    struct workspace workspace;
    struct held held; /* of the connection whose turn it is */
    char date[DATE_TEXT_MAX];
    time_t date_second;

    struct deadline_list idle, header, body, send, linger;
};

/* All pointers stay the caller's and must outlive the server. @counters starts at zero. */
void server_init(struct server *server, struct ev_loop *loop, const struct config *config,
    struct counters *counters, struct access_log *access_log, const struct server_calls *calls,
    void *owner);
/* Cuts every connection that is left. */
void server_destroy(struct server *server);

/* A new connection: takes @fd. Without memory it is closed and counted. */
void server_accept(struct server *server, int fd, const struct address *peer, unsigned listener);

/* Whether answers announce that the connection ends (RFC 9112 §9.6). */
static inline bool server_says_close(const struct server *server)
{
    return server->retirement == RETIRING_DRAIN || server->retirement == RETIRING_STOP;
}

/* Begins to retire, or changes from one way to another. server_calls.ended tells of each end. */
void server_retire(struct server *server, enum retirement retirement);
/* Ends every connection now; a request without an answer gets a 503. */
void server_cut(struct server *server);

/* The Date field's value (RFC 9110 §6.6.1), made once a second. */
const char *server_date(struct server *server);
