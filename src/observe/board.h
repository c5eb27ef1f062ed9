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
#define BOARD_PAUSES 64
#define BOARD_BACKENDS 4096 /* of all workers; memory is used only for those that are taken */
#define BOARD_VERSION 2

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
    uint32_t backends;     /* entries behind these were never taken: nobody has to look there */
    uint8_t reserved[56];
};

/* An upstream whose requests wait because an administrator said so (pauses.h). */
struct board_pause {
    uint64_t until_usec; /* CLOCK_MONOTONIC; 0: free */
    uint64_t since_usec;
    char upstream[256]; /* terminated; section names are shorter */
};

enum board_backend_state {
    BOARD_BACKEND_UP = 0,
    BOARD_BACKEND_UNREACHABLE = 1, /* the last connection could not be made */
    BOARD_BACKEND_DOWN = 2,        /* its probes say so */
    BOARD_BACKEND_UNRESOLVED = 3,  /* its name was never found */
};

/* What one worker knows of a server of an upstream, or of the upstream itself (backends.h). */
struct board_backend {
    uint32_t slot;    /* the worker's; 0: free */
    uint32_t number;  /* among those of the worker: the same for all workers of a generation */
    uint32_t state;   /* enum board_backend_state */
    uint32_t waiting; /* of an upstream: requests and tunnels that wait for a connection */
    uint32_t lent;    /* connections that serve somebody */
    uint32_t idle;    /* those that are kept for the next request */
    uint64_t avoided_until_usec; /* CLOCK_MONOTONIC; FailTimeout= */
    uint64_t requests, failures;
    char upstream[256]; /* terminated, as the next */
    char server[448];   /* "": this is about the upstream */
};

struct board {
    int fd;
    struct board_head *head;
    struct board_slot *slots;
    struct board_pause *pauses;
    struct board_backend *backends;
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
/*
 * Adds the slot's counts to slot 0, its open connections as ended by a crash, and frees it, with
 * the backends that its worker has taken.
 */
void board_release_slot(struct board *board, unsigned number);
void board_sum(const struct board *board, struct counters *ret);
