#include "upstream/upstream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "connection/exchange.h"
#include "connection/tunnel.h"
#include "upstream/balance.h"

/* What a process takes to die whose listening socket is still there. */
#define AGAIN_SECONDS 0.02

static struct upstream *of_gateway(struct gateway *gateway)
{
    return CONTAINER_OF(gateway, struct upstream, gateway);
}

static double timeout_seconds(uint64_t usec)
{
    return usec == USEC_INFINITY ? 0 : usec_to_seconds(usec);
}

/* ---- those that wait ---- */

static void arm_hold(struct upstream *upstream, struct demand *demand)
{
    if (demand->patience >= 0 && demand->patience < upstream->hold.seconds)
        deadline_arm_for(&upstream->hold, &demand->deadline, demand->patience);
    else
        deadline_arm(&upstream->hold, &demand->deadline);
}

/* The count says more for the moment in which somebody asks. */
static void show(const struct upstream *upstream)
{
    upstream->shown->waiting = (uint32_t)upstream->waiting_count;
}

static void enqueue(struct upstream *upstream, struct demand *demand)
{
    list_append(&upstream->waiting, &demand->link);
    upstream->waiting_count++;
    show(upstream);
    if (!upstream->paused) /* a pause has an end of its own */
        arm_hold(upstream, demand);
}

static void dequeue(struct upstream *upstream, struct demand *demand)
{
    list_remove(&demand->link);
    deadline_disarm(&demand->deadline);
    upstream->waiting_count--;
    show(upstream);
}

static struct demand *first_waiting(const struct upstream *upstream)
{
    if (list_empty(&upstream->waiting))
        return NULL;
    return CONTAINER_OF(upstream->waiting.next, struct demand, link);
}

static void grant(struct upstream *upstream, struct demand *demand, struct backend *backend)
{
    dequeue(upstream, demand);
    demand->granted(demand, backend);
}

static const char *why(const struct upstream *upstream)
{
    return upstream->why[0] ? upstream->why : "no server can be used now";
}

static void refuse(struct upstream *upstream, struct demand *demand, unsigned status)
{
    dequeue(upstream, demand);
    demand->refused(demand, status, why(upstream));
}

static void on_hold_expired(struct deadline *deadline)
{
    struct demand *demand = CONTAINER_OF(deadline, struct demand, deadline);

    refuse(of_gateway(demand->gateway), demand, 503);
}

/* ---- finding servers for them ---- */

/* With HoldTimeout=0 nobody waits longer than for names and connections that are under way. */
static bool holds(const struct upstream *upstream)
{
    return upstream->config->hold_timeout_usec > 0;
}

/* Whether something is under way that will tell what can be reached: everybody waits for that. */
static bool is_finding_out(const struct upstream *upstream)
{
    bool resolving = false;

    for (size_t i = 0; i < upstream->server_count; i++)
        resolving |= upstream->servers[i].resolving;
    return resolving || upstream->dialling > 0;
}

/*
 * When the next server that cannot be reached may be tried again; below 0: none of them. Who makes
 * room, resumes or brings a server up says so.
 */
static double next_retry(const struct upstream *upstream)
{
    double first = -1;

    for (size_t i = 0; i < upstream->server_count; i++) {
        const struct upstream_server *server = &upstream->servers[i];
        if (server->unreachable && !server->probe.down && server->dialling == 0 &&
            upstream_server_has_room(server) && (first < 0 || server->retry_at < first))
            first = server->retry_at;
    }
    return first;
}

static void arm_retry(struct upstream *upstream)
{
    double at = next_retry(upstream), after = at - clock_monotonic_seconds();

    ev_timer_stop(upstream->gateway.loop, &upstream->retry);
    if (upstream->waiting_count == 0 || upstream->paused || at < 0)
        return;
    ev_timer_set(&upstream->retry, after > 0 ? after : 0, 0);
    ev_timer_start(upstream->gateway.loop, &upstream->retry);
}

/* A kept connection for @demand, if it wants one; else one that is being made. NULL: not now. */
static struct backend *find(struct upstream *upstream, struct demand *demand)
{
    struct upstream_server *server;

