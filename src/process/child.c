#include "process/child.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "connection/record.h"
#include "process/catalog.h"

#define ABORT_GRACE                                                                                \
    1.0 /* seconds from SIGABRT to SIGKILL: a hung system call may only take the latter */
#define RETIRE_GRACE 5.0 /* a worker keeps its own deadline; this is for one that does not */

static void wait_patiently(struct child *child, double seconds)
{
    ev_timer_stop(child->loop, &child->patience);
    if (seconds <= 0)
        return;
    ev_timer_set(&child->patience, seconds, 0);
    ev_timer_start(child->loop, &child->patience);
}

static void abort_child(struct child *child, const char *why)
{
    if (child->hung) {
        child_kill(child, SIGKILL);
        return;
    }
    log_explained(LOG_ERR, CATALOG_WORKER_ABORTED,
        "Worker %u of generation %u (PID %d) %s: aborted", child->number, child->generation,
        (int)child->pid, why);
    if (child->failure[0] == '\0')
        (void)snprintf(child->failure, sizeof child->failure, "it %s", why);
    child->hung = true;
    child_kill(child, SIGABRT);
    child_kill(child, SIGCONT); /* one that was stopped takes it now */
    wait_patiently(child, ABORT_GRACE);
}

static void ping(struct child *child)
{
    struct message message = {.kind = MESSAGE_PING, .value = ++child->pings};

    (void)channel_send(child->channel, &message); /* a full channel is an unanswered ping */
    wait_patiently(child, child->timeout);
}

static void on_patience_end(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct child *child = timer->data;
    double left = child->retired_by - clock_monotonic_seconds();

    (void)loop;
    (void)events;
    if (child->hung)
        abort_child(child, "");
    else if (child->state == CHILD_STARTING)
        abort_child(child, "did not get ready within StartTimeout=");
    else if (child->state == CHILD_RETIRING && left <= 0)
        abort_child(child, "outstayed its DrainTimeout=");
    else if (child->pongs < child->pings)
        abort_child(child, "did not answer within WorkerTimeout=");
    else if (child->timeout > 0)
        ping(child);
    else
        wait_patiently(child, left); /* the loop's time is a little behind ours */
}

static void on_pong(struct child *child, uint64_t value)
{
    child->pongs = value;
    if (child->pongs == child->pings && !child->hung && child->timeout > 0)
        wait_patiently(child, child->timeout / 2); /* until the next one */
}

static void on_message(struct child *child, const struct message *message)
{
    switch (message->kind) {
    case MESSAGE_READY:
        if (child->state != CHILD_STARTING || child->hung)
            return;
        child_assume_ready(child);
        child->calls->ready(child);
        return;
    case MESSAGE_SERVING:
        if (child->state == CHILD_READY)
            child->state = CHILD_SERVING;
        if (child->state == CHILD_SERVING)
            child->calls->serving(child);
        return;
    case MESSAGE_PONG:
        on_pong(child, message->value);
        return;
    case MESSAGE_FAILED:
        (void)snprintf(child->failure, sizeof child->failure, "%s", message->text);
        return;
    }
}

static void on_channel(struct ev_loop *loop, ev_io *io, int events)
{
    struct child *child = io->data;
    struct message message;

    (void)events;
    int r = channel_receive(io->fd, &message);
    if (r == CHANNEL_MESSAGE) {
        on_message(child, &message); /* one at a time: it may have freed the child */
    } else if (r != CHANNEL_EMPTY) {
        ev_io_stop(loop, io); /* it is about to exit; SIGCHLD tells */
        if (r < 0)
            abort_child(child, "sent what is no message");
    }
}

static void on_reaped(struct ev_loop *loop, ev_child *watcher, int events)
{
    struct child *child = watcher->data;
    struct message message;

    (void)events;
    ev_child_stop(loop, watcher);
    /* Its last words may still lie in the channel. */
    while (channel_receive(child->channel, &message) == CHANNEL_MESSAGE)
        if (message.kind == MESSAGE_FAILED)
            on_message(child, &message);
    child->calls->gone(child, watcher->rstatus);
}

struct child *child_new(struct ev_loop *loop, const struct child_identity *identity,
    const struct child_calls *calls, void *owner, double start_timeout, double ping_timeout)
{
    struct child *child = calloc(1, sizeof *child);

    if (!child)
        return NULL;
    child->loop = loop;
    child->calls = calls;
    child->owner = owner;
    child->generation = identity->generation;
    child->number = identity->number;
    child->slot = identity->slot;
    child->pid = identity->pid;
    child->channel = identity->channel;
    child->started = clock_monotonic_seconds();
    child->timeout = ping_timeout;
    list_init(&child->link);
    ev_io_init(&child->io, on_channel, child->channel, EV_READ);
    ev_child_init(&child->exit, on_reaped, child->pid, 0);
    ev_init(&child->patience, on_patience_end);
    child->io.data = child->exit.data = child->patience.data = child;
    ev_io_start(loop, &child->io);
    ev_child_start(loop, &child->exit);
    wait_patiently(child, start_timeout);
    return child;
}

void child_assume_ready(struct child *child)
{
    child->state = CHILD_READY;
    wait_patiently(child, child->timeout / 2);
}

void child_assume_retiring(struct child *child, double seconds)
{
    double until = seconds + RETIRE_GRACE, ping_after = child->timeout / 2;

    child->state = CHILD_RETIRING;
    child->retired_by = clock_monotonic_seconds() + until;
    wait_patiently(child, ping_after > 0 && ping_after < until ? ping_after : until);
}

void child_serve(struct child *child)
{
    struct message message = {.kind = MESSAGE_SERVE};

    if (child->state == CHILD_SERVING)
        child->state = CHILD_READY;               /* until it answers */
    (void)channel_send(child->channel, &message); /* one that cannot be told is hung or gone */
}

void child_retire(struct child *child, uint64_t usec, unsigned flags)
{
    struct message message = {.kind = MESSAGE_RETIRE, .value = usec, .flags = flags};

    /* Who follows was forked by this image, so it reads what this build reads. */
    (void)snprintf(
        message.text, sizeof message.text, "%d %d", RECORD_VERSION_OLDEST, RECORD_VERSION);
    child_assume_retiring(child, usec_to_seconds(usec));
    (void)channel_send(child->channel, &message); /* as above */
}

void child_reopen_logs(struct child *child)
{
    struct message message = {.kind = MESSAGE_REOPEN};

    (void)channel_send(child->channel, &message); /* as above */
}

void child_tell_pauses(struct child *child)
{
    struct message message = {.kind = MESSAGE_PAUSES};

    (void)channel_send(child->channel, &message); /* as above */
}

void child_kill(struct child *child, int signal)
{
    (void)kill(child->pid, signal); /* not reaped yet, so the PID is still its own */
}

int child_release(struct child *child)
{
    int channel = child->channel;

    ev_io_stop(child->loop, &child->io);
    ev_child_stop(child->loop, &child->exit);
    ev_timer_stop(child->loop, &child->patience);
    list_remove(&child->link);
    free(child);
    return channel;
}

void child_free(struct child *child)
{
    fd_close(child_release(child));
}
