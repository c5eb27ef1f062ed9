#include "upstream/upstream.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "fds.h"
#include "sockets.h"

/*
 * An upstream of servers on sockets in a folder, each of which listens when the test says so, and
 * clients, who ask for backends and give them back.
 */

enum { SERVERS = 2, CLIENTS = 40 };

struct client {
    struct demand demand;
    struct backend *backend;
    unsigned granted, refused, status, order;
    char why[256];
    bool waits;
    void (*then)(struct client *client); /* from within granted() or refused() */
};

static struct ev_loop *loop;
static struct config_upstream config;
static struct config_server servers[SERVERS];
static struct counters counters;
static struct upstream *upstream;
static struct client clients[CLIENTS];
static unsigned order;
static char folder[32];
static int listening[SERVERS];
static int accepted[100];
static unsigned accepted_count;
static size_t fds;

/* ---- the world ---- */

static void listen_at(size_t i)
{
    const struct address *address = &servers[i].address;

    (void)unlink(address->local.sun_path);
    listening[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listening[i], &address->any, address->length), 0);
    assert_int_equal(listen(listening[i], 100), 0);
}

static int set_up(void **state)
{
    static const char *const names[SERVERS] = {"one", "two"};

    (void)state;
    fds = fds_open();
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    strcpy(folder, "/tmp/baton-upstream-XXXXXX");
    assert_non_null(mkdtemp(folder));
    config = (struct config_upstream){
        .name = (char *)"shop",
        .servers = servers,
        .server_count = 1,
        .max_idle = 10,
        .max_waiting = 100,
        .max_fails = 3,
        .fail_timeout_usec = 10 * USEC_PER_SEC,
        .connect_timeout_usec = 20 * USEC_PER_SEC,
        .send_timeout_usec = USEC_PER_SEC,
        .response_timeout_usec = USEC_PER_SEC,
        .idle_timeout_usec = 60 * USEC_PER_SEC,
        .tunnel_timeout_usec = USEC_PER_SEC,
    };
    for (size_t i = 0; i < SERVERS; i++) {
        struct address *address = &servers[i].address;
        servers[i] = (struct config_server){.text = (char *)names[i], .weight = 1};
        address->local.sun_family = AF_UNIX;
        address->length = sizeof address->local;
        (void)snprintf(
            address->local.sun_path, sizeof address->local.sun_path, "%s/%s", folder, names[i]);
        listening[i] = -1;
    }
    memset(&counters, 0, sizeof counters);
    memset(clients, 0, sizeof clients);
    accepted_count = order = 0;
    return 0;
}

/* As configured by now. */
static void begin(void)
{
    struct reason reason;

    assert_int_equal(upstream_new(&config, loop, NULL, &counters, NULL, &upstream, &reason), 0);
    for (size_t i = 0; i < CLIENTS; i++)
        clients[i] = (struct client){.granted = 0};
}

static void give_back(size_t i, enum backend_end how)
{
    struct backend *backend = clients[i].backend;

    assert_non_null(backend);
    clients[i].backend = NULL;
    backend->gateway->calls->give_back(backend, how);
}

static void cancel(size_t i)
{
    assert_true(clients[i].waits);
    clients[i].waits = false;
    upstream->gateway.calls->cancel(&clients[i].demand);
}

static void end(void)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        if (clients[i].backend)
            give_back(i, BACKEND_CLOSED);
        if (clients[i].waits)
            cancel(i);
    }
    assert_int_equal(upstream->waiting_count, 0);
    for (size_t i = 0; i < upstream->server_count; i++)
        assert_int_equal(upstream->servers[i].lent, 0);
    upstream_free(upstream);
    upstream = NULL;
}

static int tear_down(void **state)
{
    (void)state;
    end();
    for (size_t i = 0; i < SERVERS; i++) {
        fd_close(listening[i]);
        (void)unlink(servers[i].address.local.sun_path);
    }
    while (accepted_count > 0)
        fd_close(accepted[--accepted_count]);
    (void)rmdir(folder);
    ev_loop_destroy(loop);
    assert_int_equal(fds_open(), fds);
    return 0;
}

static void turn(void)
{
    for (unsigned i = 0; i < 8; i++)
        ev_run(loop, EVRUN_NOWAIT);
}