    while ((server = balance_choose(upstream, demand)) != NULL) {
        struct backend *backend = demand->reusable ? upstream_server_take_idle(server) : NULL;
        if (backend)
            return backend;
        if (upstream->dialling >= upstream->waiting_count) /* each that waits will have one */
            return NULL;
        if (upstream_server_dial(server) == 0)
            return NULL;
        /* It could not even begin: that server is unreachable now, another may be chosen. */
    }
    return NULL;
}

/* 503 while there is a server that is only busy, else 502. */
static unsigned refusal(struct upstream *upstream)
{
    double now = clock_monotonic_seconds();

    for (size_t i = 0; i < upstream->server_count; i++) {
        const struct upstream_server *server = &upstream->servers[i];
        if (!upstream_server_is_usable(server, now) || upstream_server_has_room(server))
            continue;
        upstream_note(upstream, server, "it has MaxConnections= connections");
        return 503;
    }
    return 502;
}

/* They have to wait for more than a connection that is being made. */
static void count_held(struct upstream *upstream)
{
    struct link *link = upstream->waiting.previous; /* those that came since are the last */

    for (; link != &upstream->waiting; link = link->previous) {
        struct demand *demand = CONTAINER_OF(link, struct demand, link);
        if (demand->held)
            break;
        demand->held = true;
        if (upstream->counters)
            upstream->counters->values[COUNTER_HELD]++;
    }
}

/* Nobody holds them, and no connection is being made. */
static void refuse_all(struct upstream *upstream)
{
    unsigned status = refusal(upstream);
    struct demand *demand;

    while ((demand = first_waiting(upstream)) != NULL)
        refuse(upstream, demand, status);
}

static void on_change(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct upstream *upstream = timer->data;
    struct demand *demand;

    (void)loop;
    (void)events;
    while (!upstream->paused && (demand = first_waiting(upstream)) != NULL) {
        size_t dialling = upstream->dialling;
        struct backend *backend = find(upstream, demand);
        if (backend)
            grant(upstream, demand, backend);
        else if (upstream->dialling == dialling)
            break;
    }
    if (!upstream->paused && !holds(upstream) && !is_finding_out(upstream))
        refuse_all(upstream);
    else if (upstream->dialling == 0)
        count_held(upstream);
    arm_retry(upstream);
}

/* Not at once: whoever gives a backend back is in the middle of something. */
void upstream_go_on(struct upstream *upstream)
{
    if (upstream->waiting_count > 0)
        ev_feed_event(upstream->gateway.loop, &upstream->change, EV_CUSTOM);
}

void upstream_grant_new(struct upstream *upstream, struct backend *backend)
{
    struct demand *demand = first_waiting(upstream);

    if (demand && !upstream->paused) {
        backend->server->requests++;
        upstream_server_show(backend->server);
        grant(upstream, demand, backend);
        upstream_go_on(upstream);
    } else {
        upstream_server_take_back(backend, BACKEND_REUSABLE);
    }
}

void upstream_note(
    struct upstream *upstream, const struct upstream_server *server, const char *cause)
{
    (void)snprintf(upstream->why, sizeof upstream->why, "%s: %s", server->config->text, cause);
}

/* ---- as a gateway ---- */

static int refuse_at_once(
    struct upstream *upstream, unsigned status, unsigned *ret_status, const char **ret_why)
{
    *ret_status = status;
    *ret_why = why(upstream);
    return DEMAND_REFUSED;
}

/* What has been given back belongs to those who wait already, before any that come now. */
static bool is_changing(const struct upstream *upstream)
{
    return upstream->waiting_count > 0 && ev_is_pending(&upstream->change);
}

