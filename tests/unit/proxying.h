#pragma once

/*
 * For tests of connections whose requests or bytes go to backends: servers over one loop, clients
 * and backends at the other ends of socket pairs, and between them a gateway that does what the
 * test wants. A test includes <cmocka.h> before this.
 */

#include <ev.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fd.h"
#include "connection/connection.h"
#include "fds.h"
#include "sockets.h"

enum manner { GRANTS, LETS_WAIT, REFUSES };

struct fake {
    struct gateway gateway;
    enum manner manner;
    bool reused, small; /* what is granted */
    int fds[64];        /* the backends' ends, in the order in which they were granted */
    unsigned granted, asked, cancelled, lent, given_back;
    struct demand *waits, *last; /* the last one */
    bool reusable;               /* what it said */
    struct upstream_server *avoid;
    double patience;
    enum backend_end how; /* the last one came back */
};

struct place {
    struct server server;
    struct counters counters;
    struct config config;
    struct access_log log;
    struct fake fake;
    struct handler proxy, local;
    bool no_route; /* the proxy's is gone */
    unsigned failed, failed_status;
    char why[128];
};

enum { PLACES = 2, PLAIN = 1, TUNNEL = 5, PROXY_HEADER = 6, PROXY_HEADER_AND_TUNNEL = 7 };

static struct ev_loop *loop;
static struct place places[PLACES];
static char log_path[32];
static size_t fds_before;

/* ---- the gateway ---- */

static inline struct fake *fake_of(struct gateway *gateway)
{
    return CONTAINER_OF(gateway, struct fake, gateway);
}

static inline struct backend *fake_lend(struct fake *fake, int fd)
{
    struct backend *backend = calloc(1, sizeof *backend);

    assert_non_null(backend);
    backend->gateway = &fake->gateway;
    backend->server = (struct upstream_server *)fake; /* nobody looks into it */
    list_init(&backend->link);
    deadline_init(&backend->deadline);
    ev_io_init(&backend->io, NULL, fd, EV_READ);
    fake->lent++;
    return backend;
}

static inline struct backend *fake_make(struct fake *fake)
{
    int pair[2];

    sockets_pair(pair, fake->small);
    assert_true(fake->granted < sizeof fake->fds / sizeof *fake->fds);
    fake->fds[fake->granted++] = pair[1];
    struct backend *backend = fake_lend(fake, pair[0]);
    backend->reused = fake->reused;
    return backend;
}

static inline int fake_ask(struct gateway *gateway, struct demand *demand,
    struct backend **ret_backend, unsigned *ret_status, const char **ret_why)
{
    struct fake *fake = fake_of(gateway);

    fake->asked++;
    fake->last = demand;
    fake->reusable = demand->reusable;
    fake->avoid = demand->avoid;
    fake->patience = demand->patience;
    switch (fake->manner) {
    case GRANTS:
        *ret_backend = fake_make(fake);
        return DEMAND_GRANTED;
    case LETS_WAIT:
        assert_null(fake->waits);
        fake->waits = demand;
        return DEMAND_WAITS;
    default:
        *ret_status = 502;
        *ret_why = "refused at once";
        return DEMAND_REFUSED;
    }
}

static inline void fake_cancel(struct demand *demand)
{
    struct fake *fake = fake_of(demand->gateway);

    assert_ptr_equal(fake->waits, demand);
    deadline_disarm(&demand->deadline);
    fake->waits = NULL;
    fake->cancelled++;
}

static inline void fake_give_back(struct backend *backend, enum backend_end how)
{
    struct fake *fake = fake_of(backend->gateway);

    assert_true(fake->lent > 0);
    fake->lent--;
    fake->given_back++;
    fake->how = how;
    ev_io_stop(loop, &backend->io);
    deadline_disarm(&backend->deadline);
    fd_close(backend->io.fd);
    free(backend);
}

static inline struct backend *fake_adopt(struct gateway *gateway, int fd, struct span server)
{
    assert_true(span_equal(server, SPAN("server")));
    return fake_lend(fake_of(gateway), fd);
}

static inline struct span fake_server_name(const struct backend *backend)
{
    (void)backend;
    return SPAN("server");
}

static const struct gateway_calls fake_calls = {
    fake_ask, fake_cancel, fake_give_back, fake_adopt, fake_server_name};

/* The demand that waits is granted, or refused. */
static inline void fake_grant(struct fake *fake)
{
    struct demand *demand = fake->waits;

    assert_non_null(demand);
    fake->waits = NULL;
    demand->granted(demand, fake_make(fake));
}

static inline void fake_refuse(struct fake *fake, unsigned status)
{
    struct demand *demand = fake->waits;

    assert_non_null(demand);
    fake->waits = NULL;
    demand->refused(demand, status, "refused later");
}

