#pragma once

#include "config/config.h"
#include "observe/board.h"
#include "process/activation.h"
#include "process/inbox.h"

/*
 * The worker's role: one process, one loop, no threads. Accepts, serves, and retires when the
 * supervisor says so or is gone. Never forks, never execs.
 */
struct worker_setup {
    unsigned generation, number;
    unsigned count; /* of workers of the generation */
    int channel;    /* to the supervisor */
    struct counters *counters;
    const struct board *board;
    unsigned slot; /* on the board */
    const struct config *config;
    const struct activation *activation;
    const struct inbox *inbox;
};

/*
 * Runs in the forked child with all signals blocked, until the worker has retired. Returns the exit
 * status: 0, or 1 when it could not start; the supervisor has been told why.
 */
int worker_main(const struct worker_setup *setup);
