#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

#define MANY 200

/* accept4(2) fails with these, one after the other, before it does what it always does. */
static const int *failures;

int accept4(int fd, __SOCKADDR_ARG peer, socklen_t *restrict length, int flags)
{
    if (failures && *failures) {
        errno = *failures++;
        return -1;
    }
    return (int)syscall(SYS_accept4, fd, peer.__sockaddr__, length, flags);
}

static struct ev_loop *loop;
static struct listener listener;
static int listening;
static struct address address; /* where it listens */

/* What became of it. */
static struct {
    int fds[MANY];
    struct address peers[MANY];
    size_t count;
    size_t wanted; /* the listener is paused when there are so many */
    size_t share;  /* with so many it leaves the next ones to others */
    int errors[4];
    size_t error_count;
} seen;

static bool on_accepted(struct listener *which, int fd, const struct address *peer)
{
    assert_ptr_equal(which, &listener);
    assert_ptr_equal(which->owner, &seen);
    assert_true(seen.count < MANY);
    seen.peers[seen.count] = *peer;
    seen.fds[seen.count++] = fd;
    if (seen.count != seen.wanted)
        return true;
    listener_pause(&listener);
    return false;
}

static void on_exhausted(struct listener *which, int error)
{
    assert_ptr_equal(which, &listener);
    assert_true(seen.error_count < sizeof seen.errors / sizeof *seen.errors);
    seen.errors[seen.error_count++] = error;
}

static bool on_yields(struct listener *which)
{
    assert_ptr_equal(which, &listener);
    return seen.count >= seen.share;
}

static const struct listener_calls calls = {on_accepted, on_exhausted, on_yields};

static int set_up(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof seen);
    seen.share = MANY;
    failures = NULL;
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (!loop || listening < 0 || address_parse("127.0.0.1:1", &address, NULL) < 0)
        return -1;
    address.ipv4.sin_port = 0;
    if (bind(listening, &address.any, address.length) < 0 || listen(listening, 2 * MANY) < 0)
        return -1;
    listener_init(&listener, loop, listening, &calls, &seen);
    return address_of_socket(listening, &address);
}

static int tear_down(void **state)
{
    (void)state;
    listener_pause(&listener);
    for (size_t i = 0; i < seen.count; i++)
        fd_close(seen.fds[i]);
    fd_close(listening);
    ev_loop_destroy(loop);
    return 0;
}

/* A client; its connection lies in the kernel's queue once connect(2) has returned. */
static int join(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, &address.any, address.length), 0);
    return fd;
}

static void run_until(size_t count)
{
    while (seen.count < count)
        (void)ev_run(loop, EVRUN_ONCE);
    assert_int_equal(seen.count, count);
}

/* What is due now happens, and nothing else. */
static void run_once(void)
{
    (void)ev_run(loop, EVRUN_NOWAIT);
}

static void test_accepts(void **state)
{
    CLEANUP_FD int client = join();
    struct address own;

    (void)state;
    run_once();
    assert_int_equal(seen.count, 0); /* it starts paused */
    listener_resume(&listener);
    run_until(1);
    assert_int_equal(fcntl(seen.fds[0], F_GETFD), FD_CLOEXEC);
    assert_true(fcntl(seen.fds[0], F_GETFL) & O_NONBLOCK);
    assert_int_equal(address_of_socket(client, &own), 0);
    assert_true(address_equal(&own, &seen.peers[0]));
    assert_int_equal(own.length, seen.peers[0].length);
}

static void test_pause(void **state)
{
    (void)state;
    listener_resume(&listener);
    listener_pause(&listener);
    CLEANUP_FD int first = join();
    run_once();
    assert_int_equal(seen.count, 0);
    listener_resume(&listener);
    listener_resume(&listener);
    run_until(1);
    CLEANUP_FD int second = join();
    run_until(2);
    (void)first;
    (void)second;
}

/* What nobody else takes is taken all the same, a moment later. */
static void test_yields(void **state)
{
    int clients[5];

    (void)state;
    seen.share = 3;
    for (size_t i = 0; i < 5; i++)
        clients[i] = join();
    listener_resume(&listener);
    run_once();
    run_once();
    assert_int_equal(seen.count, 3);
    seen.share = 4;
    run_until(4);
    run_once();
    assert_int_equal(seen.count, 4);
    run_until(5);
    CLEANUP_FD int last = join();
    run_until(6);
    (void)last;
    for (size_t i = 0; i < 5; i++)
        fd_close(clients[i]);
}

