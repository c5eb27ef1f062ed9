#include "process/serve.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/fd.h"
#include "base/log.h"
#include "process/catalog.h"
#include "process/dispatch.h"
#include "process/notify.h"
#include "process/pause.h"
#include "process/reload.h"
#include "process/stop.h"
#include "process/succession.h"

static void say_where(const struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->activation.count; i++) {
        const struct activation_socket *socket = &supervisor->activation.sockets[i];
        char text[ADDRESS_TEXT_MAX] = "?";
        struct address address;
        if (address_of_socket(socket->fd, &address) == 0)
            (void)address_format(&address, text);
        log_info(
            "Listening on %s (%s%s)", text, socket->name, socket->ours ? "" : ", passed to us");
    }
}

static void on_park_found(void *owner, bool kept)
{
    struct supervisor *supervisor = owner;

    supervisor->board.head->parking = kept;
    if (!kept)
        log_explained(LOG_INFO, CATALOG_NOTHING_KEPT,
            "systemd keeps no fds for this service (FileDescriptorStoreMax=): connections do not "
            "outlive a restart");
}

/* The inbox that systemd kept for us, with what lies in it; or a new one, for it to keep. */
static int take_inbox(struct supervisor *supervisor)
{
    struct activation_stored *stored = &supervisor->activation.stored;

    supervisor->inbox = (struct inbox){stored->inbox_read, stored->inbox_write};
    *stored = (struct activation_stored){-1, -1};
    if (supervisor->inbox.read >= 0 && supervisor->inbox.write >= 0) {
        supervisor->board.head->parking = 1;
        return 0;
    }
    inbox_close(&supervisor->inbox); /* half of one is none */
    int r = inbox_open(&supervisor->inbox);
    if (r == 0)
        park_begin(
            &supervisor->park, supervisor->loop, &supervisor->inbox, on_park_found, supervisor);
    return r;
}

static int start_first(struct supervisor *supervisor, struct reason *reason)
{
    const struct supervisor_options *options = supervisor->options;
    CLEANUP_CONFIG struct config *config = NULL;
    int control;

    supervisor->binary = strdup(options->binary);
    int r = supervisor->binary ? activation_take(&supervisor->activation, "", reason) : -ENOMEM;
    if (r == 0)
        r = options->read_sources(options->context, &supervisor->candidate, reason);
    if (r == 0)
        r = supervisor_parse(&supervisor->candidate, &config, reason);
    if (r == 0)
        r = board_create(&supervisor->board);
    if (r == 0)
        r = take_inbox(supervisor);
    if (r == 0)
        r = supervisor_open_control(supervisor, config, &control, reason);
    if (r < 0)
        return r;
    control_init(&supervisor->control, supervisor->loop, control, supervisor->asked, supervisor);
    r = supervisor_try_candidate(supervisor, reason);
    if (r < 0)
        return r;
    supervisor->current = supervisor->candidate;
    supervisor->candidate = (struct config_sources){0};
    say_where(supervisor);
    return 0;
}

/* Released in the reverse order of acquisition. */
static void release(struct supervisor *supervisor)
{
    supervisor_answer_all(&supervisor->stop_askers, 1, "Stopped");
    LIST_EACH (link, &supervisor->generations)
        generation_free(CONTAINER_OF(link, struct generation, link));
    if (supervisor->control.loop)
        control_destroy(&supervisor->control);
    inbox_close(&supervisor->inbox);
    board_close(&supervisor->board);
    activation_close(&supervisor->activation);
    supervisor_deinit(supervisor);
}

/* Which image left us its state: none, or the one before this. */
static int inherited_state(void)
{
    const char *number = getenv(SUCCESSION_VARIABLE);
    int fd = number ? atoi(number) : -1;

    (void)unsetenv(SUCCESSION_VARIABLE); /* it is not for the children */
    return fd > 2 && fd_set_cloexec(fd, true) == 0 ? fd : -1;
}

/* @failure: why the succession failed that was tried; "": it did not, or none was. */
static int begin(
    struct supervisor *supervisor, int state_fd, const char *failure, struct reason *reason)
{
    if (state_fd < 0)
        return start_first(supervisor, reason);
    int r = succession_resume(supervisor, state_fd, reason);
    if (r < 0)
        return r;
    pause_watch(supervisor);
    supervisor_set_phase(supervisor, PHASE_TRYING);
    if (failure[0])
        reload_fail(supervisor, failure);
    else
        reload_go_on(supervisor);
    return 0;
}

static void unblock_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Serves until the end. Before a succession no signal is lost: what has arrived is acted on, which
 * may turn it into a stop; what arrives later waits, blocked, for the next image.
 */
static enum verdict run(struct supervisor *supervisor)
{
    sigset_t all;

    sigfillset(&all);
    for (;;) {
        ev_run(supervisor->loop, 0);
        if (supervisor->verdict == VERDICT_EXIT)
            return VERDICT_EXIT;
        (void)sigprocmask(SIG_SETMASK, &all, NULL);
        ev_run(supervisor->loop, EVRUN_NOWAIT);
        if (supervisor->phase == PHASE_PREFLIGHT)
            return VERDICT_SUCCEED;
        unblock_signals();
        if (supervisor->verdict == VERDICT_EXIT)
            return VERDICT_EXIT;
    }
}

/* As many fds as the hard limit allows: a soft limit of 1024 is for programs that use select(2). */
static void raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* then it stays as it is */
    }
}

int serve_main(const struct supervisor_options *options)
{
    static struct supervisor supervisor; /* workers are forked from it */
    struct reason failure = {""};
    int state_fd = inherited_state();

    (void)signal(SIGPIPE, SIG_IGN);
    raise_fd_limit();
    for (;;) {
        struct reason reason = {""};
        int r = dispatch_init(&supervisor, options);
        unblock_signals();
        if (r == 0)
            r = begin(&supervisor, state_fd, failure.text, &reason);
        if (r < 0) {
            log_explained(LOG_ERR, CATALOG_CANNOT_START, "Cannot start: %s",
                reason.text[0] ? reason.text : strerror(-r));
            notify_status(reason.text);
            release(&supervisor);
            return 1;
        }
        if (run(&supervisor) == VERDICT_EXIT)
            break;
        state_fd = -1;
        (void)succession_execute(&supervisor, &state_fd, &failure);
        if (state_fd < 0) { /* out of memory or fds: the workers finish what they have */
            log_error("%s", failure.text);
            return 1;
        }
    }
    release(&supervisor);
    return supervisor.exit_status;
}
