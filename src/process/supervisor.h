#pragma once

#include <ev.h>
#include <stdbool.h>

#include "base/error.h"
#include "config/source.h"
#include "observe/board.h"
#include "process/activation.h"
#include "process/control.h"
#include "process/generation.h"
#include "process/park.h"
#include "process/preflight.h"

/*
 * The supervisor: holds the sockets, keeps a generation of workers running, and lets go of itself
 * for the binary on disk at a reload. It never reads a client's byte.
 *
 * What it does at which event says dispatch.c; how it does it, the files that are named for it:
 * reload.c, stop.c, succession.c. Here is what they share.
 */

enum phase {
    PHASE_STARTING, /* the first generation is starting */
    PHASE_SERVING,
    PHASE_PREFLIGHT, /* a reload: the binary on disk checks whether it can take over */
    PHASE_TRYING,    /* a reload, in the new image: the candidate generation is starting */
    PHASE_SETTLING,  /* a reload: the former generation is moving its connections */
    PHASE_LEAVING,   /* a stop: /readyz says 503 and ReadinessDelay= runs */
    PHASE_STOPPING,  /* a stop: generations drain */
};

/* What the supervisor's loop ended for. */
enum verdict {
    VERDICT_EXIT,
    VERDICT_SUCCEED, /* execute the binary on disk on the state */
};

struct supervisor_options {
    char **arguments;    /* argv: a succession repeats it */
    const char *binary;  /* absolute path that a succession executes */
    const char *control; /* path of the control socket; NULL: by configuration, or the default */
    /* Reads the configuration anew. As config_sources_read(). */
    int (*read_sources)(const void *context, struct config_sources *ret, struct reason *reason);
    const void *context;
};

enum { SUPERVISOR_SIGNALS = 5 };

struct supervisor {
    const struct supervisor_options *options;
    struct ev_loop *loop;
    enum phase phase;
    enum verdict verdict;
    int exit_status;

    char *binary;
    struct activation activation;
    struct board board;
    struct inbox inbox;
    struct park park; /* whether what lies in the inbox waits for the next instance */
    struct control control;
    void (*asked)(void *owner, struct control_connection *asker, const char *request);
    struct generation_shared shared;
    struct config_sources current;   /* what the serving generation runs under */
    struct config_sources candidate; /* what a start or a reload tries */
    struct link generations;         /* all that have workers, oldest first */
    struct generation *serving;      /* the CURRENT one; NULL: none yet */
    struct generation *trying;       /* the STARTING one */
    struct generation *settling;     /* the one that served before the reload under way */
    bool emptied;                    /* the first start: the workers have emptied the inbox */
    unsigned last_generation;        /* the highest number given out */

    struct preflight preflight;
    struct link askers;      /* control connections that wait for the reload under way */
    struct link queue;       /* and for the one after it */
    bool again;              /* SIGHUP came during a reload */
    uint64_t asked_usec;     /* CLOCK_MONOTONIC: when the reload under way began */
    uint64_t committed_usec; /* and when its candidate became what serves */
    struct counters before_commit;

    struct link stop_askers; /* they wait for our end */
    unsigned stop_flags;     /* enum message_flags: how generations are told to end */
    struct counters before_stop;

    ev_signal signals[SUPERVISOR_SIGNALS];
    ev_timer settle, readiness, adoption, extend, status, watchdog, pause;
    const char *remark; /* part of the status until a reload succeeds; a literal, or NULL */
    char *status_told;
};

/*
 * Stops watching and frees. What is released elsewhere first: the control socket, the generations,
 * the activation, the board.
 */
void supervisor_deinit(struct supervisor *supervisor);

/* The one place where the phase changes. */
void supervisor_set_phase(struct supervisor *supervisor, enum phase phase);
void supervisor_break(struct supervisor *supervisor, enum verdict verdict);

/* READY=1 with a status line. */
void supervisor_tell_ready(struct supervisor *supervisor);
void supervisor_tell_status(struct supervisor *supervisor);

/* Adds a generation without workers. Takes @config. NULL when memory ran out. */
struct generation *supervisor_add_generation(
    struct supervisor *supervisor, unsigned number, struct config *config);
/* Parses the candidate, binds its addresses, and starts the next generation under it. 0 or -errno.
 */
int supervisor_try_candidate(struct supervisor *supervisor, struct reason *reason);
/* As config_parse(), with all problems in the reason. */
int supervisor_parse(
    const struct config_sources *sources, struct config **ret, struct reason *reason);
/*
 * The control socket under that configuration; *ret is -1 where there is none and none was asked
 * for. Returns 0, or -errno with the reason.
 */
int supervisor_open_control(
    struct supervisor *supervisor, const struct config *config, int *ret, struct reason *reason);
void supervisor_answer_all(struct link *askers, int ok, const char *text);
void supervisor_move_asker(struct link *list, struct control_connection *asker);
