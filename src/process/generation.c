#include "process/generation.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "process/catalog.h"
#include "process/cpus.h"
#include "process/worker.h"

#define WORKERS_MAX 256 /* as Workers= allows: several generations share BOARD_SLOTS */
#define LONG_LIFE 10.0  /* seconds: a worker that lived so long did not die of its start */
#define RESPAWN_AT_ONCE 2
#define RESPAWN_FIRST 0.1
#define RESPAWN_LONGEST 5.0

static const char *const state_names[] = {
    [GENERATION_STARTING] = "starting",
    [GENERATION_CURRENT] = "current",
    [GENERATION_RETIRING] = "retiring",
    [GENERATION_GONE] = "gone",
};

/* The one place where a generation changes its state. */
static void set_state(struct generation *generation, enum generation_state state)
{
    log_debug("Generation %u: %s -> %s", generation->number, state_names[generation->state],
        state_names[state]);
    generation->state = state;
}

static double seconds_of(uint64_t usec)
{
    return usec == USEC_INFINITY ? 0 : usec_to_seconds(usec);
}

static void on_child_ready(struct child *child)
{
    struct generation *generation = child->owner;

    generation->ready++;
    if (generation->state == GENERATION_CURRENT) {
        log_info("Worker %u of generation %u (PID %d) replaces the one that died", child->number,
            generation->number, (int)child->pid);
        generation->shared->board->slots[child->slot].state = BOARD_CURRENT;
        child_serve(child);
    }
    if (generation->state == GENERATION_STARTING && generation->ready == generation->wanted)
        generation->shared->calls->ready(generation);
}

static void on_child_serving(struct child *child)
{
    struct generation *generation = child->owner;
    unsigned serving = 0;

    LIST_EACH (link, &generation->children)
        serving += CONTAINER_OF(link, struct child, link)->state == CHILD_SERVING;
    if (generation->state == GENERATION_CURRENT && serving == generation->wanted)
        generation->shared->calls->serving(generation);
}

/* What waitpid(2) says, for people. */
static void describe_exit(const struct child *child, int status, char *text, size_t size)
{
    if (child->failure[0])
        (void)snprintf(text, size, "%s", child->failure);
    else if (WIFSIGNALED(status))
        (void)snprintf(text, size, "it was killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else
        (void)snprintf(text, size, "it exited with status %d", WEXITSTATUS(status));
}

static void schedule_respawn(struct generation *generation)
{
    double delay = 0;

    if (generation->crashes > RESPAWN_AT_ONCE) {
        unsigned doublings = generation->crashes - RESPAWN_AT_ONCE - 1;
        delay = doublings > 6 ? RESPAWN_LONGEST : RESPAWN_FIRST * (double)(1u << doublings);
        if (delay > RESPAWN_LONGEST)
            delay = RESPAWN_LONGEST;
    }
    if (ev_is_active(&generation->respawn))
        return;
    ev_timer_set(&generation->respawn, delay, 0);
    ev_timer_start(generation->shared->loop, &generation->respawn);
}

static void on_crash(struct generation *generation, double lived)
{
    generation->shared->board->head->worker_crashes++;
    generation->crashes = lived >= LONG_LIFE ? 1 : generation->crashes + 1;
    if (!generation->config) {
        log_error("Generation %u cannot replace it: this build does not read its configuration",
            generation->number);
        if (generation->alive == 0)
            generation->shared->calls->gave_up(generation);
    } else if (generation->crashes > generation->config->crash_limit) {
        generation->shared->calls->gave_up(generation);
    } else {
        schedule_respawn(generation);
    }
}

static void check_gone(struct generation *generation)
{
    if (generation->alive > 0)
        return;
    set_state(generation, GENERATION_GONE);
    generation->shared->calls->gone(generation);
}

static void on_child_gone(struct child *child, int status)
{
    struct generation *generation = child->owner;
    bool was_ready = child->state != CHILD_STARTING;
    double lived = clock_monotonic_seconds() - child->started;
    char why[512], text[600];

    describe_exit(child, status, why, sizeof why);
    (void)snprintf(text, sizeof text, "Worker %u of generation %u (PID %d) died: %s", child->number,
        generation->number, (int)child->pid, why);
    board_release_slot(generation->shared->board, child->slot);
    child_free(child);
    generation->alive--;
    generation->ready -= was_ready;
    switch (generation->state) {
    case GENERATION_STARTING:
        generation->shared->calls->failed(generation, text);
        return;
    case GENERATION_CURRENT:
        log_explained(LOG_ERR, CATALOG_WORKER_DIED, "%s", text);
        on_crash(generation, lived);
        return;
    case GENERATION_RETIRING:
        if (status != 0)
            log_warning("%s", text);
        check_gone(generation);
        return;
    case GENERATION_GONE:
        return;
    }
}

static const struct child_calls child_calls = {on_child_ready, on_child_serving, on_child_gone};

static unsigned free_number(const struct generation *generation)
{
    for (unsigned number = 1;; number++) {
        bool taken = false;
        LIST_EACH (link, (struct link *)&generation->children)
            taken |= CONTAINER_OF(link, struct child, link)->number == number;
        if (!taken)
            return number;
    }
}

static _Noreturn void be_worker(
    struct generation *generation, unsigned number, unsigned slot, int channel)
{
    struct worker_setup setup = {
        .generation = generation->number,
        .number = number,
        .channel = channel,
        .counters = &generation->shared->board->slots[slot].counters,
        .board = generation->shared->board,
        .slot = slot,
        .count = generation->wanted,
        .config = generation->config,
        .activation = generation->shared->activation,
        .inbox = generation->shared->inbox,
    };

    generation->shared->calls->forked(generation->shared->owner);
    _exit(worker_main(&setup));
}

/* Forks with all signals blocked, so that none reaches the child while it has our handlers. */
static pid_t fork_quietly(sigset_t *former)
{
    sigset_t all;

    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, former);
    pid_t pid = fork();
    if (pid != 0)
        (void)sigprocmask(SIG_SETMASK, former, NULL);
    return pid;
}

