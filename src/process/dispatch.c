#include "process/dispatch.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "observe/report.h"
#include "process/catalog.h"
#include "process/notify.h"
#include "process/pause.h"
#include "process/reload.h"
#include "process/stop.h"

#define STATUS_SECONDS 5.0
#define ADOPTION_SECONDS 10.0
#define EXTEND_SECONDS (usec_to_seconds(STOP_EXTEND_USEC) / 3)

static const int handled_signals[SUPERVISOR_SIGNALS] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};

static void on_status(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    supervisor_tell_status(timer->data);
}

static void on_extend(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)timer;
    (void)events;
    notify_extend(STOP_EXTEND_USEC);
}

/* A hung worker is our business; one that even SIGKILL does not end is systemd's. */
static void on_watchdog(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct supervisor *supervisor = timer->data;
    bool stuck = false;

    (void)loop;
    (void)events;
    LIST_EACH (link, &supervisor->generations)
        stuck |= generation_is_stuck(CONTAINER_OF(link, struct generation, link));
    if (!stuck)
        notify_watchdog();
}

static void on_generation_ready(struct generation *generation)
{
    struct supervisor *supervisor = generation->shared->owner;

    if (supervisor->phase == PHASE_TRYING) {
        reload_commit(supervisor, generation);
        return;
    }
    generation_make_current(generation);
    supervisor->serving = generation;
    supervisor->trying = NULL;
}

static void begin_serving(struct supervisor *supervisor)
{
    const struct generation *generation = supervisor->serving;
    struct counters sums;

    ev_timer_stop(supervisor->loop, &supervisor->adoption);
    board_sum(&supervisor->board, &sums);
    log_explained(LOG_NOTICE, CATALOG_SERVING,
        "Serving: generation %u with %u worker%s; %" PRIu64 " connections taken over",
        generation->number, generation->wanted, generation->wanted == 1 ? "" : "s",
        sums.values[COUNTER_ADOPTED]);
    reload_end(supervisor);
}

/*
 * The first start is over when what a former instance left in the inbox is adopted. When it is
 * empty, one of the workers may still be at its last message: they are asked again.
 */
static void on_generation_serving(struct generation *generation)
{
    struct supervisor *supervisor = generation->shared->owner;

    if (supervisor->phase != PHASE_STARTING)
        return;
    if (!inbox_is_empty(supervisor->inbox.read)) {
        ev_timer_start(supervisor->loop, &supervisor->adoption);
    } else if (!supervisor->emptied) {
        supervisor->emptied = true;
        generation_serve(generation);
    } else {
        begin_serving(supervisor);
    }
}

/* Not for ever, or systemd would end a start that lacks nothing else. */
static void on_adoption_expired(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct supervisor *supervisor = timer->data;

    (void)loop;
    (void)events;
    if (supervisor->phase != PHASE_STARTING || !supervisor->serving)
        return;
    log_warning("Connections that were left for this instance still wait to be taken over "
                "(LimitNOFILE=)");
    begin_serving(supervisor);
}

static void on_generation_failed(struct generation *generation, const char *why)
{
    struct supervisor *supervisor = generation->shared->owner;

    if (supervisor->phase == PHASE_TRYING) {
        reload_fail(supervisor, why);
        return;
    }
    log_error("%s", why);
    generation_kill(generation);
    stop_begin(supervisor, "The workers cannot be started", 1);
}

static void on_generation_gave_up(struct generation *generation)
{
    stop_begin(generation->shared->owner, "Workers keep dying, CrashLimit= is reached", 1);
}

static void on_generation_gone(struct generation *generation)
{
    struct supervisor *supervisor = generation->shared->owner;
    bool settled = supervisor->settling == generation;

    log_info("Generation %u is gone", generation->number);
    if (supervisor->serving == generation)
        supervisor->serving = NULL;
    if (supervisor->trying == generation)
        supervisor->trying = NULL;
    generation_free(generation);
    if (settled)
        reload_settle(supervisor);
    stop_go_on(supervisor);
}

static void close_askers(struct link *askers)
{
    LIST_EACH (link, askers)
        fd_close(control_release_connection(CONTAINER_OF(link, struct control_connection, link)));
}

/* In a forked worker: what is the supervisor's alone is let go of, and its signal handlers end. */
static void let_go(void *owner)
{
    struct supervisor *supervisor = owner;

    for (size_t i = 0; i < SUPERVISOR_SIGNALS; i++)
        ev_signal_stop(supervisor->loop, &supervisor->signals[i]);
    close_askers(&supervisor->askers);
    close_askers(&supervisor->queue);
    close_askers(&supervisor->stop_askers);
    park_destroy(&supervisor->park);
    if (supervisor->preflight.pid > 0)
        fd_close(supervisor->preflight.output);
    LIST_EACH (link, &supervisor->generations)
        LIST_EACH (inner, &CONTAINER_OF(link, struct generation, link)->children)
            fd_close(CONTAINER_OF(inner, struct child, link)->channel);
    control_abandon(&supervisor->control);
    ev_loop_destroy(supervisor->loop);
}

