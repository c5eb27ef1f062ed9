#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/error.h"
#include "config/source.h"
#include "observe/board.h"

/*
 * What a supervisor leaves to its successor, the next image of the same process: versioned text in
 * a memfd. Fds stay open at their numbers; the text says which is which. The sockets are not in it:
 * they are passed like systemd passes them (activation.h).
 *
 * The text is lines of KEY=VALUE; "\n" and "\\" in a value stand for a newline and a backslash. A
 * line the reader does not know is an error, so whatever is added to the text is a new version.
 */

#define STATE_VERSION 2
_Static_assert(
    BOARD_VERSION == 2, "the state holds a board: a new version of it is a new one here");
#define STATE_SIZE_MAX (64u << 20)
#define STATE_WORKERS_MAX 1023
#define STATE_CONNECTIONS_MAX 64

struct state_worker {
    pid_t pid;
    unsigned generation;
    unsigned number; /* within its generation, from 1 */
    unsigned slot;   /* on the board */
    int channel;
    bool retiring;
    uint64_t deadline_usec; /* CLOCK_MONOTONIC, of its retirement; USEC_INFINITY: none */
};

/* A connection of the control socket. */
enum state_role {
    STATE_NEW,    /* has not asked yet, or its request is unread */
    STATE_ASKER,  /* waits for the outcome of the reload under way */
    STATE_QUEUED, /* waits for that of the next one */
};

struct state_connection {
    int fd;
    enum state_role role;
};

struct state {
    char *binary; /* the path that is executed at a succession */
    char *ours;   /* activation_ours() */
    char *nonce;  /* a preflight proves with it that it read this state */
    int board;
    int control; /* the listening control socket; -1: none */
    int inbox_read, inbox_write;
    unsigned generation;      /* the current one */
    unsigned last_generation; /* the highest number given out */
    struct state_worker *workers;
    size_t worker_count;
    struct config_sources current;   /* the configuration the current generation runs under */
    struct config_sources candidate; /* the one to be tried; none: no reload is under way */
    struct state_connection connections[STATE_CONNECTIONS_MAX];
    size_t connection_count;
    bool again;          /* another reload is due after this one */
    uint64_t asked_usec; /* CLOCK_MONOTONIC: when the reload began */
};

void state_init(struct state *state);
void state_clear(struct state *state);
#define CLEANUP_STATE __attribute__((cleanup(state_clear)))

int state_add_worker(struct state *state, const struct state_worker *worker);

/* Appends the text. Returns 0 or -ENOMEM. */
int state_format(const struct state *state, struct buffer *text);
/*
 * Reads it, checking every field: what comes in is treated as a stranger's. *state is an
 * initialised one. Returns 0, -EPROTONOSUPPORT (another version), -EINVAL or -ENOMEM, with the
 * reason.
 */
int state_parse(struct span text, struct state *state, struct reason *reason);

/* The same to and from a memfd. state_load() reads from the beginning and leaves @fd open. */
int state_save(const struct state *state, int *ret_fd);
int state_load(int fd, struct state *state, struct reason *reason);
