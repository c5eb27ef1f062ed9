#include "upstream/probe.h"

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

/* A server that is probed, whose answers the test gives. */

static struct ev_loop *loop;
static struct config_upstream config;
static struct probe probe;
static struct address address;
static bool known; /* its address */
static int listening;
static char folder[32];
static unsigned changes, probes;
static char why[128];
static size_t fds;

static const struct address *on_address(void *owner)
{
    assert_ptr_equal(owner, &changes);
    return known ? &address : NULL;
}

static void on_changed(void *owner, bool up, const char *its)
{
    assert_ptr_equal(owner, &changes);
    assert_int_equal(up, !probe.down);
    changes++;
    (void)snprintf(why, sizeof why, "%s", its);
}

static const struct probe_calls calls = {on_address, on_changed};

static void listen_again(void)
{
    (void)unlink(address.local.sun_path);
    listening = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listening, &address.any, address.length), 0);
    assert_int_equal(listen(listening, 10), 0);
}

static int set_up(void **state)
{
    (void)state;
    fds = fds_open();
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    strcpy(folder, "/tmp/baton-probe-XXXXXX");
    assert_non_null(mkdtemp(folder));
    address = (struct address){.local = {.sun_family = AF_UNIX}, .length = sizeof address.local};
    (void)snprintf(address.local.sun_path, sizeof address.local.sun_path, "%s/socket", folder);
    listen_again();
    known = true;
    changes = probes = 0;
    config = (struct config_upstream){
        .probe = (char *)"/health?full",
        .probe_interval_usec = 2000,
        .probe_timeout_usec = 20 * USEC_PER_SEC,
        .probe_rise = 2,
        .probe_fall = 3,
        .probe_status_least = 200,
        .probe_status_most = 299,
    };
    return 0;
}

static void begin(void)
{
    probe_init(&probe, loop, &config, "shop.example", &calls, &changes);
}

static int tear_down(void **state)
{
    (void)state;
    probe_deinit(&probe);
    fd_close(listening);
    (void)unlink(address.local.sun_path);
    (void)rmdir(folder);
    ev_loop_destroy(loop);
    assert_int_equal(fds_open(), fds);
    return 0;
}

/* The next probe has come: the connection it is on, without what it said. */
static int take_probe(const char *expected)
{
    int fd;
    char text[1000];
    ssize_t n;

    while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
        ev_run(loop, EVRUN_ONCE);
    while ((n = read(fd, text, sizeof text - 1)) < 0)
        ev_run(loop, EVRUN_ONCE);
    text[n] = '\0';
    assert_string_equal(text, expected);
    probes++;
    return fd;
}

#define PROBE                                                                                      \
    "GET /health?full HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Baton\r\n"                     \
    "Connection: close\r\n\r\n"

/* One probe, answered so; "": closed without an answer. */
static void answer(const char *text)
{
    CLEANUP_FD int fd = take_probe(PROBE);

    if (text[0])
        sockets_say(fd, text);
    else
        fd = fd_close(fd);
    while (probe.io.fd >= 0)
        ev_run(loop, EVRUN_ONCE);
}

#define GOOD "HTTP/1.1 204 No Content\r\n\r\n"
#define BAD "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"

static void test_rise_and_fall(void **state)
{
    static const struct {
        const char *answer;
        bool down; /* afterwards */
    } steps[] = {
        {GOOD, false},
        {BAD, false},
        {BAD, false},
        {GOOD, false}, /* not in a row */
        {BAD, false},
        {BAD, false},
        {BAD, true},
        {BAD, true},
        {GOOD, true},
        {BAD, true},
        {GOOD, true},
        {GOOD, false},
        {BAD, false},
        {BAD, false},
        {BAD, true},
        {GOOD, true},
        {GOOD, false},
    };

    (void)state;
    begin();
    assert_false(probe.down); /* until it is known */
    unsigned expected = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        expected += steps[i].down != probe.down;
        answer(steps[i].answer);
        if (probe.down != steps[i].down)
            fail_msg("step %zu", i);
        assert_int_equal(changes, expected);
    }
    assert_string_equal(why, "its probe was answered with 204");
    assert_int_equal(expected, 4);
}

