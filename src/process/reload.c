#include "process/reload.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "process/catalog.h"
#include "process/notify.h"
#include "process/state.h"
#include "process/succession.h"

/* How long an outcome waits for the connections to have moved. What takes longer drains on its own.
 */
#define SETTLE_SECONDS 1.0

static void begin(struct supervisor *supervisor);

/* Back to serving, whatever came of the reload; and on with the next, if one was asked for. */
void reload_end(struct supervisor *supervisor)
{
    config_sources_clear(&supervisor->candidate);
    supervisor_set_phase(supervisor, PHASE_SERVING);
    supervisor_tell_ready(supervisor);
    if (list_empty(&supervisor->queue) && !supervisor->again)
        return;
    LIST_EACH (link, &supervisor->queue)
        supervisor_move_asker(
            &supervisor->askers, CONTAINER_OF(link, struct control_connection, link));
    supervisor->again = false;
    begin(supervisor);
}

static void refuse(struct supervisor *supervisor, const char *why)
{
    char text[1200];

    supervisor->board.head->reloads_refused++;
    supervisor->remark = "the last reload was refused, see the log";
    (void)snprintf(text, sizeof text, "Reload refused, generation %u goes on: %s",
        supervisor->board.head->generation, why);
    log_explained(LOG_ERR, CATALOG_RELOAD_REFUSED, "%s", text);
    supervisor_answer_all(&supervisor->askers, 0, text);
    reload_end(supervisor);
}

/* Only for a stop: nobody is told that we are ready again. */
void reload_abandon(struct supervisor *supervisor, const char *why)
{
    preflight_cancel(&supervisor->preflight);
    if (supervisor->trying)
        generation_kill(supervisor->trying);
    config_sources_clear(&supervisor->candidate);
    supervisor_answer_all(&supervisor->askers, 0, why);
}

static void on_preflight_done(void *owner, const char *refusal)
{
    struct supervisor *supervisor = owner;

    if (refusal) {
        refuse(supervisor, refusal);
        return;
    }
    supervisor_break(supervisor, VERDICT_SUCCEED);
}

static int run_preflight(struct supervisor *supervisor, struct reason *reason)
{
    CLEANUP_STATE struct state state;
    const struct config *config = supervisor->serving ? supervisor->serving->config : NULL;
    double timeout = config ? usec_to_seconds(config->start_timeout_usec) : 30;
    char nonce[33];
    int fd;

    preflight_nonce(nonce);
    state_init(&state);
    int r = succession_describe(supervisor, nonce, &state);
    if (r == 0)
        r = state_save(&state, &fd);
    if (r < 0)
        return reason_set(reason, r, "the state cannot be saved: %s", strerror(-r));
    r = preflight_start(&supervisor->preflight, supervisor->loop, supervisor->binary, fd, nonce,
        timeout, on_preflight_done, supervisor, reason);
    fd_close(fd);
    return r;
}

static void begin(struct supervisor *supervisor)
{
    struct reason reason = {""};

    supervisor_set_phase(supervisor, PHASE_PREFLIGHT);
    supervisor->asked_usec = clock_monotonic_usec();
    notify_reloading();
    int r = supervisor->options->read_sources(
        supervisor->options->context, &supervisor->candidate, &reason);
    if (r == 0)
        r = run_preflight(supervisor, &reason);
    if (r < 0)
        refuse(supervisor, reason.text[0] ? reason.text : strerror(-r));
}

void reload_ask(struct supervisor *supervisor, struct control_connection *asker)
{
    switch (supervisor->phase) {
    case PHASE_SERVING:
        if (asker)
            supervisor_move_asker(&supervisor->askers, asker);
        begin(supervisor);
        return;
    case PHASE_STARTING: /* it reads the configuration as it is now, or soon will have */
    case PHASE_PREFLIGHT:
    case PHASE_TRYING:
    case PHASE_SETTLING:
        if (asker)
            supervisor_move_asker(&supervisor->queue, asker);
        else
            supervisor->again = true;
        return;
    case PHASE_LEAVING:
    case PHASE_STOPPING:
        if (asker)
            control_answer(asker, 0, "the server is stopping");
        return;
    }
}

