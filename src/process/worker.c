#include "process/worker.h"

#include <errno.h>
#include <ev.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "connection/server.h"
#include "handler/cache.h"
#include "net/listener.h"
#include "observe/access_log.h"
#include "process/catalog.h"
#include "process/channel.h"
#include "process/mover.h"
#include "process/service.h"

/* How long requests under way may still take when the supervisor has died: a new one waits for us.
 */
#define ORPHAN_SECONDS 2.0
/* Health probes get through when MaxConnections= is reached. */
#define ADMIN_CONNECTIONS 64

/* Fds that a worker needs beside its connections', their files', its doors' and its routes': room
 * for a message and the files that the cache has open, too. */
#define SPARE_FDS (RECORD_FDS_MAX + CACHE_OPEN_MAX + 64)
/* Until it looks again whether there are fds for a message, as listener.h does for accepting. */
#define RETRY_SECONDS 1.0

/* How many requests without an answer of a backend are logged in a second. */
#define FAILURES_LOGGED 10

/* How many connections more than another worker's are too many to take further ones before it: of
 * moved ones, which come in messages, and of those that are accepted. */
#define AHEAD_MOVED 8
#define AHEAD_ACCEPTED 2

/* Listener numbers of connections whose listener is gone. */
enum { DOOR_GONE = ACTIVATION_SOCKETS_MAX, DOOR_GONE_ADMIN };

struct door { /* a listening socket and what we know of it */
    struct listener listener;
    bool admin, ours, open;
    const struct config_listen *config; /* NULL: not in the configuration */
};

struct worker {
    const struct worker_setup *setup;
    struct ev_loop *loop;
    struct server server;
    struct service *service;
    struct mover mover;
    struct access_log access_log;
    size_t fd_limit; /* fds that RLIMIT_NOFILE leaves for connections and their files */
    struct door doors[ACTIVATION_SOCKETS_MAX];
    size_t door_count;
    bool full;              /* MaxConnections= reached: doors are paused */
    bool retiring;          /* the doors close, or are closed */
    bool cut;               /* its time to drain is over */
    bool parking;           /* connections are left in the inbox for the next instance */
    double failures_second; /* when the failures below were counted */
    unsigned failures;      /* requests without an answer of a backend in it */
    ev_io channel;
    ev_timer deadline, retry;
    ev_prepare flush;
};

static void count(struct worker *worker, enum counter counter)
{
    worker->setup->counters->values[counter]++;
}

static void pause_doors(struct worker *worker)
{
    for (size_t i = 0; i < worker->door_count; i++)
        if (worker->doors[i].open && !worker->doors[i].admin)
            listener_pause(&worker->doors[i].listener);
}

static void resume_doors(struct worker *worker)
{
    for (size_t i = 0; i < worker->door_count; i++)
        if (worker->doors[i].open)
            listener_resume(&worker->doors[i].listener);
}

static bool on_accepted(struct listener *listener, int fd, const struct address *peer)
{
    struct worker *worker = listener->owner;
    struct door *door = CONTAINER_OF(listener, struct door, listener);
    size_t limit = worker->setup->config->max_connections;

    if (door->admin && worker->server.connection_count >= limit + ADMIN_CONNECTIONS) {
        fd_close(fd); /* a probe sees a failure, which is true */
        return true;
    }
    server_accept(&worker->server, fd, peer, (unsigned)(door - worker->doors));
    if (worker->server.connection_count < limit || door->admin || worker->retiring)
        return true;
    worker->full = true;
    count(worker, COUNTER_ACCEPT_PAUSED_FULL);
    pause_doors(worker);
    return false;
}

static void on_exhausted(struct listener *listener, int error)
{
    struct worker *worker = listener->owner;

    count(worker, COUNTER_ACCEPT_PAUSED_FDS);
    log_explained(LOG_WARNING, CATALOG_CANNOT_ACCEPT, "Cannot accept: %s; trying again in a second",
        strerror(error));
}

