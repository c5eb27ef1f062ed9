#pragma once

#include "process/state.h"
#include "process/supervisor.h"

/*
 * A succession: the supervisor becomes the binary on disk, by execve(2) in place, with the same
 * PID. What it was is written down (state.h), its fds stay open, and the next image reads it and
 * goes on.
 */

/* The environment variable that names the fd of the state, for the next image. */
#define SUCCESSION_VARIABLE "BATON_STATE"

/* Writes the supervisor down into an initialised @state, with fds as they are. Returns 0 or -errno.
 */
int succession_describe(struct supervisor *supervisor, const char *nonce, struct state *state);

/*
 * Takes the supervisor apart (it must not be used again) and executes its binary on the state.
 * Returns only when that failed: -errno with the reason, and *ret_state_fd is the state from which
 * succession_resume() goes on in this image, as the next one would have.
 */
int succession_execute(struct supervisor *supervisor, int *ret_state_fd, struct reason *reason);

/*
 * Makes a supervisor, that was initialised, into what the state says. Owns @state_fd. Returns 0, or
 * -errno with the reason: then nothing can go on.
 */
int succession_resume(struct supervisor *supervisor, int state_fd, struct reason *reason);

/*
 * `baton check --state FD`, what a preflight runs: whether this build reads the state and can serve
 * under the configuration in it. Prints the proof on stdout, or why not on stderr. Returns the exit
 * status.
 */
int succession_check(int state_fd);