/* ControlSocket= may have changed with the configuration. */
static void replace_control_socket(struct supervisor *supervisor)
{
    char path[PATH_MAX];
    struct address address;
    struct reason reason;
    int fd = supervisor->control.io.fd;

    if (fd < 0 || address_of_socket(fd, &address) < 0 ||
        !control_path(supervisor->options->control, supervisor->serving->config, path) ||
        strcmp(address.local.sun_path, path) == 0)
        return;
    if (supervisor_open_control(supervisor, supervisor->serving->config, &fd, &reason) < 0) {
        log_error("%s; the former one stays", reason.text);
        return;
    }
    if (fd < 0)
        return;
    (void)unlink(address.local.sun_path);
    fd_close(control_release(&supervisor->control));
    ev_io_set(&supervisor->control.io, fd, EV_READ);
    ev_io_start(supervisor->loop, &supervisor->control.io);
}

/* The candidate is what serves from now on; its predecessor retires. */
void reload_commit(struct supervisor *supervisor, struct generation *generation)
{
    struct generation *former = supervisor->serving;

    board_sum(&supervisor->board, &supervisor->before_commit);
    generation_make_current(generation);
    supervisor->serving = generation;
    supervisor->trying = NULL;
    config_sources_clear(&supervisor->current);
    supervisor->current = supervisor->candidate;
    supervisor->candidate = (struct config_sources){0};
    activation_prune(&supervisor->activation, generation->config);
    replace_control_socket(supervisor);
    supervisor->board.head->reloads++;
    supervisor->remark = NULL;
    supervisor->committed_usec = clock_monotonic_usec();
    supervisor_set_phase(supervisor, PHASE_SETTLING);
    supervisor->settling = former;
    ev_timer_set(&supervisor->settle, SETTLE_SECONDS, 0);
    ev_timer_start(supervisor->loop, &supervisor->settle);
    if (former)
        generation_retire(former, generation_drain_usec(former), 0);
    supervisor_tell_ready(supervisor); /* its status tells the two apart only now */
    if (!former)
        reload_settle(supervisor);
}

/* What became of the connections of the generation before. */
static void describe_outcome(struct supervisor *supervisor, char *text, size_t size)
{
    const struct generation *serving = supervisor->serving;
    struct counters now, *before = &supervisor->before_commit;
    uint64_t finishing = 0;

    board_sum(&supervisor->board, &now);
    for (unsigned i = 1; i < BOARD_SLOTS; i++)
        if (supervisor->board.slots[i].state == BOARD_RETIRING)
            finishing += counters_open(&supervisor->board.slots[i].counters);
    (void)snprintf(text, size,
        "Reloaded in %" PRIu64 " ms: generation %u serves with %u worker%s; connections: %" PRIu64
        " moved, %" PRIu64 " still finishing, %" PRIu64 " cut",
        (supervisor->committed_usec - supervisor->asked_usec) / 1000, serving->number,
        serving->wanted, serving->wanted == 1 ? "" : "s",
        counters_moved(&now) - counters_moved(before), finishing,
        now.values[COUNTER_END_CUT] - before->values[COUNTER_END_CUT]);
}

void reload_settle(struct supervisor *supervisor)
{
    char text[256];

    supervisor->settling = NULL;
    ev_timer_stop(supervisor->loop, &supervisor->settle);
    if (supervisor->phase != PHASE_SETTLING || !supervisor->serving)
        return;
    describe_outcome(supervisor, text, sizeof text);
    log_explained(LOG_NOTICE, CATALOG_RELOADED, "%s", text);
    supervisor_answer_all(&supervisor->askers, 1, text);
    reload_end(supervisor);
}

void reload_settle_expired(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    reload_settle(timer->data);
}

void reload_go_on(struct supervisor *supervisor)
{
    struct reason reason = {""};
    int r = supervisor_try_candidate(supervisor, &reason);

    if (r < 0)
        refuse(supervisor, reason.text[0] ? reason.text : strerror(-r));
}

void reload_fail(struct supervisor *supervisor, const char *why)
{
    if (supervisor->trying)
        generation_kill(supervisor->trying);
    supervisor->trying = NULL;
    /* Sockets that only the candidate wanted go with it. */
    if (supervisor->serving && supervisor->serving->config)
        activation_prune(&supervisor->activation, supervisor->serving->config);
    refuse(supervisor, why);
}