static void on_alarm(struct ev_loop *of, ev_timer *timer, int events)
{
    (void)of;
    (void)timer;
    (void)events;
    fail_msg("what was waited for did not come");
}

static void wait_while(const bool *what)
{
    ev_timer alarm;

    ev_timer_init(&alarm, on_alarm, 20, 0);
    ev_timer_start(loop, &alarm);
    while (*what)
        ev_run(loop, EVRUN_ONCE);
    ev_timer_stop(loop, &alarm);
}

/* How many connections the server has got since the last time. */
static unsigned arrived(size_t i)
{
    unsigned count = 0;
    int fd;

    turn();
    while (listening[i] >= 0 && (fd = accept4(listening[i], NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        accepted[accepted_count++] = fd;
        count++;
    }
    return count;
}

/* ---- the clients ---- */

static void on_granted(struct demand *demand, struct backend *backend)
{
    struct client *client = CONTAINER_OF(demand, struct client, demand);

    assert_true(client->waits);
    client->waits = false;
    client->granted++;
    client->order = ++order;
    client->backend = backend;
    if (client->then)
        client->then(client);
}

static void on_refused(struct demand *demand, unsigned status, const char *why)
{
    struct client *client = CONTAINER_OF(demand, struct client, demand);

    assert_true(client->waits);
    client->waits = false;
    client->refused++;
    client->status = status;
    (void)snprintf(client->why, sizeof client->why, "%s", why);
    if (client->then)
        client->then(client);
}

static struct demand *prepare(size_t i)
{
    static const struct sockaddr_in6 peer = {.sin6_family = AF_UNIX};
    struct client *client = &clients[i];

    assert_null(client->backend);
    assert_false(client->waits);
    demand_init(&client->demand, &upstream->gateway, &peer);
    client->demand.granted = on_granted;
    client->demand.refused = on_refused;
    return &client->demand;
}

/* Returns what the gateway's ask() does. */
static int put(size_t i)
{
    struct client *client = &clients[i];
    const char *why;
    int r = upstream->gateway.calls->ask(
        &upstream->gateway, &client->demand, &client->backend, &client->status, &why);
    client->waits = r == DEMAND_WAITS;
    if (r == DEMAND_REFUSED)
        (void)snprintf(client->why, sizeof client->why, "%s", why);
    return r;
}

static int ask_for(size_t i, bool reusable, double patience)
{
    struct demand *demand = prepare(i);

    demand->reusable = reusable;
    demand->patience = patience;
    return put(i);
}

static int ask(size_t i)
{
    return ask_for(i, true, -1);
}

/* Asks, and has one in the end. */
static void get(size_t i)
{
    (void)ask(i);
    turn();
    assert_non_null(clients[i].backend);
}

/* ---- the pool ---- */

static void test_new_connections(void **state)
{
    (void)state;
    listen_at(0);
    begin();
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(ask(i), DEMAND_WAITS); /* until they are made */
    assert_int_equal(upstream->dialling, 3);
    assert_int_equal(arrived(0), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(clients[i].backend);
        assert_false(clients[i].backend->reused);
        assert_int_equal(clients[i].order, i + 1); /* in the order in which they came */
    }
    assert_int_equal(counters.values[COUNTER_BACKEND_DIALS], 3);
    assert_int_equal(counters.values[COUNTER_HELD], 0); /* nobody had to wait for a server */
    assert_int_equal(upstream->servers[0].requests, 3);
    assert_true(span_equal(upstream->gateway.calls->server_name(clients[0].backend), SPAN("one")));
}

static void test_kept_connections(void **state)
{
    (void)state;
    listen_at(0);
    begin();
    struct backend *backends[3];
    for (size_t i = 0; i < 3; i++) {
        get(i);
        backends[i] = clients[i].backend;
    }
    for (size_t i = 0; i < 3; i++)
        give_back(i, BACKEND_REUSABLE);
    assert_int_equal(upstream->servers[0].idle_count, 3);
    /* The one that was used last goes first. */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ask(i), DEMAND_GRANTED);
        assert_ptr_equal(clients[i].backend, backends[2 - i]);
        assert_true(clients[i].backend->reused);
        assert_true(list_empty(&clients[i].backend->deadline.link));
    }
    assert_int_equal(counters.values[COUNTER_BACKEND_REUSES], 3);
    give_back(0, BACKEND_REUSABLE);
    assert_int_equal(ask_for(0, false, -1), DEMAND_WAITS); /* who wants a new one gets that */
    turn();
    assert_false(clients[0].backend->reused);
    assert_int_equal(arrived(0), 4);
    give_back(1, BACKEND_CLOSED);
    give_back(2, BACKEND_FAILED);
    assert_int_equal(upstream->servers[0].idle_count, 1);
    upstream_release_idle(upstream);
    assert_int_equal(upstream->servers[0].idle_count, 0);
}