/* The backend that was granted last. */
static inline int fake_fd(const struct fake *fake)
{
    assert_true(fake->granted > 0);
    return fake->fds[fake->granted - 1];
}

static inline void fake_close(struct fake *fake)
{
    assert_true(fake->granted > 0);
    int *fd = &fake->fds[fake->granted - 1];
    *fd = fd_close(*fd);
}

/* ---- the servers ---- */

static inline int place_compose(struct handler *handler, const struct request *request,
    const struct sockaddr_in6 *peer, struct buffer *out)
{
    (void)handler;
    (void)peer;
    return buffer_printf(out, "%.*s %.*s\r\n\r\n", (int)request->method_text.length,
        request->method_text.at, (int)request->target.length, request->target.at);
}

static inline void place_fail(
    struct handler *handler, const struct request *request, unsigned status, struct answer *answer)
{
    (void)handler;
    (void)request;
    answer_text(answer, status);
}

static inline void place_answer(
    struct handler *handler, const struct request *request, struct answer *answer)
{
    (void)handler;
    (void)request;
    answer->status = 200;
    answer_bytes(answer, SPAN("local"));
}

static inline struct handler *place_route(
    void *owner, unsigned listener, const struct request *request)
{
    struct place *place = owner;

    (void)listener;
    if (span_equal(request->path, SPAN("/local")))
        return &place->local;
    return place->no_route ? NULL : &place->proxy;
}

static inline void place_describe(
    void *owner, unsigned listener, struct span *ret_name, bool *ret_admin)
{
    (void)owner;
    (void)listener;
    *ret_name = SPAN("http");
    *ret_admin = false;
}

static inline void place_ended(void *owner)
{
    (void)owner;
}

static inline void place_listener(void *owner, unsigned listener, struct listener_manner *ret)
{
    struct place *place = owner;

    ret->proxy_header = listener == PROXY_HEADER || listener == PROXY_HEADER_AND_TUNNEL;
    ret->tunnel =
        listener == TUNNEL || listener == PROXY_HEADER_AND_TUNNEL ? &place->fake.gateway : NULL;
}

static inline struct gateway *place_find_gateway(void *owner, struct span name)
{
    struct place *place = owner;

    assert_true(span_equal(name, SPAN("shop")));
    return &place->fake.gateway;
}

static inline void place_failed(void *owner, const struct request *request, const char *upstream,
    struct span server, unsigned status, const char *why)
{
    struct place *place = owner;

    (void)request;
    (void)server;
    assert_string_equal(upstream, "shop");
    place->failed++;
    place->failed_status = status;
    (void)snprintf(place->why, sizeof place->why, "%s", why);
}

static const struct server_calls place_calls = {
    .route = place_route,
    .describe = place_describe,
    .ended = place_ended,
    .listener = place_listener,
    .find_gateway = place_find_gateway,
    .failed = place_failed,
};

static inline void place_open(struct place *place)
{
    const double seconds = 60;
    struct reason reason;

    *place = (struct place){.config = {
                                .header_timeout_usec = 60 * USEC_PER_SEC,
                                .body_timeout_usec = 60 * USEC_PER_SEC,
                                .idle_timeout_usec = 60 * USEC_PER_SEC,
                                .send_timeout_usec = 60 * USEC_PER_SEC,
                                .linger_timeout_usec = 60 * USEC_PER_SEC,
                                .drain_timeout_usec = 60 * USEC_PER_SEC,
                                .head_size = 1024,
                                .max_body_size = 1 << 20,
                                .max_fields = 10,
                            }};
    struct gateway *gateway = &place->fake.gateway;
    *gateway = (struct gateway){.calls = &fake_calls, .loop = loop, .name = "shop", .retries = 2};
    deadline_list_init(&gateway->send, loop, seconds, exchange_send_expired);
    deadline_list_init(&gateway->response, loop, seconds, exchange_response_expired);
    deadline_list_init(&gateway->tunnel, loop, seconds, tunnel_expired);
    place->proxy = (struct handler){.gateway = gateway,
        .compose = place_compose,
        .fail = place_fail,
        .max_body_size = place->config.max_body_size};
    place->local.answer = place_answer;
    assert_int_equal(access_log_open(&place->log, ACCESS_JSON, log_path, &reason), 0);
    server_init(
        &place->server, loop, &place->config, &place->counters, &place->log, &place_calls, place);
}

static inline uint64_t place_count(const struct place *place, enum counter counter)
{
    return place->counters.values[counter];
}

