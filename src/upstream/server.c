#include "upstream/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "upstream/upstream.h"

/* The first attempt comes soon: most of what is unreachable is being restarted. */
#define RETRY_FIRST_SECONDS 0.02
#define RETRY_MOST_SECONDS 0.5

static void count(const struct upstream_server *server, enum counter counter)
{
    if (server->upstream->counters)
        server->upstream->counters->values[counter]++;
}

/* ---- whether it can be used ---- */

bool upstream_server_is_usable(const struct upstream_server *server, double now)
{
    if (server->probe.down || server->address_count == 0)
        return false;
    /* One connection is tried; only when it is there may others follow. */
    return !server->unreachable || (server->dialling == 0 && server->retry_at <= now);
}

bool upstream_server_is_avoided(const struct upstream_server *server, double now)
{
    return server->avoid_until > now;
}

bool upstream_server_has_room(const struct upstream_server *server)
{
    unsigned most = server->upstream->config->max_connections;

    /* Kept ones give way to one that is needed. */
    return server->dialling < SERVER_DIALS_MAX &&
           (most == 0 || server->lent + server->dialling < most);
}

static enum board_backend_state state_of(const struct upstream_server *server)
{
    if (server->address_count == 0)
        return BOARD_BACKEND_UNRESOLVED;
    if (server->probe.down)
        return BOARD_BACKEND_DOWN;
    return server->unreachable ? BOARD_BACKEND_UNREACHABLE : BOARD_BACKEND_UP;
}

/* FailTimeout= may be infinite. */
static uint64_t avoided_until(const struct upstream_server *server)
{
    static const double end = 1e13; /* some 300,000 years, and less than a uint64_t holds */

    return server->avoid_until < end ? (uint64_t)(server->avoid_until * (double)USEC_PER_SEC)
                                     : USEC_INFINITY;
}

void upstream_server_show(const struct upstream_server *server)
{
    struct board_backend *shown = server->shown;

    shown->state = state_of(server);
    shown->lent = (uint32_t)server->lent;
    shown->idle = (uint32_t)server->idle_count;
    shown->avoided_until_usec = avoided_until(server);
    shown->requests = server->requests;
    shown->failures = server->failures;
}

static void note_unreachable(struct upstream_server *server, int error)
{
    count(server, COUNTER_BACKEND_UNREACHED);
    server->failures++;
    upstream_note(server->upstream, server, strerror(error));
    double now = clock_monotonic_seconds();
    if (server->unreachable && server->retry_at > now) { /* begun before it was known */
        upstream_server_show(server);
        return;
    }
    server->retry_after = server->unreachable ? server->retry_after * 2 : RETRY_FIRST_SECONDS;
    if (server->retry_after > RETRY_MOST_SECONDS)
        server->retry_after = RETRY_MOST_SECONDS;
    server->unreachable = true;
    server->retry_at = now + server->retry_after;
    upstream_server_show(server);
}

/* A request that it took was not answered. */
static void note_failure(struct upstream_server *server)
{
    const struct config_upstream *config = server->upstream->config;
    double now = clock_monotonic_seconds(), span = usec_to_seconds(config->fail_timeout_usec);

    count(server, COUNTER_BACKEND_FAILURES);
    server->failures++;
    if (now - server->fails_since > span) {
        server->fails = 0;
        server->fails_since = now;
    }
    if (config->max_fails > 0 && ++server->fails >= config->max_fails)
        server->avoid_until = now + span;
}

/* ---- its connections ---- */

static void on_idle_event(struct ev_loop *loop, ev_io *io, int events);

static struct backend *backend_new(
    struct upstream *upstream, struct upstream_server *server, int fd)
{
    struct backend *backend = calloc(1, sizeof *backend);

    if (!backend) {
        fd_close(fd);
        return NULL;
    }
    backend->gateway = &upstream->gateway;
    backend->server = server;
    list_init(&backend->link);
    deadline_init(&backend->deadline);
    ev_io_init(&backend->io, on_idle_event, fd, EV_READ);
    backend->io.data = backend;
    if (server) {
        server->lent++;
        upstream_server_show(server);
    }
    return backend;
}