static void test_how_many_are_kept(void **state)
{
    (void)state;
    listen_at(0);
    config.max_idle = 2;
    begin();
    for (size_t i = 0; i < 4; i++)
        get(i);
    for (size_t i = 0; i < 4; i++)
        give_back(i, BACKEND_REUSABLE);
    assert_int_equal(upstream->servers[0].idle_count, 2);
    end();
    /* What begins with a PROXY header is for one client. */
    config.send_proxy = SEND_PROXY_V2;
    begin();
    get(0);
    give_back(0, BACKEND_REUSABLE);
    assert_int_equal(upstream->servers[0].idle_count, 0);
}

/* A backend closes a kept connection, or says something unasked; or its time is over. */
static void test_kept_connections_go(void **state)
{
    (void)state;
    listen_at(0);
    config.idle_timeout_usec = 20000;
    begin();
    for (unsigned i = 0; i < 3; i++) {
        get(0);
        assert_int_equal(arrived(0), 1);
        give_back(0, BACKEND_REUSABLE);
        assert_int_equal(upstream->servers[0].idle_count, 1);
        if (i == 0)
            fd_close(accepted[--accepted_count]);
        else if (i == 1)
            sockets_say(accepted[accepted_count - 1], "HTTP/1.1 408 Request Timeout\r\n\r\n");
        bool kept = true;
        while (kept) {
            ev_run(loop, EVRUN_ONCE);
            kept = upstream->servers[0].idle_count > 0;
        }
    }
    assert_int_equal(counters.values[COUNTER_BACKEND_FAILURES], 0);
}

/* ---- MaxConnections= ---- */

static void test_queue(void **state)
{
    (void)state;
    listen_at(0);
    config.max_connections = 2;
    config.hold_timeout_usec = 60 * USEC_PER_SEC;
    begin();
    get(0);
    get(1);
    for (size_t i = 2; i < 6; i++)
        assert_int_equal(ask(i), DEMAND_WAITS);
    assert_int_equal(counters.values[COUNTER_HELD], 4);
    turn();
    assert_int_equal(arrived(0), 2);
    cancel(3);
    struct backend *backend = clients[0].backend;
    give_back(0, BACKEND_REUSABLE);
    turn();
    assert_ptr_equal(clients[2].backend, backend); /* whoever waits longest */
    assert_null(clients[4].backend);
    give_back(1, BACKEND_CLOSED); /* then a new one is made */
    turn();
    assert_int_equal(arrived(0), 1);
    assert_non_null(clients[4].backend);
    give_back(2, BACKEND_FAILED);
    turn();
    assert_non_null(clients[5].backend);
    assert_int_equal(upstream->waiting_count, 0);
}

/* A kept connection gives way to a new one that somebody needs. */
static void test_kept_one_gives_way(void **state)
{
    (void)state;
    listen_at(0);
    config.max_connections = 1;
    config.hold_timeout_usec = 60 * USEC_PER_SEC;
    begin();
    get(0);
    assert_int_equal(ask_for(1, false, -1), DEMAND_WAITS);
    give_back(0, BACKEND_REUSABLE);
    turn();
    assert_non_null(clients[1].backend);
    assert_false(clients[1].backend->reused);
    assert_int_equal(upstream->servers[0].idle_count, 0);
    assert_int_equal(arrived(0), 2);
}