static void test_answers(void **state)
{
    static const struct {
        const char *answer;
        bool good;
        const char *why;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", true, "its probe was answered with 200"},
        {"HTTP/1.0 299 OK\r\n\r\n", true, "its probe was answered with 299"},
        {"HTTP/1.1 199 OK\r\n\r\n", false, "its probe was answered with 199"},
        {"HTTP/1.1 300 OK\r\n\r\n", false, "its probe was answered with 300"},
        {"nonsense\r\n\r\n", false, "its probe was answered with what is no response"},
        {"", false, "it closed before it answered its probe"},
    };

    (void)state;
    config.probe_rise = config.probe_fall = 1;
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!probe.down == cases[i].good) /* so that there is a change */
            answer(cases[i].good ? BAD : GOOD);
        answer(cases[i].answer);
        if (probe.down == cases[i].good)
            fail_msg("case %zu", i);
        assert_string_equal(why, cases[i].why);
    }
}

/* In pieces, and far too long. */
static void test_long_heads(void **state)
{
    static char line[1001];

    (void)state;
    config.probe_rise = config.probe_fall = 1;
    begin();
    CLEANUP_FD int fd = take_probe(PROBE);
    for (const char *c = BAD; *c; c++) {
        assert_int_equal(changes, 0);
        assert_int_equal(write(fd, c, 1), 1);
        ev_run(loop, EVRUN_NOWAIT);
        ev_run(loop, EVRUN_NOWAIT);
        if (changes > 0)
            break;
    }
    assert_int_equal(changes, 1);
    answer(GOOD);
    fd_close(fd);
    fd = take_probe(PROBE);
    memset(line, 'x', sizeof line - 1);
    memcpy(line, "A: ", 3);
    memcpy(line + sizeof line - 3, "\r\n", 2);
    sockets_say(fd, "HTTP/1.1 200 OK\r\n");
    for (unsigned i = 0; probe.io.fd >= 0 && i < 1000; i++) {
        (void)send(fd, line, sizeof line - 1, MSG_NOSIGNAL);
        ev_run(loop, EVRUN_NOWAIT);
    }
    assert_true(probe.down);
    assert_null(probe.head.bytes);
}

static void wait_for_change(void)
{
    unsigned before = changes;

    while (changes == before)
        ev_run(loop, EVRUN_ONCE);
}

static void test_nobody_answers(void **state)
{
    (void)state;
    config.probe_timeout_usec = 10000;
    begin();
    wait_for_change(); /* ProbeFall= of them time out */
    assert_true(probe.down);
    assert_string_equal(why, "its probe was not answered within ProbeTimeout=");
    /* It listens no more. */
    probe_deinit(&probe);
    listening = fd_close(listening);
    begin();
    wait_for_change();
    assert_string_equal(why, "its probe: Connection refused");
    listen_again();
    answer(GOOD);
    answer(GOOD);
    assert_false(probe.down);
    /* Its name is not known any more. */
    known = false;
    wait_for_change();
    assert_string_equal(why, "its name is not known");
}

/* A connection of our own says that it is one. */
static void test_send_proxy(void **state)
{
    (void)state;
    config.send_proxy = SEND_PROXY_V1;
    begin();
    CLEANUP_FD int fd = take_probe("PROXY UNKNOWN\r\n" PROBE);
    sockets_say(fd, GOOD);
}

static void test_none(void **state)
{
    (void)state;
    config.probe = NULL;
    begin();
    assert_int_equal(ev_run(loop, 0), 0); /* nothing to wait for */
    assert_int_equal(accept(listening, NULL, NULL), -1);
}

/* Within a probe. */
static void test_end(void **state)
{
    (void)state;
    begin();
    CLEANUP_FD int fd = take_probe(PROBE);
    sockets_say(fd, "HTTP/1.1 ");
    ev_run(loop, EVRUN_ONCE);
}

#define PROBING(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROBING(test_rise_and_fall),
        PROBING(test_answers),
        PROBING(test_long_heads),
        PROBING(test_nobody_answers),
        PROBING(test_send_proxy),
        PROBING(test_none),
        PROBING(test_end),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
