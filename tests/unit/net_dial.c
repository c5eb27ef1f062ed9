#include "net/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "fds.h"

static struct ev_loop *loop;
static struct dial dial;
static struct deadline_list timeout;
static struct address local, tcp; /* where somebody listens */
static int local_fd, tcp_fd;
static char folder[32];
static size_t fds;

static struct {
    unsigned count;
    int fd, error;
    const struct address *again; /* where the next one goes, from within the call */
} done;

static void on_done(struct dial *its, int fd, int error)
{
    assert_ptr_equal(its, &dial);
    assert_ptr_equal(its->owner, &done);
    assert_false(dial_is_active(its));
    done.count++;
    done.fd = fd;
    done.error = error;
    if (done.again) {
        const struct address *next = done.again;
        done.again = NULL;
        fd_close(fd);
        assert_int_equal(dial_start(its, next, &timeout), 0);
    }
}

static void listen_at(struct address *address, int *ret_fd)
{
    *ret_fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(*ret_fd >= 0);
    assert_int_equal(bind(*ret_fd, &address->any, address->length), 0);
    assert_int_equal(listen(*ret_fd, 0), 0);
    if (address->any.sa_family == AF_INET)
        assert_int_equal(getsockname(*ret_fd, &address->any, &address->length), 0);
}

static struct address in_folder(const char *name)
{
    struct address address = {.local = {.sun_family = AF_UNIX}, .length = sizeof address.local};

    (void)snprintf(address.local.sun_path, sizeof address.local.sun_path, "%s/%s", folder, name);
    return address;
}

static int set_up(void **state)
{
    (void)state;
    fds = fds_open();
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    strcpy(folder, "/tmp/baton-dial-XXXXXX");
    assert_non_null(mkdtemp(folder));
    local = in_folder("socket");
    tcp = (struct address){.ipv4 = {.sin_family = AF_INET}, .length = sizeof tcp.ipv4};
    tcp.ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listen_at(&local, &local_fd);
    listen_at(&tcp, &tcp_fd);
    memset(&done, 0, sizeof done);
    deadline_list_init(&timeout, loop, 20, dial_expired);
    dial_init(&dial, loop, on_done, &done);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_false(dial_is_active(&dial));
    assert_true(list_empty(&timeout.entries));
    deadline_list_deinit(&timeout);
    fd_close(local_fd);
    fd_close(tcp_fd);
    (void)unlink(local.local.sun_path);
    (void)rmdir(folder);
    ev_loop_destroy(loop);
    assert_int_equal(fds_open(), fds);
    return 0;
}

static void wait_until_done(void)
{
    unsigned before = done.count;

    while (done.count == before)
        ev_run(loop, EVRUN_ONCE);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;

    assert_int_equal(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

static void test_connects(void **state)
{
    const struct address *const addresses[] = {&local, &tcp};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(dial_start(&dial, addresses[i], i == 0 ? NULL : &timeout), 0);
        assert_true(dial_is_active(&dial));
        assert_int_equal(done.count, i); /* it comes later */
        wait_until_done();
        assert_int_equal(done.error, 0);
        assert_true(fcntl(done.fd, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(done.fd, F_GETFD) & FD_CLOEXEC);
        if (i == 1) {
            assert_int_not_equal(option(done.fd, IPPROTO_TCP, TCP_NODELAY), 0);
            assert_int_not_equal(option(done.fd, SOL_SOCKET, SO_KEEPALIVE), 0);
        }
        CLEANUP_FD int peer = accept(i == 0 ? local_fd : tcp_fd, NULL, NULL);
        char byte;
        assert_int_equal(write(done.fd, "x", 1), 1);
        assert_int_equal(read(peer, &byte, 1), 1);
        fd_close(done.fd);
    }
}

static void test_nobody_is_there(void **state)
{
    struct address missing = in_folder("missing");

    (void)state;
    /* At once: nothing has begun. */
    assert_int_equal(dial_start(&dial, &missing, &timeout), -ENOENT);
    assert_false(dial_is_active(&dial));
    /* Later. */
    fd_close(tcp_fd);
    assert_int_equal(dial_start(&dial, &tcp, &timeout), 0);
    wait_until_done();
    assert_int_equal(done.fd, -1);
    assert_int_equal(done.error, ECONNREFUSED);
    assert_int_equal(done.count, 1);
    fd_close(local_fd);
    assert_int_equal(dial_start(&dial, &local, &timeout), -ECONNREFUSED);
    tcp_fd = local_fd = -1;
}

/* Whose queue is full does not answer (tcp(7)), or says so at once (unix(7)). */
static void test_full_queues(void **state)
{
    int queued[4], count = 0;

    (void)state;
    for (int r = 0; r == 0 && count < 4; count += r == 0) {
        queued[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        r = connect(queued[count], &local.any, local.length);
        if (r < 0)
            fd_close(queued[count]);
    }
    assert_int_equal(dial_start(&dial, &local, &timeout), -EAGAIN);
    while (count > 0)
        fd_close(queued[--count]);

    timeout.seconds = 0.02;
    for (; count < 4; count++) {
        queued[count] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(queued[count], &tcp.any, tcp.length);
    }
    assert_int_equal(dial_start(&dial, &tcp, &timeout), 0);
    wait_until_done();
    assert_int_equal(done.fd, -1);
    assert_int_equal(done.error, ETIMEDOUT);
    while (count > 0)
        fd_close(queued[--count]);
}

static void test_cancel(void **state)
{
    (void)state;
    dial_cancel(&dial); /* nothing */
    assert_int_equal(dial_start(&dial, &tcp, &timeout), 0);
    dial_cancel(&dial);
    assert_false(dial_is_active(&dial));
    for (unsigned i = 0; i < 8; i++)
        ev_run(loop, EVRUN_NOWAIT);
    assert_int_equal(done.count, 0);
    /* Also when the event is there already: a second loop's turn would call. */
    assert_int_equal(dial_start(&dial, &local, &timeout), 0);
    ev_feed_event(loop, &dial.io, EV_WRITE);
    dial_cancel(&dial);
    for (unsigned i = 0; i < 8; i++)
        ev_run(loop, EVRUN_NOWAIT);
    assert_int_equal(done.count, 0);
}

static void test_again_from_within(void **state)
{
    (void)state;
    done.again = &local;
    assert_int_equal(dial_start(&dial, &tcp, &timeout), 0);
    wait_until_done();
    assert_true(dial_is_active(&dial));
    wait_until_done();
    assert_int_equal(done.error, 0);
    fd_close(done.fd);
}

#define DIALLING(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIALLING(test_connects),
        DIALLING(test_nobody_is_there),
        DIALLING(test_full_queues),
        DIALLING(test_cancel),
        DIALLING(test_again_from_within),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
