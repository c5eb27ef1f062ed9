#pragma once

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "load_answer.h"
#include "load_events.h"
#include "load_expectation.h"
#include "load_group.h"
#include "load_tunnel.h"

struct run;

enum client_state {
    CLIENT_RESTING,    /* nothing is asked: thinks, is silent, or waits for its turn */
    CLIENT_CONNECTING, /* a request is counted from here on */
    CLIENT_SENDING,
    CLIENT_RECEIVING,
    CLIENT_CLOSING, /* the last answer is whole, or a tunnel's end was said: the server's close is
                       awaited */
    CLIENT_DONE,
};

/*
 * One client of the server: at most one connection, with at most one batch of requests on it (a
 * batch is one request, but for pipelines). In a tunnel a message is a request, and its echo the
 * answer.
 */
struct client {
    struct run *run;
    struct group *group;
    unsigned number; /* among the clients of the group, from 0 */
    enum client_state state;
    int fd;
    ev_io io;
    ev_timer timer; /* think time, the gap between pieces, the pause in a download, another dial */
    struct link deadline;
    uint64_t deadline_usec;
    uint64_t random; /* the state of its random numbers */
    uint64_t due;    /* number of its next request in the plan of --rate */
    bool settled, answered;
    bool final; /* makes, or has made, the last request of an idle client or in a tunnel; events:
                   the next one is the last */
    bool upgraded;

    /* The batch: requests 0 to batch - 1, of which answers 0 to next - 1 have arrived. */
    unsigned batch, next;
    uint64_t begin_usec;   /* the latency counts from here */
    size_t sent, send_end; /* in the group's requests */
    struct answer answer;
    struct comparison comparison;
    uint64_t read_usec; /* download: when what was read so far is due at its rate; events: when the
                           first one came */
    struct events events;
    struct tunnel tunnel;
};

void client_init(
    struct client *client, struct run *run, struct group *group, unsigned number, uint64_t seed);
void client_clear(struct client *client);
/* Makes the first request. */
void client_start(struct client *client);
/* A request is due by the plan of --rate; a client that is busy makes it later. */
void client_take_turn(struct client *client);
/* What it waited for did not come in time. */
void client_expire(struct client *client);
/* The run is over: finishes the requests it has begun, and is done. */
void client_stop(struct client *client);

/* For load_arrival.h: */

/* The only place where the state changes. */
void client_enter(struct client *client, enum client_state state);
/* Whether messages go through it, not requests. */
bool client_is_tunnel(const struct client *client);
void client_start_timer(struct client *client, uint64_t usec);
void client_drop(struct client *client);
void client_finish(struct client *client);
void client_count_failure(struct client *client, enum failure failure, const char *what);
/*
 * The connection is of no more use: every request on it that has no answer has failed; where none
 * was open, the connection itself has.
 */
void client_fail(struct client *client, enum failure failure, const char *what);
/* The server has ended the connection: @error is 0 at the end of the stream, else an errno. */
void client_lose(struct client *client, int error);
/* No request is open any more: after an answer, and after a failure. */
void client_rest(struct client *client);
void client_retry(struct client *client);