/* Who gives one back and asks at once does not overtake those who wait. */
static void test_nobody_overtakes(void **state)
{
    (void)state;
    listen_at(0);
    config.max_connections = 1;
    config.hold_timeout_usec = 60 * USEC_PER_SEC;
    begin();
    get(0);
    assert_int_equal(ask(1), DEMAND_WAITS);
    give_back(0, BACKEND_REUSABLE);
    assert_int_equal(ask(0), DEMAND_WAITS);
    turn();
    assert_non_null(clients[1].backend);
    assert_null(clients[0].backend);
    give_back(1, BACKEND_REUSABLE);
    turn();
    assert_non_null(clients[0].backend);
}

static void test_full_without_holding(void **state)
{
    (void)state;
    listen_at(0);
    config.max_connections = 1;
    begin();
    get(0);
    assert_int_equal(ask(1), DEMAND_REFUSED);
    assert_int_equal(clients[1].status, 503); /* it is only busy */
    assert_string_equal(clients[1].why, "one: it has MaxConnections= connections");
    end();
    /* While one is being made for another, who waits behind it is refused when that is done. */
    begin();
    assert_int_equal(ask(0), DEMAND_WAITS);
    assert_int_equal(ask(1), DEMAND_WAITS);
    turn();
    assert_non_null(clients[0].backend);
    assert_int_equal(clients[1].refused, 1);
    assert_int_equal(clients[1].status, 503);
}

static void test_max_waiting(void **state)
{
    (void)state;
    listen_at(0);
    config.max_connections = 1;
    config.max_waiting = 2;
    config.hold_timeout_usec = 60 * USEC_PER_SEC;
    begin();
    get(0);
    assert_int_equal(ask(1), DEMAND_WAITS);
    assert_int_equal(ask(2), DEMAND_WAITS);
    assert_int_equal(ask(3), DEMAND_REFUSED);
    assert_int_equal(clients[3].status, 503);
    assert_string_equal(clients[3].why, "MaxWaiting= requests wait already");
    cancel(1);
    assert_int_equal(ask(3), DEMAND_WAITS);
    end();
    /* Whose connection is being made is none of them. */
    config.max_waiting = 0;
    config.max_connections = 2;
    begin();
    assert_int_equal(ask(0), DEMAND_WAITS);
    assert_int_equal(ask(1), DEMAND_WAITS);
    assert_int_equal(ask(2), DEMAND_REFUSED);
    turn();
    assert_non_null(clients[0].backend);
    assert_non_null(clients[1].backend);
}

/* ---- servers that cannot be reached ---- */

static void test_unreachable_without_holding(void **state)
{
    (void)state;
    config.server_count = 2;
    begin();
    assert_int_equal(ask(0), DEMAND_REFUSED); /* neither is there */
    assert_int_equal(clients[0].status, 502);
    assert_non_null(strstr(clients[0].why, strerror(ENOENT)));
    assert_int_equal(counters.values[COUNTER_BACKEND_UNREACHED], 2);
    end();
    listen_at(1);
    begin();
    for (size_t i = 0; i < 4; i++) /* the other one is */
        get(i);
    assert_int_equal(arrived(1), 4);
    assert_true(upstream->servers[0].unreachable);
}

static void test_held_until_reachable(void **state)
{
    (void)state;
    config.hold_timeout_usec = 60 * USEC_PER_SEC;
    begin();
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(ask(i), DEMAND_WAITS);
    assert_int_equal(counters.values[COUNTER_HELD], 5);
    assert_int_equal(counters.values[COUNTER_BACKEND_UNREACHED], 1); /* one tries for all */
    while (counters.values[COUNTER_BACKEND_UNREACHED] < 4)           /* again and again */
        ev_run(loop, EVRUN_ONCE);
    assert_true(upstream->servers[0].retry_after > 0.1); /* at growing intervals */
    listen_at(0);
    for (size_t i = 0; i < 5; i++)
        wait_while(&clients[i].waits);
    for (size_t i = 0; i < 5; i++) {
        assert_non_null(clients[i].backend);
        assert_int_equal(clients[i].order, i + 1);
    }
    assert_int_equal(upstream->servers[0].unreachable, false);
    assert_false(ev_is_active(&upstream->retry)); /* nobody waits any more */
}