static const struct generation_calls generation_calls = {
    .forked = let_go,
    .ready = on_generation_ready,
    .serving = on_generation_serving,
    .failed = on_generation_failed,
    .gave_up = on_generation_gave_up,
    .gone = on_generation_gone,
};

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct supervisor *supervisor = watcher->data;
    bool stopping = supervisor->phase == PHASE_LEAVING || supervisor->phase == PHASE_STOPPING;

    (void)loop;
    (void)events;
    switch (watcher->signum) {
    case SIGHUP:
        reload_ask(supervisor, NULL);
        return;
    case SIGUSR1:
        LIST_EACH (link, &supervisor->generations)
            generation_reopen_logs(CONTAINER_OF(link, struct generation, link));
        return;
    default:
        if (stopping) {
            stop_at_once(supervisor);
        } else {
            char why[64];
            (void)snprintf(why, sizeof why, "SIG%s", sigabbrev_np(watcher->signum));
            stop_begin(supervisor, why, 0);
        }
    }
}

static void answer_status(
    struct supervisor *supervisor, struct control_connection *asker, bool json)
{
    CLEANUP_BUFFER struct buffer text = {0};
    int r = json ? report_json(&supervisor->board, &text) : report_text(&supervisor->board, &text);
    const char *string = buffer_string(&text);

    control_answer(asker, r == 0 && string, r == 0 && string ? string : "out of memory");
}

/* What follows @command and a space; NULL: it is another request. */
static const char *argument_of(const char *request, const char *command)
{
    size_t length = strlen(command);

    return strncmp(request, command, length) == 0 && request[length] == ' ' ? request + length + 1
                                                                            : NULL;
}

static void on_asked(void *owner, struct control_connection *asker, const char *request)
{
    struct supervisor *supervisor = owner;
    const char *paused = argument_of(request, "pause"), *resumed = argument_of(request, "resume");

    if (strcmp(request, "reload") == 0) {
        reload_ask(supervisor, asker);
    } else if (strcmp(request, "status") == 0 || strcmp(request, "status json") == 0) {
        answer_status(supervisor, asker, request[6] == ' ');
    } else if (paused) {
        pause_begin(supervisor, asker, paused);
    } else if (resumed) {
        pause_end(supervisor, asker, resumed);
    } else if (strcmp(request, "stop") == 0) {
        supervisor_move_asker(&supervisor->stop_askers, asker);
        if (supervisor->phase != PHASE_LEAVING && supervisor->phase != PHASE_STOPPING)
            stop_begin(supervisor, "Asked to stop", 0);
    } else {
        control_answer(asker, 0, "this server does not know that request");
    }
}

static void init_timer(struct supervisor *supervisor, ev_timer *timer,
    void (*callback)(struct ev_loop *, ev_timer *, int), double repeat)
{
    ev_timer_init(timer, callback, repeat, repeat);
    timer->data = supervisor;
}

int dispatch_init(struct supervisor *supervisor, const struct supervisor_options *options)
{
    *supervisor = (struct supervisor){.options = options, .board = {.fd = -1}};
    supervisor->control.io.fd = -1;
    supervisor->asked = on_asked;
    supervisor->inbox = (struct inbox){-1, -1};
    list_init(&supervisor->generations);
    list_init(&supervisor->askers);
    list_init(&supervisor->queue);
    list_init(&supervisor->stop_askers);
    supervisor->loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!supervisor->loop)
        return -ENOMEM;
    supervisor->shared = (struct generation_shared){supervisor->loop, &supervisor->activation,
        &supervisor->inbox, &supervisor->board, &generation_calls, supervisor};
    for (size_t i = 0; i < SUPERVISOR_SIGNALS; i++) {
        ev_signal_init(&supervisor->signals[i], on_signal, handled_signals[i]);
        supervisor->signals[i].data = supervisor;
        ev_signal_start(supervisor->loop, &supervisor->signals[i]);
    }
    init_timer(supervisor, &supervisor->settle, reload_settle_expired, 0);
    init_timer(supervisor, &supervisor->readiness, stop_readiness_over, 0);
    init_timer(supervisor, &supervisor->adoption, on_adoption_expired, 0);
    ev_timer_set(&supervisor->adoption, ADOPTION_SECONDS, 0);
    init_timer(supervisor, &supervisor->pause, pause_expired, 0);
    init_timer(supervisor, &supervisor->extend, on_extend, EXTEND_SECONDS);
    init_timer(supervisor, &supervisor->status, on_status, STATUS_SECONDS);
    /* sd_watchdog_enabled(3): at half of the time. It has to be set up anew by every image. */
    double watchdog = usec_to_seconds(notify_watchdog_usec()) / 2;
    init_timer(supervisor, &supervisor->watchdog, on_watchdog, watchdog);
    if (watchdog > 0) {
        notify_watchdog();
        ev_timer_start(supervisor->loop, &supervisor->watchdog);
    }
    if (getenv("NOTIFY_SOCKET"))
        ev_timer_start(supervisor->loop, &supervisor->status);
    return 0;
}