/* Returns DEMAND_WAITS, or why it may not. */
static int let_wait(
    struct upstream *upstream, struct demand *demand, unsigned *ret_status, const char **ret_why)
{
    if (!upstream->paused && !holds(upstream) && !is_finding_out(upstream) &&
        !is_changing(upstream))
        return refuse_at_once(upstream, refusal(upstream), ret_status, ret_why);
    /* Who only waits for its own connection is not one too many. */
    if (upstream->waiting_count >= upstream->config->max_waiting + upstream->dialling) {
        (void)snprintf(upstream->why, sizeof upstream->why, "MaxWaiting= requests wait already");
        return refuse_at_once(upstream, 503, ret_status, ret_why);
    }
    enqueue(upstream, demand);
    if (upstream->dialling == 0 && !is_changing(upstream))
        count_held(upstream);
    arm_retry(upstream);
    return DEMAND_WAITS;
}

static int ask(struct upstream *upstream, struct demand *demand, struct backend **ret_backend,
    unsigned *ret_status, const char **ret_why)
{
    if (!upstream->paused && !is_changing(upstream)) {
        upstream->waiting_count++; /* a connection is made for it, too */
        struct backend *backend = find(upstream, demand);
        upstream->waiting_count--;
        if (backend) {
            *ret_backend = backend;
            return DEMAND_GRANTED;
        }
    }
    return let_wait(upstream, demand, ret_status, ret_why);
}

static int on_ask(struct gateway *gateway, struct demand *demand, struct backend **ret_backend,
    unsigned *ret_status, const char **ret_why)
{
    struct upstream *upstream = of_gateway(gateway);

    if (!balance_repeats(upstream, demand))
        return ask(upstream, demand, ret_backend, ret_status, ret_why);
    demand->postponed = true;
    deadline_arm(&upstream->again, &demand->deadline);
    return DEMAND_WAITS;
}

static void on_again(struct deadline *deadline)
{
    struct demand *demand = CONTAINER_OF(deadline, struct demand, deadline);
    struct backend *backend;
    unsigned status;
    const char *reason;

    demand->postponed = false;
    int r = ask(of_gateway(demand->gateway), demand, &backend, &status, &reason);
    if (r == DEMAND_GRANTED)
        demand->granted(demand, backend);
    else if (r == DEMAND_REFUSED)
        demand->refused(demand, status, reason);
}

static void on_cancel(struct demand *demand)
{
    if (demand->postponed)
        deadline_disarm(&demand->deadline);
    else
        dequeue(of_gateway(demand->gateway), demand);
    demand->postponed = false;
}

static struct upstream_server *find_server(struct upstream *upstream, struct span name)
{
    for (size_t i = 0; i < upstream->server_count; i++)
        if (span_equal(span_of(upstream->servers[i].config->text), name))
            return &upstream->servers[i];
    return NULL;
}

static struct backend *on_adopt(struct gateway *gateway, int fd, struct span server)
{
    struct upstream *upstream = of_gateway(gateway);

    return upstream_server_adopt(upstream, find_server(upstream, server), fd);
}

static struct span on_server_name(const struct backend *backend)
{
    return backend->server ? span_of(backend->server->config->text) : (struct span){NULL, 0};
}

static const struct gateway_calls gateway_calls = {
    .ask = on_ask,
    .cancel = on_cancel,
    .give_back = upstream_server_take_back,
    .adopt = on_adopt,
    .server_name = on_server_name,
};

/* ---- pausing ---- */

void upstream_pause(struct upstream *upstream, double seconds)
{
    struct ev_loop *loop = upstream->gateway.loop;

    upstream->paused = true;
    LIST_EACH (link, &upstream->waiting)
        deadline_disarm(&CONTAINER_OF(link, struct demand, link)->deadline);
    ev_timer_stop(loop, &upstream->retry);
    ev_timer_stop(loop, &upstream->pause);
    ev_timer_set(&upstream->pause, seconds, 0);
    ev_timer_start(loop, &upstream->pause);
}

void upstream_resume(struct upstream *upstream)
{
    if (!upstream->paused)
        return;
    upstream->paused = false;
    ev_timer_stop(upstream->gateway.loop, &upstream->pause);
    LIST_EACH (link, &upstream->waiting) {
        struct demand *demand = CONTAINER_OF(link, struct demand, link);
        demand->patience = -1; /* what it waited before does not count */
        arm_hold(upstream, demand);
    }
    upstream_go_on(upstream);
}