static void test_held_for_too_long(void **state)
{
    (void)state;
    config.hold_timeout_usec = 30000;
    begin();
    double began = clock_monotonic_seconds();
    assert_int_equal(ask(0), DEMAND_WAITS);
    assert_int_equal(ask_for(1, true, 0), DEMAND_WAITS); /* has waited elsewhere */
    wait_while(&clients[1].waits);
    assert_true(clients[0].waits);
    wait_while(&clients[0].waits);
    assert_true(clock_monotonic_seconds() - began >= 0.03);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(clients[i].status, 503);
        assert_non_null(strstr(clients[i].why, strerror(ENOENT)));
    }
}

static void test_no_servers(void **state)
{
    (void)state;
    config.server_count = 0;
    begin();
    assert_int_equal(ask(0), DEMAND_REFUSED);
    assert_int_equal(clients[0].status, 502);
    assert_string_equal(clients[0].why, "no server can be used now");
}

/* MaxFails= in FailTimeout=: others are preferred. */
static void test_failures(void **state)
{
    (void)state;
    config.server_count = 2;
    config.max_fails = 2;
    listen_at(0);
    listen_at(1);
    begin();
    struct upstream_server *server = NULL;
    for (unsigned i = 0; i < 2; i++) {
        do { /* of the same one */
            if (clients[0].backend)
                give_back(0, BACKEND_CLOSED);
            get(0);
            server = server ? server : clients[0].backend->server;
        } while (clients[0].backend->server != server);
        give_back(0, BACKEND_FAILED);
    }
    assert_true(upstream_server_is_avoided(server, clock_monotonic_seconds()));
    for (size_t i = 1; i < 6; i++) {
        get(i);
        assert_ptr_not_equal(clients[i].backend->server, server);
    }
    assert_int_equal(counters.values[COUNTER_BACKEND_FAILURES], 2);
    assert_int_equal(server->failures, 2);
}

/* The only server has just failed it: it asks again, but not at once. */
static void test_repeating(void **state)
{
    (void)state;
    config.server_count = 2;
    listen_at(0);
    begin();
    struct upstream_server *failed = &upstream->servers[0];
    struct upstream_server *other = &upstream->servers[1];
    get(0);
    for (unsigned there = 0; there < 2; there++) {
        (void)prepare(1);
        clients[1].demand.avoid = failed;
        clients[1].demand.patience = 7;
        if (there) { /* another one can be asked instead */
            listen_at(1);
            other->unreachable = false;
            assert_int_equal(put(1), DEMAND_WAITS);
            assert_int_equal(other->dialling, 1);
        } else {
            other->unreachable = true;
            other->retry_at = clock_monotonic_seconds() + 100;
            assert_int_equal(put(1), DEMAND_WAITS);
            assert_int_equal(upstream->dialling + upstream->waiting_count, 0);
            assert_true(demand_patience(&clients[1].demand) == 7); /* this is no waiting */
            give_back(0, BACKEND_REUSABLE);
            turn();
            assert_null(clients[1].backend);
        }
        wait_while(&clients[1].waits);
        assert_ptr_equal(clients[1].backend->server, there ? other : failed);
        give_back(1, BACKEND_CLOSED);
    }
    /* It is gone in the meantime: so it is refused, or waits as others do. */
    for (unsigned held = 0; held < 2; held++) {
        config.hold_timeout_usec = held ? 60 * USEC_PER_SEC : 0;
        (void)prepare(1);
        clients[1].demand.avoid = failed;
        other->unreachable = true;
        failed->unreachable = false;
        assert_int_equal(put(1), DEMAND_WAITS);
        failed->unreachable = true;
        failed->retry_at = other->retry_at;
        bool postponed = true;
        while (postponed) {
            ev_run(loop, EVRUN_ONCE);
            postponed = clients[1].demand.postponed;
        }
        assert_int_equal(clients[1].refused, 1);
        assert_int_equal(clients[1].waits, held);
        assert_int_equal(upstream->waiting_count, held);
    }
    cancel(1);
    /* Or who asked is. */
    (void)prepare(1);
    clients[1].demand.avoid = failed;
    failed->unreachable = false;
    assert_int_equal(put(1), DEMAND_WAITS);
    assert_true(clients[1].demand.postponed);
    cancel(1);
    assert_false(clients[1].demand.postponed);
}

/* ---- demands that go away ---- */