static void backend_free(struct backend *backend)
{
    ev_io_stop(backend->gateway->loop, &backend->io);
    deadline_disarm(&backend->deadline);
    fd_close(backend->io.fd);
    free(backend);
}

static void remove_idle(struct upstream_server *server, struct backend *backend)
{
    list_remove(&backend->link);
    deadline_disarm(&backend->deadline);
    server->idle_count--;
    upstream_server_show(server);
}

static void close_one_idle(struct backend *backend)
{
    struct upstream_server *server = backend->server;

    remove_idle(server, backend);
    backend_free(backend);
    upstream_go_on(server->upstream); /* where MaxConnections= was reached, there is room now */
}

/* Whatever it says, nobody asked: it closes, as a rule. */
static void on_idle_event(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    (void)events;
    close_one_idle(io->data);
}

void upstream_server_idle_expired(struct deadline *deadline)
{
    close_one_idle(CONTAINER_OF(deadline, struct backend, deadline));
}

/*
 * Of what has happened since the last turn, what a kept connection says comes first: one that its
 * backend has closed, or sent an answer on that nobody asked for, is not lent to anybody any more.
 */
static void set_priority(struct backend *backend, int priority)
{
    ev_io_stop(backend->gateway->loop, &backend->io);
    ev_set_priority(&backend->io, priority);
}

struct backend *upstream_server_take_idle(struct upstream_server *server)
{
    if (list_empty(&server->idle))
        return NULL;
    /* The one that was used last: others may grow old and be closed. */
    struct backend *backend = CONTAINER_OF(server->idle.previous, struct backend, link);
    remove_idle(server, backend);
    set_priority(backend, 0);
    server->lent++;
    server->requests++;
    backend->reused = true;
    upstream_server_show(server);
    count(server, COUNTER_BACKEND_REUSES);
    return backend;
}

static void keep(struct upstream_server *server, struct backend *backend)
{
    set_priority(backend, EV_MAXPRI);
    ev_set_cb(&backend->io, on_idle_event);
    backend->io.data = backend;
    backend_watch(backend, EV_READ);
    deadline_arm(&server->upstream->idle, &backend->deadline);
    list_append(&server->idle, &backend->link);
    server->idle_count++;
}

void upstream_server_take_back(struct backend *backend, enum backend_end how)
{
    struct upstream_server *server = backend->server;

    if (!server) {
        backend_free(backend);
        return;
    }
    const struct config_upstream *config = server->upstream->config;
    server->lent--;
    if (how == BACKEND_FAILED)
        note_failure(server);
    else if (how == BACKEND_REUSABLE)
        server->fails = 0;
    if (how == BACKEND_REUSABLE && server->idle_count < config->max_idle &&
        config->send_proxy == SEND_PROXY_NO && !server->probe.down)
        keep(server, backend);
    else
        backend_free(backend);
    upstream_server_show(server);
    upstream_go_on(server->upstream);
}

void upstream_server_close_idle(struct upstream_server *server)
{
    LIST_EACH (link, &server->idle) {
        struct backend *backend = CONTAINER_OF(link, struct backend, link);
        remove_idle(server, backend);
        backend_free(backend);
    }
}

struct backend *upstream_server_adopt(
    struct upstream *upstream, struct upstream_server *server, int fd)
{
    return backend_new(upstream, server, fd);
}

/* ---- making connections ---- */

static void on_dialled(struct dial *dial, int fd, int error)
{
    struct upstream_server *server = dial->owner;
    struct upstream *upstream = server->upstream;

    server->dialling--;
    upstream->dialling--;
    if (fd < 0) {
        note_unreachable(server, error);
        upstream_go_on(upstream);
        return;
    }
    server->unreachable = false;
    upstream_server_show(server);
    struct backend *backend = backend_new(upstream, server, fd);
    if (backend)
        upstream_grant_new(upstream, backend);
    else
        upstream_go_on(upstream);
}