/* Whether another one of the generation has fewer connections, by more than @margin. */
static bool is_ahead(const struct worker *worker, size_t margin)
{
    const struct worker_setup *setup = worker->setup;
    unsigned left = setup->count > 1 ? setup->count : 0; /* their slots are mostly the first */

    for (unsigned i = 1; i < BOARD_SLOTS && left > 0; i++) {
        const struct board_slot *slot = &setup->board->slots[i];
        if (slot->state != BOARD_CURRENT || slot->generation != setup->generation)
            continue;
        if (counters_open(&slot->counters) + margin < worker->server.connection_count)
            return true;
        left--;
    }
    return false;
}

/* Of many connections a few more or less are no matter. */
static bool on_yields(struct listener *listener)
{
    const struct worker *worker = listener->owner;

    return is_ahead(worker, AHEAD_ACCEPTED + worker->server.connection_count / 16);
}

static const struct listener_calls listener_calls = {on_accepted, on_exhausted, on_yields};

static struct handler *on_route(void *owner, unsigned listener, const struct request *request)
{
    struct worker *worker = owner;
    bool admin =
        listener < worker->door_count ? worker->doors[listener].admin : listener == DOOR_GONE_ADMIN;

    return service_route(worker->service, admin, request);
}

static void on_describe(void *owner, unsigned listener, struct span *ret_name, bool *ret_admin)
{
    struct worker *worker = owner;

    if (listener < worker->door_count) {
        *ret_name = span_of(worker->setup->activation->sockets[listener].name);
        *ret_admin = worker->doors[listener].admin;
    } else {
        *ret_name = (struct span){NULL, 0};
        *ret_admin = listener == DOOR_GONE_ADMIN;
    }
}

static unsigned on_find_listener(void *owner, struct span name, bool admin, bool *ret_drain)
{
    struct worker *worker = owner;

    *ret_drain = false;
    for (size_t i = 0; i < worker->door_count; i++)
        if (worker->doors[i].open && worker->doors[i].admin == admin &&
            span_equal(name, span_of(worker->setup->activation->sockets[i].name)))
            return (unsigned)i;
    *ret_drain = true;
    return admin ? DOOR_GONE_ADMIN : DOOR_GONE;
}

/* Whether a message of moved connections can be received: none of its fds may be lost. */
static bool has_fds(const struct worker *worker)
{
    return worker->server.connection_count + worker->server.second_fd_count +
               upstreams_fd_count(service_upstreams(worker->service)) <
           worker->fd_limit;
}

static bool has_room(const struct worker *worker)
{
    return worker->server.connection_count < worker->setup->config->max_connections &&
           has_fds(worker);
}

/* The board says so before the channel does: what a sibling sends already is not for us. */
static bool is_about_to_retire(const struct worker *worker)
{
    return CONTAINER_OF(worker->setup->counters, struct board_slot, counters)->state ==
           BOARD_RETIRING;
}

static bool on_has_room(void *owner)
{
    struct worker *worker = owner;

    if (is_about_to_retire(worker))
        return false;
    /* MaxConnections= is for those who come: these are here already, and have nobody else. */
    if (has_fds(worker))
        return true;
    worker->full = true;
    ev_timer_start(worker->loop, &worker->retry); /* a file that is closed is no event */
    return false;
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct worker *worker = timer->data;

    (void)loop;
    (void)events;
    ev_timer_set(timer, RETRY_SECONDS, 0);
    if (!worker->retiring)
        mover_adopt(&worker->mover);
}

static void tell_serving(void *owner)
{
    struct worker *worker = owner;
    struct message message = {.kind = MESSAGE_SERVING};

    (void)channel_send(
        worker->setup->channel, &message); /* without a supervisor nobody waits for it */
}

static bool on_is_ahead(void *owner)
{
    return is_ahead(owner, AHEAD_MOVED);
}

static const struct mover_calls mover_calls = {
    on_find_listener, on_has_room, on_is_ahead, tell_serving};

static void on_ended(void *owner)
{
    struct worker *worker = owner;

    if (worker->retiring) {
        if (worker->server.connection_count == 0)
            ev_break(worker->loop, EVBREAK_ALL);
        return;
    }
    if (worker->full && has_room(worker)) {
        worker->full = false;
        resume_doors(worker);
        mover_adopt(&worker->mover);
    }
}