static void on_pause_over(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    upstream_resume(timer->data);
}

/* ---- beginning and end ---- */

static void init_lists(struct upstream *upstream)
{
    const struct config_upstream *config = upstream->config;
    struct gateway *gateway = &upstream->gateway;
    struct ev_loop *loop = gateway->loop;

    deadline_list_init(
        &gateway->send, loop, timeout_seconds(config->send_timeout_usec), exchange_send_expired);
    deadline_list_init(&gateway->response, loop, timeout_seconds(config->response_timeout_usec),
        exchange_response_expired);
    deadline_list_init(
        &gateway->tunnel, loop, timeout_seconds(config->tunnel_timeout_usec), tunnel_expired);
    deadline_list_init(
        &upstream->hold, loop, timeout_seconds(config->hold_timeout_usec), on_hold_expired);
    deadline_list_init(&upstream->again, loop, AGAIN_SECONDS, on_again);
    deadline_list_init(&upstream->idle, loop, timeout_seconds(config->idle_timeout_usec),
        upstream_server_idle_expired);
    deadline_list_init(
        &upstream->connect, loop, timeout_seconds(config->connect_timeout_usec), dial_expired);
}

static void init(struct upstream *upstream, const struct config_upstream *config,
    struct ev_loop *loop, struct counters *counters)
{
    upstream->config = config;
    upstream->counters = counters;
    upstream->gateway.calls = &gateway_calls;
    upstream->gateway.loop = loop;
    upstream->gateway.name = config->name;
    upstream->gateway.retries = config->retries;
    upstream->gateway.proxy_version = (unsigned)config->send_proxy;
    list_init(&upstream->waiting);
    ev_timer_init(&upstream->retry, on_change, 0, 0);
    ev_timer_init(&upstream->change, on_change, 0, 0); /* never started, only fed */
    ev_timer_init(&upstream->pause, on_pause_over, 0, 0);
    upstream->retry.data = upstream->pause.data = upstream->change.data = upstream;
    init_lists(upstream);
}

int upstream_new(const struct config_upstream *config, struct ev_loop *loop,
    struct resolver *resolver, struct counters *counters, struct backends *backends,
    struct upstream **ret, struct reason *reason)
{
    struct upstream *upstream = calloc(1, sizeof *upstream);
    int r = 0;

    if (!upstream)
        return reason_set(reason, -ENOMEM, "out of memory");
    init(upstream, config, loop, counters);
    upstream->shown = backends_add(backends, config->name, "");
    upstream->servers = calloc(config->server_count + 1, sizeof *upstream->servers);
    if (!upstream->servers)
        r = -ENOMEM;
    for (size_t i = 0; i < config->server_count && r == 0; i++) {
        upstream->server_count++;
        r = upstream_server_init(
            &upstream->servers[i], upstream, &config->servers[i], resolver, backends);
    }
    if (r < 0) {
        upstream_free(upstream);
        return reason_set(reason, r, "out of memory");
    }
    *ret = upstream;
    return 0;
}

void upstream_release_idle(struct upstream *upstream)
{
    for (size_t i = 0; i < upstream->server_count; i++)
        upstream_server_close_idle(&upstream->servers[i]);
}

void upstream_free(struct upstream *upstream)
{
    if (!upstream)
        return;
    struct ev_loop *loop = upstream->gateway.loop;
    for (size_t i = 0; i < upstream->server_count; i++)
        upstream_server_deinit(&upstream->servers[i]);
    ev_timer_stop(loop, &upstream->retry);
    ev_timer_stop(loop, &upstream->pause);
    (void)ev_clear_pending(loop, &upstream->change);
    deadline_list_deinit(&upstream->gateway.send);
    deadline_list_deinit(&upstream->gateway.response);
    deadline_list_deinit(&upstream->gateway.tunnel);
    deadline_list_deinit(&upstream->hold);
    deadline_list_deinit(&upstream->again);
    deadline_list_deinit(&upstream->idle);
    deadline_list_deinit(&upstream->connect);
    free(upstream->servers);
    free(upstream);
}