/* All that have come, in as many turns as it takes; then it stops where it is told to. */
static void test_burst(void **state)
{
    int clients[MANY];

    (void)state;
    for (size_t i = 0; i < MANY; i++)
        clients[i] = join();
    seen.wanted = MANY - 3;
    listener_resume(&listener);
    run_once();
    assert_true(seen.count > 1 && seen.count < MANY / 2); /* others get their turn, too */
    run_until(MANY - 3);
    run_once();
    assert_int_equal(seen.count, MANY - 3);
    listener_resume(&listener);
    run_until(MANY);
    for (size_t i = 0; i < MANY; i++)
        fd_close(clients[i]);
}

/* accept(2): errors of the connection that would have come; the next one is fine. */
static void test_errors_of_one_connection(void **state)
{
    static const int passing[] = {ECONNABORTED, EPERM, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN,
        ENONET, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, EINTR, 0};
    CLEANUP_FD int client = join();

    (void)state;
    (void)client;
    failures = passing;
    listener_resume(&listener);
    run_once();
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.error_count, 0);
}

static void test_exhausted(void **state)
{
    static const int lacking[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};

    (void)state;
    for (size_t i = 0; i < sizeof lacking / sizeof *lacking; i++) {
        CLEANUP_FD int client = join();
        const int once[] = {lacking[i], 0};
        (void)client;
        failures = once;
        listener_resume(&listener);
        run_once();
        assert_int_equal(seen.error_count, i + 1);
        assert_int_equal(seen.errors[i], lacking[i]);
        run_once(); /* it does not spin: the socket is not watched for a second */
        assert_int_equal(seen.count, i);
        assert_true(ev_is_active(&listener.retry));
        assert_true(ev_timer_remaining(loop, &listener.retry) > 0.5);
        ev_feed_event(loop, &listener.retry, EV_TIMER); /* the second is over */
        ev_timer_stop(loop, &listener.retry);
        ev_feed_event(loop, &listener.retry, EV_TIMER);
        run_until(i + 1);
    }
    failures = NULL;
}

static void test_paused_while_exhausted(void **state)
{
    static const int once[] = {EMFILE, 0};
    CLEANUP_FD int client = join();

    (void)state;
    (void)client;
    failures = once;
    listener_resume(&listener);
    run_once();
    assert_int_equal(seen.error_count, 1);
    listener_pause(&listener);
    assert_false(ev_is_active(&listener.retry));
    assert_false(ev_is_active(&listener.io));
    listener_resume(&listener); /* before the second is over */
    run_until(1);
}

static void test_accept_queued(void **state)
{
    static const int passing[] = {ECONNABORTED, 0};
    int clients[MANY];

    (void)state;
    listener_accept_queued(&listener);
    assert_int_equal(seen.count, 0);
    for (size_t i = 0; i < MANY; i++)
        clients[i] = join();
    failures = passing;
    listener_accept_queued(&listener); /* though it is paused */
    assert_int_equal(seen.count, MANY);
    assert_false(ev_is_active(&listener.io));
    for (size_t i = 0; i < MANY; i++)
        fd_close(clients[i]);
}

/* unix(7): a client's name of 108 bytes leaves no room for a NUL. */
static void test_longest_peer(void **state)
{
    char folder[] = "/tmp/net_listener.XXXXXX", text[ADDRESS_TEXT_MAX];
    struct address name = {.local.sun_family = AF_UNIX, .length = sizeof name.local};
    int at = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CLEANUP_FD int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_non_null(mkdtemp(folder));
    memset(name.local.sun_path, 'x', sizeof name.local.sun_path);
    memcpy(name.local.sun_path, folder, strlen(folder));
    name.local.sun_path[strlen(folder)] = '/';
    assert_int_equal(address_parse("unix:@baton-test-net-listener", &address, NULL), 0);
    assert_int_equal(bind(at, &address.any, address.length), 0);
    assert_int_equal(listen(at, 1), 0);
    assert_int_equal(bind(client, &name.any, name.length), 0);
    assert_int_equal(connect(client, &address.any, address.length), 0);
    fd_close(listening);
    listening = at;
    listener_init(&listener, loop, at, &calls, &seen);
    listener_accept_queued(&listener);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.peers[0].length, sizeof name.local);
    assert_int_equal(strlen(address_format(&seen.peers[0], text)), 5 + 108);
    assert_int_equal(unlink(text + 5), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_accepts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pause, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_yields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_burst, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_errors_of_one_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_exhausted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_paused_while_exhausted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_accept_queued, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_longest_peer, set_up, tear_down),
    };

    (void)alarm(60); /* for an event that never comes */
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