static void on_listener(void *owner, unsigned listener, struct listener_manner *ret)
{
    struct worker *worker = owner;
    const struct config_listen *config =
        listener < worker->door_count ? worker->doors[listener].config : NULL;

    *ret = (struct listener_manner){0};
    if (!config)
        return;
    ret->proxy_header = config->accept_proxy;
    if (config->tunnel)
        ret->tunnel = upstreams_at(service_upstreams(worker->service), config->tunnel_upstream);
}

static struct gateway *on_find_gateway(void *owner, struct span name)
{
    struct worker *worker = owner;

    return upstreams_find(service_upstreams(worker->service), name);
}

/* A backend that is away can fail thousands of requests in a second: the log gets some of them. */
static bool may_log_failure(struct worker *worker)
{
    double second = floor(ev_now(worker->loop));

    if (second != worker->failures_second) {
        if (worker->failures > FAILURES_LOGGED)
            log_warning("%u more requests without an answer of a backend were not logged",
                worker->failures - FAILURES_LOGGED);
        worker->failures_second = second;
        worker->failures = 0;
    }
    return ++worker->failures <= FAILURES_LOGGED;
}

static void on_failed(void *owner, const struct request *request, const char *upstream,
    struct span server, unsigned status, const char *why)
{
    struct worker *worker = owner;
    const char *colon = server.length > 0 ? ": " : "";

    if (!may_log_failure(worker))
        return;
    if (!request)
        log_warning("A tunnel gets no backend of [Upstream %s]: %.*s%s%s", upstream,
            (int)server.length, server.at ? server.at : "", colon, why);
    else
        log_warning("%.*s %.*s gets %u: [Upstream %s]: %.*s%s%s", (int)request->method_text.length,
            request->method_text.at, (int)request->target.length, request->target.at, status,
            upstream, (int)server.length, server.at ? server.at : "", colon, why);
}

static const struct server_calls server_calls = {
    .route = on_route,
    .describe = on_describe,
    .ended = on_ended,
    .listener = on_listener,
    .find_gateway = on_find_gateway,
    .failed = on_failed,
};

/*
 * A socket of systemd's keeps its queue for who comes next. One that we bound may vanish with us,
 * and with it the connections that the kernel has already accepted for us: they are taken first. A
 * backlog of 0 keeps further ones from joining the queue meanwhile.
 */
static void close_doors(struct worker *worker, bool last)
{
    for (size_t i = 0; i < worker->door_count; i++) {
        struct door *door = &worker->doors[i];
        if (!door->open)
            continue;
        listener_pause(&door->listener);
        if (door->ours && last)
            (void)listen(door->listener.io.fd, 0); /* only makes the queue shorter */
        if (door->ours)
            listener_accept_queued(&door->listener);
        listener_pause(&door->listener); /* a full table of fds starts it again */
        fd_close(door->listener.io.fd);
        door->open = false;
    }
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct worker *worker = timer->data;
    size_t left = worker->server.connection_count;

    (void)events;
    log_explained(LOG_WARNING, CATALOG_DRAIN_CUT,
        "The time to drain is over: closing %zu connection%s", left, left == 1 ? "" : "s");
    worker->cut = true;
    server_cut(&worker->server);
    ev_break(loop, EVBREAK_ALL);
}

static void retire(struct worker *worker, enum retirement retirement, double seconds)
{
    worker->retiring = true;
    mover_pause(&worker->mover);
    close_doors(worker, retirement == RETIRING_STOP);
    if (retirement == RETIRING_STOP &&
        !worker->parking) /* nobody comes after us for what lies there */
        mover_adopt_all(&worker->mover, true);
    ev_timer_stop(worker->loop, &worker->deadline);
    ev_timer_set(&worker->deadline, seconds, 0);
    ev_timer_start(worker->loop, &worker->deadline);
    server_retire(&worker->server, retirement);
    upstreams_release_idle(service_upstreams(worker->service));
    if (worker->parking)
        mover_park(&worker->mover);
    else if (retirement == RETIRING_MOVE)
        mover_send(&worker->mover);
    if (worker->server.connection_count == 0)
        ev_break(worker->loop, EVBREAK_ALL);
}

/* How: by what the supervisor says of who follows. Its workers may be of another build. */
static enum retirement way_to_retire(struct worker *worker, const struct message *message)
{
    int oldest, newest;