static int watch(
    struct generation *generation, const struct child_identity *identity, struct child **ret)
{
    const struct config *config = generation->config;
    struct child *child = child_new(generation->shared->loop, identity, &child_calls, generation,
        config ? seconds_of(config->start_timeout_usec) : 0,
        config ? seconds_of(config->worker_timeout_usec) : 0);

    if (!child)
        return -ENOMEM;
    list_append(&generation->children, &child->link);
    generation->alive++;
    *ret = child;
    return 0;
}

static int spawn(struct generation *generation)
{
    unsigned number = free_number(generation), slot = board_take_slot(generation->shared->board);
    struct child *child;
    sigset_t former;
    int channel[2];

    if (slot == 0)
        return -EAGAIN; /* BOARD_SLOTS workers are alive: retiring ones will go */
    int r = channel_open(channel);
    if (r < 0) {
        board_release_slot(generation->shared->board, slot);
        return r;
    }
    pid_t pid = fork_quietly(&former);
    if (pid == 0) {
        fd_close(channel[0]);
        be_worker(generation, number, slot, channel[1]);
    }
    r = pid < 0 ? -errno : 0;
    fd_close(channel[1]);
    struct child_identity identity = {generation->number, number, slot, pid, channel[0]};
    if (r == 0)
        r = watch(generation, &identity, &child);
    if (r < 0) {
        if (pid > 0)
            (void)kill(pid, SIGKILL); /* libev reaps it */
        fd_close(channel[0]);
        board_release_slot(generation->shared->board, slot);
        return r;
    }
    generation->shared->board->slots[slot].pid = pid;
    generation->shared->board->slots[slot].generation = generation->number;
    generation->shared->board->slots[slot].worker = number;
    return 0;
}

static void respawn(struct generation *generation)
{
    char why[128];
    int r = 0;

    while (generation->alive < generation->wanted && r == 0)
        r = spawn(generation);
    if (r == 0)
        return;
    (void)snprintf(why, sizeof why, "a worker cannot be started: %s", strerror(-r));
    if (generation->state == GENERATION_STARTING) {
        generation->shared->calls->failed(generation, why);
        return;
    }
    log_error("Generation %u: %s", generation->number, why);
    on_crash(generation, 0);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct generation *generation = timer->data;

    (void)loop;
    (void)events;
    if (generation->state == GENERATION_RETIRING)
        check_gone(generation);
    else
        respawn(generation);
}

static unsigned workers_by_cpus(void)
{
    unsigned cpus = cpus_usable();

    return cpus < WORKERS_MAX ? cpus : WORKERS_MAX;
}

