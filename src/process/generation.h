#pragma once

#include "config/config.h"
#include "observe/board.h"
#include "process/activation.h"
#include "process/child.h"
#include "process/inbox.h"

/*
 * A generation: the workers of one load of binary and configuration. It keeps as many as its
 * configuration wants, replaces those that die, and tells its owner what became of it.
 */

enum generation_state {
    GENERATION_STARTING, /* not all of its workers were READY yet */
    GENERATION_CURRENT,
    GENERATION_RETIRING,
    GENERATION_GONE, /* its last worker was reaped */
};

struct generation;

struct generation_calls {
    /* In a worker just forked: let go of what is the supervisor's alone. */
    void (*forked)(void *owner);
    /* STARTING: all workers are READY. The callee makes it current. */
    void (*ready)(struct generation *generation);
    /* STARTING: a worker failed, hung or died; @why is for an administrator. The callee stops it.
     */
    void (*failed)(struct generation *generation, const char *why);
    /* CURRENT: all of its workers accept; called again when one has emptied the inbox. */
    void (*serving)(struct generation *generation);
    /* CURRENT: workers died CrashLimit= times in a row. */
    void (*gave_up)(struct generation *generation);
    /* RETIRING: it has no worker any more. The callee frees it. */
    void (*gone)(struct generation *generation);
};

/* What all generations of a supervisor share; it outlives them. */
struct generation_shared {
    struct ev_loop *loop;
    const struct activation *activation;
    const struct inbox *inbox;
    struct board *board;
    const struct generation_calls *calls;
    void *owner;
};

struct generation {
    struct link link;
    const struct generation_shared *shared;
    unsigned number;
    enum generation_state state;
    struct config *config; /* owned; NULL: this build cannot read it any more */
    struct link children;
    unsigned wanted, alive, ready;
    unsigned crashes;       /* in a row: none of the workers lived for long between them */
    ev_timer respawn;       /* or, once it retires, the news that it is gone */
    uint64_t deadline_usec; /* CLOCK_MONOTONIC, of its retirement; USEC_INFINITY: none */
};

/* Takes @config. No worker yet. NULL when memory ran out. */
struct generation *generation_new(
    const struct generation_shared *shared, unsigned number, struct config *config);
/* Its workers must be reaped or released. */
void generation_free(struct generation *generation);

/* Forks its workers. What fails shows as generation_calls.failed, later. */
void generation_start(struct generation *generation);
/* Takes over a worker of the former image of this process. Returns 0 or -ENOMEM. */
int generation_adopt(
    struct generation *generation, const struct child_identity *identity, bool retiring);
/* All workers are READY: they serve from now on, and those that die are replaced. */
void generation_make_current(struct generation *generation);
/* They answer, each once it has nothing in hand, with generation_calls.serving. May be said again.
 */
void generation_serve(struct generation *generation);
/* Tells its workers to retire within @usec; @flags as child_retire(). May be said again. */
void generation_retire(struct generation *generation, uint64_t usec, unsigned flags);
/* Ends its workers at once. */
void generation_kill(struct generation *generation);
void generation_reopen_logs(struct generation *generation);
/* Tells its workers that other upstreams are paused than before. */
void generation_tell_pauses(struct generation *generation);
/* Whether a worker is hung and even SIGKILL has not ended it yet. */
bool generation_is_stuck(const struct generation *generation);
/* How long its workers may take to retire: DrainTimeout= of its configuration, microseconds. */
uint64_t generation_drain_usec(const struct generation *generation);
