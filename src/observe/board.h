#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "observe/counter.h"

/*
 * The board: one shared memory file (memfd) for the supervisor and all workers of all generations.
 * Each worker counts in a slot of its own with plain increments; every process can read all of it,
 * so any worker can answer /metrics, /status and /readyz for the whole server, and no count is lost
 * when a worker dies. It outlives successions: its layout is the contract between builds.
 */

#define BOARD_SLOTS 1024 /* slot 0 holds the sums of workers that are gone */
#define BOARD_VERSION 1

enum board_state {
    BOARD_FREE = 0,
    BOARD_STARTING = 1,
    BOARD_CURRENT = 2,
    BOARD_RETIRING = 3,
};

struct board_slot {
    uint32_t state; /* enum board_state; written by the supervisor */
    int32_t pid;
    uint32_t generation;
    uint32_t worker;          /* number within its generation, from 1 */
    struct counters counters; /* written by the worker; by the supervisor once it is gone */
};

struct board_head {
    char magic[8]; /* "BATONBRD" */
    uint32_t version;
    uint32_t stopping;   /* a stop has begun: /readyz says 503 */
    uint32_t generation; /* the current one */
    uint32_t reloads, reloads_refused, worker_crashes;
    uint64_t started_usec; /* CLOCK_REALTIME of the first start */
    uint32_t parking;      /* what lies in the inbox waits for the next instance */
    uint8_t reserved[60];
};

struct board {
    int fd;
    struct board_head *head;
    struct board_slot *slots;
};

/* A new board. Returns 0 or -errno. */
int board_create(struct board *ret);
/* Maps the board behind @fd, which it owns from then on. Returns 0, or -errno (-EINVAL: not a
 * board). */
int board_open(int fd, struct board *ret);
/* Unmaps; the fd stays open, for the next image. */
void board_unmap(struct board *board);
/* Unmaps and closes. */
void board_close(struct board *board);

/* A free slot, zeroed and marked STARTING, or 0 when there is none. */
unsigned board_take_slot(struct board *board);
/* Adds the slot's counts to slot 0, its open connections as ended by a crash, and frees it. */
void board_release_slot(struct board *board, unsigned number);
void board_sum(const struct board *board, struct counters *ret);
