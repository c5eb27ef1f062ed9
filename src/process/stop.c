#include "process/stop.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "process/catalog.h"
#include "process/job.h"
#include "process/notify.h"
#include "process/reload.h"

/* Some went twice: a worker that was not told yet adopts what another one has parked. */
static uint64_t count_parked(const struct counters *now, const struct counters *before)
{
    uint64_t moved = counters_moved(now) - counters_moved(before);
    uint64_t adopted = now->values[COUNTER_ADOPTED] - before->values[COUNTER_ADOPTED];

    return moved > adopted ? moved - adopted : 0;
}

static void finish_stop(struct supervisor *supervisor)
{
    struct counters now, *before = &supervisor->before_stop;

    board_sum(&supervisor->board, &now);
    uint64_t cut = now.values[COUNTER_END_CUT] + now.values[COUNTER_END_CRASHED] -
                   before->values[COUNTER_END_CUT] - before->values[COUNTER_END_CRASHED];
    uint64_t idle = now.values[COUNTER_END_STOPPED] - before->values[COUNTER_END_STOPPED];
    uint64_t all = counters_ended(&now) - counters_ended(before);
    log_explained(LOG_NOTICE, CATALOG_STOPPED,
        "Stopped: %" PRIu64 " requests served on %" PRIu64 " connections; at the end %" PRIu64
        " connections finished, %" PRIu64 " idle closed, %" PRIu64 " cut, %" PRIu64 " parked",
        now.values[COUNTER_REQUESTS], now.values[COUNTER_ACCEPTED], all - idle - cut, idle, cut,
        supervisor->stop_flags & MESSAGE_PARK ? count_parked(&now, before) : 0);
    supervisor_break(supervisor, VERDICT_EXIT);
}

static void end_all(
    struct supervisor *supervisor, void (*end)(struct supervisor *, struct generation *))
{
    LIST_EACH (link, &supervisor->generations)
        end(supervisor, CONTAINER_OF(link, struct generation, link));
}

static void stop_generation(struct supervisor *supervisor, struct generation *generation)
{
    generation_retire(generation, generation_drain_usec(generation), supervisor->stop_flags);
}

static void kill_generation(struct supervisor *supervisor, struct generation *generation)
{
    (void)supervisor;
    generation_kill(generation);
}

static void drain_for_stop(struct supervisor *supervisor)
{
    ev_timer_stop(supervisor->loop, &supervisor->readiness); /* workers may have given up first */
    supervisor_set_phase(supervisor, PHASE_STOPPING);
    notify_stopping("Stopping: finishing the requests received");
    /* Where a next instance finds them, connections wait for it in the inbox. */
    supervisor->stop_flags = MESSAGE_STOP;
    if (supervisor->board.head->parking && job_keeps_store())
        supervisor->stop_flags |= MESSAGE_PARK;
    board_sum(&supervisor->board, &supervisor->before_stop);
    if (!list_empty(&supervisor->generations))
        end_all(supervisor, stop_generation);
    else
        finish_stop(supervisor);
}

void stop_readiness_over(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    drain_for_stop(timer->data);
}

void stop_begin(struct supervisor *supervisor, const char *why, int exit_status)
{
    const struct config *config = supervisor->serving ? supervisor->serving->config : NULL;
    double delay = config ? usec_to_seconds(config->readiness_delay_usec) : 0;

    supervisor->board.head->stopping = 1; /* before it is said: /readyz is asked then */
    log_notice("%s: stopping", why);
    supervisor->exit_status = exit_status;
    if (supervisor->phase == PHASE_SETTLING)
        reload_settle(supervisor);
    if (supervisor->phase == PHASE_PREFLIGHT || supervisor->phase == PHASE_TRYING)
        reload_abandon(supervisor, "the server is stopping");
    supervisor_answer_all(&supervisor->queue, 0, "the server is stopping");
    supervisor->again = false;
    supervisor_set_phase(supervisor, PHASE_LEAVING);
    notify_extend(STOP_EXTEND_USEC);
    ev_timer_again(supervisor->loop, &supervisor->extend);
    if (delay > 0 && exit_status == 0) {
        supervisor_tell_status(supervisor);
        ev_timer_set(&supervisor->readiness, delay, 0);
        ev_timer_start(supervisor->loop, &supervisor->readiness);
    } else {
        drain_for_stop(supervisor);
    }
}

void stop_at_once(struct supervisor *supervisor)
{
    log_warning("A second signal to stop: ending at once");
    supervisor->exit_status = 1;
    if (supervisor->phase != PHASE_STOPPING)
        drain_for_stop(supervisor);
    end_all(supervisor, kill_generation);
}

void stop_go_on(struct supervisor *supervisor)
{
    if (supervisor->phase == PHASE_STOPPING && list_empty(&supervisor->generations))
        finish_stop(supervisor);
}