/* The connection that was made for it is there for the next. */
static void test_nobody_waits_any_more(void **state)
{
    (void)state;
    listen_at(0);
    begin();
    assert_int_equal(ask(0), DEMAND_WAITS);
    cancel(0);
    turn();
    assert_int_equal(arrived(0), 1);
    assert_int_equal(upstream->servers[0].idle_count, 1);
    assert_int_equal(upstream->servers[0].lent, 0);
    assert_int_equal(ask(1), DEMAND_GRANTED);
    end();
    /* Or its upstream is freed meanwhile. */
    begin();
    assert_int_equal(ask(0), DEMAND_WAITS);
    cancel(0);
    end();
    begin();
    (void)arrived(0);
}

static void cancel_the_next(struct client *client)
{
    cancel((size_t)(client - clients) + 1);
}

static void ask_again(struct client *client)
{
    client->then = NULL;
    if (client->backend)
        give_back((size_t)(client - clients), BACKEND_FAILED);
    (void)ask((size_t)(client - clients));
}

/* Whoever is granted or refused may do anything: end others that wait, or ask again. */
static void test_from_within(void **state)
{
    (void)state;
    for (unsigned there = 0; there < 2; there++)
        for (unsigned again = 0; again < 2; again++) {
            config.hold_timeout_usec = there ? 60 * USEC_PER_SEC : 10000;
            config.max_connections = 1;
            if (there && !again)
                listen_at(0);
            begin();
            for (size_t i = 0; i < 4; i++)
                assert_int_equal(ask(i), DEMAND_WAITS);
            clients[0].then = again ? ask_again : cancel_the_next;
            while (clients[0].granted + clients[0].refused == 0)
                ev_run(loop, EVRUN_ONCE);
            turn();
            if (there && again) {
                for (size_t i = 1; i < 4; i++) {
                    assert_non_null(clients[i].backend);
                    give_back(i, BACKEND_REUSABLE);
                    turn();
                }
                assert_non_null(clients[0].backend);
            }
            end();
        }
    begin();
}

/* Without holding, all are refused in one go; who asks again is refused at once. */
static void test_refused_from_within(void **state)
{
    (void)state;
    listen_at(0);
    config.max_connections = 1;
    begin();
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(ask(i), DEMAND_WAITS);
    clients[1].then = ask_again;
    turn();
    assert_non_null(clients[0].backend);
    for (size_t i = 1; i < 4; i++)
        assert_int_equal(clients[i].refused, 1);
    assert_false(clients[1].waits);
}

/* ---- pausing ---- */

static void test_pause(void **state)
{
    (void)state;
    listen_at(0);
    begin(); /* also where nobody holds */
    get(0);
    give_back(0, BACKEND_REUSABLE);
    upstream_pause(upstream, 60);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(ask(i), DEMAND_WAITS);
    turn();
    for (size_t i = 0; i < 3; i++)
        assert_true(clients[i].waits);
    assert_int_equal(counters.values[COUNTER_HELD], 3);
    cancel(1);
    upstream_resume(upstream);
    turn();
    assert_non_null(clients[0].backend);
    assert_non_null(clients[2].backend);
    upstream_resume(upstream); /* once more does nothing */
    assert_int_equal(ask(1), DEMAND_WAITS);
    turn();
    assert_non_null(clients[1].backend);
}

static void test_pause_is_over(void **state)
{
    (void)state;
    listen_at(0);
    begin();
    upstream_pause(upstream, 0.01);
    assert_int_equal(ask(0), DEMAND_WAITS);
    wait_while(&clients[0].waits);
    assert_non_null(clients[0].backend);
    assert_false(upstream->paused);
}

/* Who waited before the pause does not run out of time in it, and has all of it afterwards. */
static void test_pause_stops_the_clock(void **state)
{
    (void)state;
    config.hold_timeout_usec = 30000;
    begin();
    assert_int_equal(ask(0), DEMAND_WAITS);
    upstream_pause(upstream, 60);
    assert_true(deadline_left(&clients[0].demand.deadline) < 0);
    upstream_resume(upstream);
    assert_true(deadline_left(&clients[0].demand.deadline) > 0.02);
    wait_while(&clients[0].waits);
    assert_int_equal(clients[0].status, 503);
}

