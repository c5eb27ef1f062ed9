#pragma once

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "load_answer.h"
#include "load_expectation.h"
#include "load_group.h"

struct run;

enum client_state {
    CLIENT_RESTING,    /* nothing is asked: thinks, is silent, or waits for its turn */
    CLIENT_CONNECTING, /* a request is counted from here on */
    CLIENT_SENDING,
    CLIENT_RECEIVING,
    CLIENT_CLOSING, /* the last answer is whole: the server's close is awaited */
    CLIENT_DONE,
};

/*
 * One client of the server: at most one connection, with at most one batch of requests on it (a
 * batch is one request, but for pipelines).
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
    bool final; /* makes, or has made, an idle client's last request */

    /* The batch: requests 0 to batch - 1, of which answers 0 to next - 1 have arrived. */
    unsigned batch, next;
    uint64_t begin_usec;   /* the latency counts from here */
    size_t sent, send_end; /* in the group's requests */
    struct answer answer;
    struct comparison comparison;
    uint64_t read_usec; /* download: when what was read so far is due at its rate */
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