static struct dial *free_dial(struct upstream_server *server)
{
    for (size_t i = 0; i < SERVER_DIALS_MAX; i++)
        if (!dial_is_active(&server->dials[i]))
            return &server->dials[i];
    return NULL;
}

/* With it, and those that are kept, there may be more than MaxConnections=. */
static void make_room(struct upstream_server *server)
{
    unsigned most = server->upstream->config->max_connections;

    if (most == 0 || server->lent + server->dialling + server->idle_count < most ||
        list_empty(&server->idle))
        return;
    struct backend *backend = CONTAINER_OF(server->idle.next, struct backend, link);
    remove_idle(server, backend);
    backend_free(backend);
}

int upstream_server_dial(struct upstream_server *server)
{
    struct dial *dial = free_dial(server);
    const struct address *address =
        &server->addresses[server->next_address++ % server->address_count];

    make_room(server);
    count(server, COUNTER_BACKEND_DIALS);
    int r = dial_start(dial, address, &server->upstream->connect);
    if (r < 0) {
        note_unreachable(server, -r);
        return r;
    }
    server->dialling++;
    server->upstream->dialling++;
    return 0;
}

/* ---- names and probes ---- */

static void on_resolved(void *owner, const struct address *addresses, size_t count)
{
    struct upstream_server *server = owner;

    memcpy(server->addresses, addresses, count * sizeof *addresses);
    server->address_count = count;
    server->resolving = false;
    server->unreachable = false;
    upstream_server_close_idle(server); /* they may lead to where the name led before */
    upstream_server_show(server);
    upstream_go_on(server->upstream);
}

static void on_unresolved(void *owner, const char *why)
{
    struct upstream_server *server = owner;

    server->resolving = false;
    upstream_note(server->upstream, server, why);
    upstream_go_on(server->upstream);
}

static const struct resolver_calls resolver_calls = {on_resolved, on_unresolved};

static const struct address *on_probe_address(void *owner)
{
    struct upstream_server *server = owner;

    return server->address_count > 0 ? &server->addresses[0] : NULL;
}

static void on_probed(void *owner, bool up, const char *why)
{
    struct upstream_server *server = owner;

    if (up)
        server->unreachable = false;
    else
        upstream_note(server->upstream, server, why);
    upstream_server_show(server);
    upstream_go_on(server->upstream);
}

static const struct probe_calls probe_calls = {on_probe_address, on_probed};

static const char *probe_host(const struct upstream_server *server)
{
    if (server->upstream->config->probe_host)
        return server->upstream->config->probe_host;
    return server->config->address.any.sa_family == AF_UNIX ? "localhost" : server->config->text;
}

/* ---- beginning and end ---- */

int upstream_server_init(struct upstream_server *server, struct upstream *upstream,
    const struct config_server *config, struct resolver *resolver, struct backends *backends)
{
    *server = (struct upstream_server){
        .upstream = upstream,
        .config = config,
        .shown = backends_add(backends, upstream->config->name, config->text),
    };
    list_init(&server->idle);
    server->hash = 2166136261u; /* FNV-1a */
    for (const char *c = config->text; *c; c++)
        server->hash = (server->hash ^ (uint8_t)*c) * 16777619u;
    for (size_t i = 0; i < SERVER_DIALS_MAX; i++)
        dial_init(&server->dials[i], upstream->gateway.loop, on_dialled, server);
    if (!config->host) {
        server->addresses[0] = config->address;
        server->address_count = 1;
    } else {
        server->resolving = true;
        server->name =
            resolver_watch(resolver, config->host, config->port, &resolver_calls, server);
    }
    probe_init(&server->probe, upstream->gateway.loop, upstream->config, probe_host(server),
        &probe_calls, server);
    upstream_server_show(server);
    return config->host && !server->name ? -ENOMEM : 0;
}

void upstream_server_deinit(struct upstream_server *server)
{
    probe_deinit(&server->probe);
    resolver_unwatch(server->name);
    for (size_t i = 0; i < SERVER_DIALS_MAX; i++)
        if (dial_is_active(&server->dials[i]))
            dial_cancel(&server->dials[i]);
    upstream_server_close_idle(server);
}