/* Nothing is left of what has ended, and each connection ended once. */
static inline void place_close(struct place *place)
{
    server_destroy(&place->server);
    assert_int_equal(place->server.connection_count, 0);
    assert_int_equal(place->server.second_fd_count, 0);
    assert_int_equal(place->fake.lent, 0);
    assert_null(place->fake.waits);
    assert_int_equal(place_count(place, COUNTER_ACCEPTED) + place_count(place, COUNTER_ADOPTED),
        counters_ended(&place->counters) + place_count(place, COUNTER_END_MOVED));
    assert_true(list_empty(&place->fake.gateway.send.entries));
    assert_true(list_empty(&place->fake.gateway.response.entries));
    assert_true(list_empty(&place->fake.gateway.tunnel.entries));
    deadline_list_deinit(&place->fake.gateway.send);
    deadline_list_deinit(&place->fake.gateway.response);
    deadline_list_deinit(&place->fake.gateway.tunnel);
    for (unsigned i = 0; i < place->fake.granted; i++)
        fd_close(place->fake.fds[i]);
    access_log_close(&place->log);
}

static inline int proxying_set_up(void **state)
{
    (void)state;
    fds_before = fds_open();
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    assert_non_null(loop);
    strcpy(log_path, "/tmp/baton-proxying-XXXXXX");
    fd_close(mkstemp(log_path));
    for (size_t i = 0; i < PLACES; i++)
        place_open(&places[i]);
    return 0;
}

/* A client that is left open is the test's to close before. */
static inline int proxying_tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < PLACES; i++)
        place_close(&places[i]);
    ev_loop_destroy(loop);
    (void)unlink(log_path);
    assert_int_equal(fds_open(), fds_before);
    return 0;
}

#define PROXYING(test) cmocka_unit_test_setup_teardown(test, proxying_set_up, proxying_tear_down)

/* What can be done now is done. */
static inline void turn(void)
{
    for (int i = 0; i < 8; i++)
        ev_run(loop, EVRUN_NOWAIT);
}

static inline void proxying_alarm(struct ev_loop *of, ev_timer *timer, int events)
{
    (void)of;
    (void)timer;
    (void)events;
    fail_msg("what was waited for did not come");
}

/* Until the counter of the place has become another one. */
static inline void wait_for_count(const struct place *place, enum counter counter)
{
    uint64_t before = place_count(place, counter);
    ev_timer alarm;

    ev_timer_init(&alarm, proxying_alarm, 20, 0);
    ev_timer_start(loop, &alarm);
    while (place_count(place, counter) == before)
        ev_run(loop, EVRUN_ONCE);
    ev_timer_stop(loop, &alarm);
}

/* The client's end of a new connection; @small: the server can send little to it. */
static inline int connect_client(struct place *place, unsigned listener, bool small)
{
    struct address peer = {.local = {.sun_family = AF_UNIX}, .length = sizeof(sa_family_t)};
    int pair[2];

    sockets_pair(pair, small);
    server_accept(&place->server, pair[0], &peer, listener);
    return pair[1];
}

/* The same over TCP, whose resets can be seen. */
static inline int connect_over_tcp(struct place *place, unsigned listener)
{
    struct address any = {.ipv4 = {.sin_family = AF_INET}, .length = sizeof any.ipv4};
    CLEANUP_FD int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    any.ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(socket_fd, &any.any, any.length), 0);
    assert_int_equal(listen(socket_fd, 1), 0);
    assert_int_equal(getsockname(socket_fd, &any.any, &any.length), 0);
    assert_int_equal(connect(client, &any.any, any.length), 0);
    int fd = accept4(socket_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    server_accept(&place->server, fd, &any, listener);
    return client;
}

static inline struct connection *only_connection(const struct place *place)
{
    assert_int_equal(place->server.connection_count, 1);
    return CONTAINER_OF(place->server.connections.next, struct connection, link);
}

/* Says it, and lets the server read it. */
static inline void say(int fd, const char *text)
{
    sockets_say(fd, text);
    turn();
}

/* What has come, with Date fields taken out of it. */
static inline const char *hear(int fd)
{
    turn();
    char *text = (char *)sockets_read(fd, NULL);
    for (char *at = text; (at = strstr(at, "Date: "));) {
        const char *behind = strstr(at, "\r\n") + 2;
        memmove(at, behind, strlen(behind) + 1);
    }
    return text;
}

static inline bool is_closed(int fd)
{
    char byte;

    turn();
    return read(fd, &byte, 1) == 0;
}

/* The lines of the access log since the last time. */
static inline unsigned log_lines(const struct place *place)
{
    CLEANUP_FD int fd = open(log_path, O_RDWR | O_CLOEXEC);
    char text[8192];
    unsigned lines = 0;

    assert_int_equal(access_log_flush((struct access_log *)&place->log), 0);
    ssize_t n = read(fd, text, sizeof text);
    assert_int_equal(ftruncate(fd, 0), 0);
    for (ssize_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    return lines;
}