/* A connection that was being made when the pause came: it is kept, or tried no more. */
static void test_dial_in_a_pause(void **state)
{
    (void)state;
    listen_at(0);
    begin();
    assert_int_equal(ask(0), DEMAND_WAITS);
    upstream_pause(upstream, 60);
    turn();
    assert_true(clients[0].waits);
    assert_int_equal(upstream->servers[0].idle_count, 1);
    end();

    config.hold_timeout_usec = 60 * USEC_PER_SEC;
    begin();
    assert_int_equal(ask(0), DEMAND_WAITS);
    upstream_pause(upstream, 60);
    dial_expired(&upstream->servers[0].dials[0].deadline); /* it fails */
    assert_true(upstream->servers[0].unreachable);
    turn();
    assert_true(clients[0].waits);
    assert_false(ev_is_active(&upstream->retry)); /* nobody looks before the pause is over */
    upstream_resume(upstream);
    wait_while(&clients[0].waits);
    assert_non_null(clients[0].backend);
}

/* A server without room is not looked at again and again: who goes makes room. */
static void test_no_spinning_without_room(void **state)
{
    (void)state;
    config.max_connections = 1;
    config.hold_timeout_usec = 60 * USEC_PER_SEC;
    begin();
    assert_int_equal(ask(0), DEMAND_WAITS); /* it cannot be reached */
    int pair[2];
    sockets_pair(pair, false); /* and a tunnel came from another worker */
    clients[1].backend = upstream->gateway.calls->adopt(&upstream->gateway, pair[0], SPAN("one"));
    assert_int_equal(upstream->servers[0].lent, 1);
    upstream->servers[0].retry_at = 0;
    upstream_go_on(upstream);
    turn();
    assert_false(ev_is_active(&upstream->retry));
    listen_at(0);
    give_back(1, BACKEND_CLOSED);
    wait_while(&clients[0].waits);
    assert_non_null(clients[0].backend);
    fd_close(pair[1]);
}

/* ---- from other workers ---- */

static void test_adopt(void **state)
{
    static const struct {
        struct span server;
        bool known;
    } cases[] = {{SPAN("one"), true}, {SPAN("gone"), false}, {{NULL, 0}, false}};

    (void)state;
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int pair[2];
        sockets_pair(pair, false);
        clients[i].backend =
            upstream->gateway.calls->adopt(&upstream->gateway, pair[0], cases[i].server);
        struct backend *backend = clients[i].backend;
        assert_non_null(backend);
        assert_int_equal(backend->server != NULL, cases[i].known);
        struct span name = upstream->gateway.calls->server_name(backend);
        assert_true(span_equal(name, cases[i].known ? cases[i].server : SPAN("")));
        assert_int_equal(upstream->servers[0].lent, cases[i].known);
        give_back(i, BACKEND_REUSABLE);
        assert_int_equal(upstream->servers[0].idle_count, i == 0 ? 1 : 0);
        upstream_release_idle(upstream);
        fd_close(pair[1]);
    }
}

#define UPSTREAM(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UPSTREAM(test_new_connections),
        UPSTREAM(test_kept_connections),
        UPSTREAM(test_how_many_are_kept),
        UPSTREAM(test_kept_connections_go),
        UPSTREAM(test_queue),
        UPSTREAM(test_kept_one_gives_way),
        UPSTREAM(test_nobody_overtakes),
        UPSTREAM(test_full_without_holding),
        UPSTREAM(test_max_waiting),
        UPSTREAM(test_unreachable_without_holding),
        UPSTREAM(test_held_until_reachable),
        UPSTREAM(test_held_for_too_long),
        UPSTREAM(test_no_servers),
        UPSTREAM(test_failures),
        UPSTREAM(test_repeating),
        UPSTREAM(test_nobody_waits_any_more),
        UPSTREAM(test_from_within),
        UPSTREAM(test_refused_from_within),
        UPSTREAM(test_pause),
        UPSTREAM(test_pause_is_over),
        UPSTREAM(test_pause_stops_the_clock),
        UPSTREAM(test_dial_in_a_pause),
        UPSTREAM(test_no_spinning_without_room),
        UPSTREAM(test_adopt),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