    worker->parking = message->flags & MESSAGE_PARK;
    if (message->flags & MESSAGE_STOP)
        return worker->parking ? RETIRING_MOVE : RETIRING_STOP;
    if (sscanf(message->text, "%d %d", &oldest, &newest) == 2 && oldest <= RECORD_VERSION &&
        RECORD_VERSION <= newest)
        return RETIRING_MOVE;
    log_explained(LOG_INFO, CATALOG_RECORDS_DIFFER,
        "The next generation does not read our records (version %d): connections drain here",
        RECORD_VERSION);
    return RETIRING_DRAIN;
}

static void serve(struct worker *worker)
{
    if (worker->retiring)
        return;
    service_apply_pauses(worker->service);
    if (!worker->full) /* said again after a reload that was refused */
        resume_doors(worker);
    mover_adopt_all(&worker->mover, false); /* what a former instance left there */
    mover_adopt(&worker->mover);
    tell_serving(worker);
}

static void reopen_log(struct worker *worker)
{
    struct reason reason;

    if (worker->server.access_log && access_log_reopen(&worker->access_log, &reason) < 0)
        log_error("%s; going on with the old file", reason.text);
}

static void on_message(struct worker *worker, const struct message *message)
{
    struct message answer = {.kind = MESSAGE_PONG, .value = message->value};

    switch (message->kind) {
    case MESSAGE_PING:
        (void)channel_send(worker->setup->channel, &answer); /* unsent, it counts as hung: it is */
        return;
    case MESSAGE_RETIRE:
        retire(worker, way_to_retire(worker, message), usec_to_seconds(message->value));
        return;
    case MESSAGE_SERVE:
        serve(worker);
        return;
    case MESSAGE_REOPEN:
        reopen_log(worker);
        return;
    case MESSAGE_PAUSES:
        service_apply_pauses(worker->service);
        return;
    }
}

static void read_channel(struct worker *worker)
{
    struct message message;
    int r;

    while ((r = channel_receive(worker->channel.fd, &message)) == CHANNEL_MESSAGE)
        on_message(worker, &message);
    if (r == CHANNEL_EMPTY)
        return;
    log_explained(LOG_WARNING, CATALOG_SUPERVISOR_GONE,
        "The supervisor is gone: finishing %zu connections", worker->server.connection_count);
    ev_io_stop(worker->loop, &worker->channel);
    worker->parking = worker->setup->board->head->parking;
    retire(worker, worker->parking ? RETIRING_MOVE : RETIRING_STOP, ORPHAN_SECONDS);
}

static void on_channel(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    (void)events;
    read_channel(io->data);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *prepare, int events)
{
    struct worker *worker = prepare->data;

    (void)loop;
    (void)events;
    worker->setup->counters->values[COUNTER_LOG_LOST] +=
        (unsigned)access_log_flush(&worker->access_log);
}

static const struct config_listen *find_listen(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->listen_count; i++)
        if (strcmp(config->listens[i].name, name) == 0)
            return &config->listens[i];
    return NULL;
}

static void open_doors(struct worker *worker)
{
    const struct activation *activation = worker->setup->activation;

    for (size_t i = 0; i < activation->count; i++) {
        const struct activation_socket *socket = &activation->sockets[i];
        struct door *door = &worker->doors[worker->door_count++];
        door->config = find_listen(worker->setup->config, socket->name);
        door->admin = door->config && door->config->admin;
        door->ours = socket->ours;
        door->open = activation_wants(socket, worker->setup->config);
        if (door->open)
            listener_init(&door->listener, worker->loop, socket->fd, &listener_calls, worker);
        else /* the generation before takes what is in its queue, and nobody comes after that */
            fd_close(socket->fd);
    }
}

static int open_access_log(struct worker *worker, struct reason *reason)
{
    const struct config *config = worker->setup->config;

    worker->access_log.fd = -1;
    if (config->access_log == ACCESS_LOG_OFF)
        return 0;
    int r = access_log_open(&worker->access_log,
        config->access_log == ACCESS_LOG_JSON ? ACCESS_JSON : ACCESS_COMBINED,
        config->access_log_file, reason);
    if (r < 0)
        return r;
    worker->server.access_log = &worker->access_log;
    ev_prepare_start(worker->loop, &worker->flush);
    return 0;
}

