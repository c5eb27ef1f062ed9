#pragma once

#include <ev.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/error.h"

/*
 * Before a succession nothing is changed that cannot be undone: the binary on disk is run as a
 * child, in check mode, on the state that it would take over. It has to read the state and the
 * configuration in it, and prove that it did by the nonce: a program that merely exits with 0 is
 * not Baton.
 */
struct preflight {
    struct ev_loop *loop;
    pid_t pid; /* 0: none is running */
    int output;
    char nonce[33];
    struct buffer said;
    bool timed_out;
    ev_child exit;
    ev_io io;
    ev_timer timer;
    /* @refusal: NULL when the binary takes over; else why not, for an administrator. */
    void (*done)(void *owner, const char *refusal);
    void *owner;
};

#define PREFLIGHT_FD 3 /* where the child finds the state */
#define PREFLIGHT_WORD                                                                             \
    "baton-preflight" /* it prints this word, a space, the nonce and a newline                     \
                       */

/* A fresh random nonce (getrandom(2)), NUL-terminated. */
void preflight_nonce(char ret[static 33]);

/*
 * Runs `BINARY check --state 3` with @state_fd as its fd 3; it has @timeout seconds (0: no limit).
 * Returns 0, and preflight->done is called later; or -errno with the reason, and it is not.
 */
int preflight_start(struct preflight *preflight, struct ev_loop *loop, const char *binary,
    int state_fd, const char *nonce, double timeout, void (*done)(void *owner, const char *refusal),
    void *owner, struct reason *reason);
/* Kills and forgets a running one; done is not called. */
void preflight_cancel(struct preflight *preflight);