struct generation *generation_new(
    const struct generation_shared *shared, unsigned number, struct config *config)
{
    struct generation *generation = calloc(1, sizeof *generation);

    if (!generation)
        return NULL;
    generation->shared = shared;
    generation->number = number;
    generation->config = config;
    generation->deadline_usec = USEC_INFINITY;
    if (config)
        generation->wanted = config->workers ? config->workers : workers_by_cpus();
    list_init(&generation->link);
    list_init(&generation->children);
    ev_timer_init(&generation->respawn, on_timer, 0, 0);
    generation->respawn.data = generation;
    return generation;
}

void generation_free(struct generation *generation)
{
    if (!generation)
        return;
    LIST_EACH (link, &generation->children)
        child_free(CONTAINER_OF(link, struct child, link));
    ev_timer_stop(generation->shared->loop, &generation->respawn);
    list_remove(&generation->link);
    config_free(generation->config);
    free(generation);
}

void generation_start(struct generation *generation)
{
    ev_timer_set(&generation->respawn, 0, 0);
    ev_timer_start(generation->shared->loop, &generation->respawn);
}

int generation_adopt(
    struct generation *generation, const struct child_identity *identity, bool retiring)
{
    struct child *child;
    int r = watch(generation, identity, &child);

    if (r < 0)
        return r;
    generation->ready++;
    child_assume_ready(child);
    if (retiring) {
        uint64_t now = clock_monotonic_usec(), deadline = generation->deadline_usec;
        if (generation->state != GENERATION_RETIRING)
            set_state(generation, GENERATION_RETIRING);
        child_assume_retiring(child, deadline > now ? usec_to_seconds(deadline - now) : 0);
    }
    return 0;
}

static void mark(struct generation *generation, enum board_state state)
{
    LIST_EACH (link, &generation->children)
        generation->shared->board->slots[CONTAINER_OF(link, struct child, link)->slot].state =
            state;
}

void generation_serve(struct generation *generation)
{
    LIST_EACH (link, &generation->children)
        child_serve(CONTAINER_OF(link, struct child, link));
}

void generation_make_current(struct generation *generation)
{
    set_state(generation, GENERATION_CURRENT);
    mark(generation, BOARD_CURRENT);
    generation_serve(generation);
    generation->shared->board->head->generation = generation->number;
    log_identify("supervisor", generation->number, 0);
    if (generation->alive < generation->wanted) /* one died while another image was in charge */
        schedule_respawn(generation);
}

/* One without a worker is gone at once, but told like any other: by an event. */
static void begin_retirement(struct generation *generation)
{
    ev_timer_stop(generation->shared->loop, &generation->respawn);
    if (generation->state != GENERATION_RETIRING)
        set_state(generation, GENERATION_RETIRING);
    mark(generation, BOARD_RETIRING);
    if (generation->alive == 0) {
        ev_timer_set(&generation->respawn, 0, 0);
        ev_timer_start(generation->shared->loop, &generation->respawn);
    }
}

void generation_retire(struct generation *generation, uint64_t usec, unsigned flags)
{
    uint64_t now = clock_monotonic_usec();

    begin_retirement(generation);
    generation->deadline_usec = usec > USEC_INFINITY - now ? USEC_INFINITY : now + usec;
    LIST_EACH (link, &generation->children)
        child_retire(CONTAINER_OF(link, struct child, link), usec, flags);
}

void generation_kill(struct generation *generation)
{
    begin_retirement(generation);
    LIST_EACH (link, &generation->children)
        child_kill(CONTAINER_OF(link, struct child, link), SIGKILL);
}

void generation_reopen_logs(struct generation *generation)
{
    LIST_EACH (link, &generation->children)
        child_reopen_logs(CONTAINER_OF(link, struct child, link));
}

void generation_tell_pauses(struct generation *generation)
{
    LIST_EACH (link, &generation->children)
        child_tell_pauses(CONTAINER_OF(link, struct child, link));
}

bool generation_is_stuck(const struct generation *generation)
{
    bool stuck = false;

    LIST_EACH (link, (struct link *)&generation->children)
        stuck |= CONTAINER_OF(link, struct child, link)->hung;
    return stuck;
}

uint64_t generation_drain_usec(const struct generation *generation)
{
    return generation->config ? generation->config->drain_timeout_usec : 25 * USEC_PER_SEC;
}
