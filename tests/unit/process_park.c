#include "process/park.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/address.h"
#include "base/fd.h"
#include "fds.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What systemd does with its end of NOTIFY_SOCKET, as far as parking is concerned. */
static struct manager {
    int socket;
    size_t limit; /* FileDescriptorStoreMax= */
    struct stored {
        char name[32];
        int fd;
    } store[8];
    size_t count, most; /* in the store, and ever */
    bool silent;        /* reads nothing: it is not systemd */
} manager;

static struct inbox inbox;
static struct park park;
static struct ev_loop *loop;
static int found; /* -1: nobody was told yet */

static void on_found(void *owner, bool kept)
{
    assert_ptr_equal(owner, &manager);
    assert_int_equal(found, -1);
    found = kept;
}

static void store_fd(const char *name, int fd)
{
    if (manager.count == manager.limit || manager.count == COUNT(manager.store)) {
        fd_close(fd);
        return;
    }
    struct stored *stored = &manager.store[manager.count++];
    (void)snprintf(stored->name, sizeof stored->name, "%s", name);
    stored->fd = fd;
    if (manager.count > manager.most)
        manager.most = manager.count;
}

static void remove_fds(const char *name)
{
    size_t kept = 0;

    for (size_t i = 0; i < manager.count; i++) {
        if (strcmp(manager.store[i].name, name) == 0)
            fd_close(manager.store[i].fd);
        else
            manager.store[kept++] = manager.store[i];
    }
    manager.count = kept;
}

static int fd_in_store(const char *name)
{
    int fd = -1;

    for (size_t i = 0; i < manager.count; i++) {
        if (strcmp(manager.store[i].name, name) != 0)
            continue;
        assert_int_equal(fd, -1);
        fd = manager.store[i].fd;
    }
    return fd;
}

static void obey(const char *text, int fd)
{
    const char *name = strstr(text, "FDNAME=");
    char value[32] = "";

    if (name)
        (void)sscanf(name, "FDNAME=%31[^\n]", value);
    if (strncmp(text, "FDSTORE=1\n", 10) == 0) {
        assert_non_null(strstr(text, "\nFDPOLL=0"));
        assert_true(fd >= 0);
        store_fd(value, fd);
    } else if (strncmp(text, "FDSTOREREMOVE=1\n", 16) == 0) {
        assert_int_equal(fd, -1);
        remove_fds(value);
    } else {
        assert_string_equal(text, "BARRIER=1");
        fd_close(fd);
    }
}

static bool read_message(void)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    char text[256];
    struct iovec bytes = {text, sizeof text - 1};
    struct msghdr head = {.msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control};
    int fd = -1;
    ssize_t n = recvmsg(manager.socket, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n < 0)
        return false;
    text[n] = '\0';
    if (CMSG_FIRSTHDR(&head))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&head)), sizeof fd);
    obey(text, fd);
    return true;
}

/* Until neither side has anything more to do. */
static void let_run(void)
{
    do {
        while (!manager.silent && read_message())
            ;
        ev_run(loop, EVRUN_NOWAIT);
    } while (!manager.silent && read_message());
}

static int set_up(void **state)
{
    struct address address;
    char name[64];

    (void)state;
    (void)snprintf(name, sizeof name, "unix:@baton-test-park-%d", (int)getpid());
    (void)setenv("NOTIFY_SOCKET", name + strlen("unix:"), 1);
    manager = (struct manager){.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), .limit = 8};
    if (address_parse(name, &address, NULL) < 0 ||
        bind(manager.socket, &address.any, address.length) < 0)
        return -1;
    loop = ev_loop_new(EVFLAG_AUTO);
    found = -1;
    return loop ? inbox_open(&inbox) : -1;
}

static int tear_down(void **state)
{
    (void)state;
    park_destroy(&park);
    while (manager.count > 0)
        fd_close(manager.store[--manager.count].fd);
    fd_close(manager.socket);
    inbox_close(&inbox);
    ev_loop_destroy(loop);
    return unsetenv("NOTIFY_SOCKET");
}

static bool is_same(int a, int b)
{
    struct stat one, other;

    return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_ino == other.st_ino;
}

static void test_kept(void **state)
{
    (void)state;
    for (size_t limit = 2; limit <= COUNT(manager.store); limit++) {
        found = -1;
        manager.limit = limit;
        park_begin(&park, loop, &inbox, on_found, &manager);
        assert_int_equal(found, -1);
        let_run();
        assert_int_equal(found, true);
        assert_int_equal(manager.count, 2);
        assert_true(is_same(fd_in_store(INBOX_READ_NAME), inbox.read));
        assert_true(is_same(fd_in_store(INBOX_WRITE_NAME), inbox.write));
    }
    assert_int_equal(manager.most, 2);
}

/* Half an inbox is of no use: nothing is left there. */
static void test_not_kept(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < 2; limit++) {
        found = -1;
        manager.limit = limit;
        park_begin(&park, loop, &inbox, on_found, &manager);
        let_run();
        assert_int_equal(found, false);
        assert_int_equal(manager.count, 0);
    }
}

/* An instance that was killed at any point has left some of these. */
static void test_leftovers(void **state)
{
    static const char *const names[] = {INBOX_READ_NAME, INBOX_WRITE_NAME, INBOX_PROBE_NAME};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++)
        store_fd(names[i], open("/dev/null", O_RDONLY | O_CLOEXEC));
    manager.limit = 2;
    park_begin(&park, loop, &inbox, on_found, &manager);
    let_run();
    assert_int_equal(found, true);
    assert_int_equal(manager.count, 2);
    assert_true(is_same(fd_in_store(INBOX_READ_NAME), inbox.read));
    assert_true(is_same(fd_in_store(INBOX_WRITE_NAME), inbox.write));
}

/* Whoever that is: nothing is found out, and nothing waits for it. */
static void test_silent(void **state)
{
    (void)state;
    size_t before = fds_open();
    manager.silent = true;
    park_begin(&park, loop, &inbox, on_found, &manager);
    let_run();
    assert_int_equal(found, -1);
    park_destroy(&park);
    park_destroy(&park);
    assert_int_equal(fds_open(), before);
}

static void test_without_systemd(void **state)
{
    (void)state;
    size_t before = fds_open();
    (void)unsetenv("NOTIFY_SOCKET");
    park_begin(&park, loop, &inbox, on_found, &manager);
    assert_int_equal(fds_open(), before);
    (void)setenv("NOTIFY_SOCKET", "/nowhere", 1);
    park_begin(&park, loop, &inbox, on_found, &manager);
    let_run();
    assert_int_equal(found, -1);
    assert_int_equal(fds_open(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_leftovers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_silent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_systemd, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
