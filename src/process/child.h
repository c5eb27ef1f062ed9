#pragma once

#include <ev.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/list.h"
#include "process/channel.h"

/*
 * A worker as the supervisor sees it: its PID, its channel, and how long we are patient with it. A
 * worker that does not get ready in time, or does not answer pings, or outstays its retirement, is
 * aborted (SIGABRT, so that a core shows where it hung), and killed if even that does not end it.
 */

enum child_state {
    CHILD_STARTING,
    CHILD_READY,
    CHILD_SERVING,
    CHILD_RETIRING,
};

struct child;

struct child_calls {
    void (*ready)(struct child *child);
    /* It accepts; or it has adopted the last that lay in the inbox. */
    void (*serving)(struct child *child);
    /* It is reaped; @status as waitpid(2) has it. The callee removes and frees it. */
    void (*gone)(struct child *child, int status);
};

struct child {
    struct link link; /* in its generation's list */
    struct ev_loop *loop;
    const struct child_calls *calls;
    void *owner; /* its generation */
    unsigned generation, number, slot;
    pid_t pid;
    int channel;
    enum child_state state;
    bool hung;         /* aborted by us */
    double started;    /* clock_monotonic_seconds(), as the next */
    double retired_by; /* by when its retirement must be over */
    double timeout;    /* seconds in which a ping must be answered */
    uint64_t pings, pongs;
    char failure[496]; /* what it said of why it cannot start; "" otherwise */
    ev_io io;
    ev_child exit;
    ev_timer patience;
};

/* What both a new child and one taken over from the former image of the supervisor need. */
struct child_identity {
    unsigned generation, number, slot;
    pid_t pid;
    int channel; /* owned by the child from then on */
};

/*
 * Watches a worker that was just forked: it has @start_timeout seconds (0: no limit) to get ready,
 * and then answers pings within @ping_timeout seconds (0: none are sent). NULL when memory ran out.
 */
struct child *child_new(struct ev_loop *loop, const struct child_identity *identity,
    const struct child_calls *calls, void *owner, double start_timeout, double ping_timeout);
/* It is ready already: for one taken over. */
void child_assume_ready(struct child *child);
/* It was told to retire already, and has @seconds left. */
void child_assume_retiring(struct child *child, double seconds);
/* Tells it that its generation serves now. */
void child_serve(struct child *child);
/* Tells it to retire within @usec; with MESSAGE_STOP in @flags when nobody follows. */
void child_retire(struct child *child, uint64_t usec, unsigned flags);
void child_reopen_logs(struct child *child);
/* Tells it to look at the board for what is paused. */
void child_tell_pauses(struct child *child);
void child_kill(struct child *child, int signal);
/* Stops watching, closes the channel, frees. The process is not touched. */
void child_free(struct child *child);
/* Stops watching and frees, and yields the channel: for a succession. */
int child_release(struct child *child);
