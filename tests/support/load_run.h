#pragma once

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/list.h"
#include "load_options.h"
#include "load_tally.h"

struct client;

#define FIRST_FAILURES 10
#define FAILURE_TEXT 256

/*
 * One run: what all clients share. Starts them, few at a time; gives each its turn where a rate
 * decides; expires what takes too long; ends it all; and reports.
 */
struct run {
    struct ev_loop *loop;
    struct options *options;
    struct client *clients;
    unsigned count;    /* of the clients */
    unsigned started;  /* of them, in their order */
    unsigned settled;  /* had the outcome of a first request */
    unsigned answered; /* had a first answer */
    unsigned live;     /* are not done */
    bool starting, running, stopping;
    bool unthrottled; /* downloads finish at full speed */
    uint64_t begin_usec, stop_usec, end_usec;
    uint64_t requests_left;

    struct link deadlines; /* of clients that wait for something; all timeouts are equal, so that
                              the first is the next to expire */
    ev_timer deadline_timer, end_timer, progress_timer;
    ev_io stdin_io;
    ev_signal signals[3];

    /* --rate: request number n of the run is due at run_due_usec(n), and is that of the client
     * n % paced_count. */
    struct client **paced;
    unsigned paced_count;
    uint64_t due_from_usec, due_next, due_begun;
    int due_fd; /* timerfd(2): libev's timers are as coarse as epoll_wait(2), a millisecond */
    ev_io due_io;

    char first_failures[FIRST_FAILURES][FAILURE_TEXT];
    unsigned first_failure_count;
    char bytes[65536]; /* what any client has just received */
};

/* @options outlives the run. Returns 0 or -errno with the reason. */
int run_init(struct run *run, struct options *options, struct reason *reason);
/* Returns when all clients are done. */
void run_loop(struct run *run);
void run_clear(struct run *run);
/* The report, one JSON object in one line. */
void run_report(const struct run *run, FILE *stream);
/* Whether no request failed and no connection was closed (unless that is allowed). */
bool run_passed(const struct run *run);
/* Whether each request was counted exactly once; true at the end of any run. */
bool run_balances(const struct run *run);

/* For clients: */

/* Takes up to @wanted requests from those the run may still make. */
unsigned run_take_requests(struct run *run, unsigned wanted);
/* The client has had a first answer, or only the outcome of a first request. */
void run_settled(struct run *run, struct client *client, bool answered);
void run_client_done(struct run *run);
/* Keeps the text of the first few failures. */
void run_record(struct run *run, const struct client *client, const char *kind, const char *what);
/* (Re)starts the client's timeout, and ends it. */
void run_expect(struct run *run, struct client *client);
void run_expect_nothing(struct client *client);
/* When request @n of --rate is due; whether there is such a plan yet. */
uint64_t run_due_usec(const struct run *run, uint64_t n);
static inline bool run_is_paced(const struct run *run)
{
    return run->due_from_usec > 0;
}