static void init_watchers(struct worker *worker)
{
    ev_io_init(&worker->channel, on_channel, worker->setup->channel, EV_READ);
    ev_timer_init(&worker->deadline, on_deadline, 0, 0);
    ev_timer_init(&worker->retry, on_retry, RETRY_SECONDS, 0);
    ev_prepare_init(&worker->flush, on_prepare);
    worker->channel.data = worker->deadline.data = worker->retry.data = worker->flush.data = worker;
    ev_io_start(worker->loop, &worker->channel);
}

static int start(struct worker *worker, struct reason *reason)
{
    const struct worker_setup *setup = worker->setup;

    /* EVFLAG_NOENV: LIBEV_FLAGS is not the administrator's way to configure us. */
    worker->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!worker->loop)
        return reason_set(reason, -ENOMEM, "no event loop can be made (epoll)");
    init_watchers(worker);
    server_init(
        &worker->server, worker->loop, setup->config, setup->counters, NULL, &server_calls, worker);
    mover_init(&worker->mover, worker->loop, &worker->server, setup->inbox, &mover_calls, worker);
    int r = open_access_log(worker, reason);
    if (r == 0)
        r = service_new(setup->config, setup->board, setup->slot, worker->loop, setup->counters,
            &worker->service, reason);
    if (r == 0)
        open_doors(worker);
    return r;
}

/* In reverse order of start(); half of it may be missing. */
static void finish(struct worker *worker)
{
    if (!worker->loop)
        return;
    mover_destroy(&worker->mover);
    if (worker->server.loop)
        server_destroy(&worker->server);
    service_free(worker->service);
    if (worker->access_log.path || worker->server.access_log)
        access_log_close(&worker->access_log);
    ev_loop_destroy(worker->loop);
    fd_close(worker->setup->channel);
}

/*
 * The terminal and systemd signal every process of the group; what a signal means is the
 * supervisor's to decide, which tells us.
 */
static void leave_signals_to_supervisor(void)
{
    static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGPIPE};
    sigset_t none;

    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        (void)signal(ignored[i], SIG_IGN); /* cannot fail for these */
    (void)signal(SIGCHLD, SIG_DFL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void run(struct worker *worker)
{
    do {
        ev_run(worker->loop, 0);
        /* A stop said meanwhile: those who could have read what we sent may be gone already. */
        if (worker->server.retirement == RETIRING_MOVE && ev_is_active(&worker->channel))
            read_channel(worker);
        /* What a retiring worker sent while we stopped has nobody else to go to. */
        if (worker->server.retirement == RETIRING_STOP && !worker->parking)
            mover_adopt_all(&worker->mover, true);
    } while (worker->server.connection_count > 0 && !worker->cut);
}

static size_t fd_limit(const struct worker_setup *setup)
{
    struct rlimit limit;
    size_t spare = SPARE_FDS + setup->activation->count;

    for (size_t i = 0; i < setup->config->route_count; i++)
        spare += setup->config->routes[i].root != NULL;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur <= spare)
        return 1;
    return limit.rlim_cur - spare;
}

int worker_main(const struct worker_setup *setup)
{
    static struct worker worker; /* of some 100 KB: not on the stack */
    struct message message = {.kind = MESSAGE_READY};
    struct reason reason = {""};

    worker.setup = setup;
    worker.fd_limit = fd_limit(setup);
    leave_signals_to_supervisor();
    (void)prctl(PR_SET_NAME, "baton-worker"); /* for ps; a name too long is the only error */
    log_identify("worker", setup->generation, setup->number);
    int r = start(&worker, &reason);
    if (r < 0) {
        message.kind = MESSAGE_FAILED;
        (void)snprintf(message.text, sizeof message.text, "%.*s", (int)sizeof message.text - 1,
            reason.text[0] ? reason.text : strerror(-r));
    }
    (void)channel_send(setup->channel, &message); /* without a supervisor there is nobody to tell */
    if (r == 0)
        run(&worker);
    finish(&worker);
    return r < 0;
}
