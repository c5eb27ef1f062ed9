#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "fds.h"
#include "process/inbox.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static int set_up(void **state)
{
    static struct inbox inbox;

    *state = &inbox;
    return inbox_open(&inbox);
}

static int tear_down(void **state)
{
    inbox_close(*state);
    return 0;
}

/* A connected pair that stands for a client's connection. */
static void connect_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_all(struct inbox_fds *fds)
{
    while (fds->count > 0)
        fd_close(fds->fds[--fds->count]);
}

static void assert_is_same(int a, int b)
{
    struct stat first, second;

    assert_int_equal(fstat(a, &first), 0);
    assert_int_equal(fstat(b, &second), 0);
    assert_int_equal(first.st_dev, second.st_dev);
    assert_int_equal(first.st_ino, second.st_ino);
}

static void test_pair(void **state)
{
    struct inbox *inbox = *state;
    int ends[] = {inbox->read, inbox->write};

    for (size_t i = 0; i < COUNT(ends); i++) {
        assert_true(inbox_is_end(ends[i]));
        assert_true(fcntl(ends[i], F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(ends[i], F_GETFL) & O_NONBLOCK);
    }
    assert_true(inbox_is_empty(inbox->read));
}

static void test_what_is_no_end(void **state)
{
    int stream[2], others[4];

    (void)state;
    connect_pair(stream);
    others[0] = stream[0];
    others[1] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    others[2] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    others[3] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr any = {.sa_family = AF_UNIX}; /* unix(7): a name is found for it */
    assert_int_equal(bind(others[3], &any, sizeof any.sa_family), 0);
    assert_int_equal(listen(others[3], 1), 0);
    for (size_t i = 0; i < COUNT(others); i++) {
        assert_in_range(others[i], 0, 1000000);
        assert_false(inbox_is_end(others[i]));
        fd_close(others[i]);
    }
    assert_false(inbox_is_end(-1));
    fd_close(stream[1]);
}

static void test_records_and_fds_arrive(void **state)
{
    struct inbox *inbox = *state;
    CLEANUP_BUFFER struct buffer message = {0};
    struct inbox_fds received;
    size_t before = fds_open();
    int one[2], two[2];
    char byte;

    connect_pair(one);
    connect_pair(two);
    struct inbox_fds sent = {.fds = {one[0], two[0]}, .count = 2};
    assert_int_equal(inbox_receive(inbox->read, &message, &received), INBOX_EMPTY);
    assert_int_equal(inbox_send(inbox->write, SPAN("two records"), &sent), INBOX_DONE);
    assert_false(inbox_is_empty(inbox->read));
    /* As a worker does that is gone then: what lies there is the kernel's. */
    fd_close(one[0]);
    fd_close(two[0]);
    assert_int_equal(write(one[1], "1", 1), 1);
    assert_int_equal(inbox_receive(inbox->read, &message, &received), INBOX_DONE);
    assert_true(span_equal(buffer_span(&message), SPAN("two records")));
    assert_int_equal(received.count, 2);
    assert_true(fcntl(received.fds[0], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(read(received.fds[0], &byte, 1), 1);
    assert_int_equal(write(received.fds[1], "2", 1), 1);
    assert_int_equal(read(two[1], &byte, 1), 1);
    assert_int_equal(byte, '2');
    assert_true(inbox_is_empty(inbox->read));
    assert_int_equal(inbox_receive(inbox->read, &message, &received), INBOX_EMPTY);
    assert_int_equal(received.count, 0);

    fd_close(one[1]);
    fd_close(two[1]);
    assert_int_equal(fds_open(), before + 2);
    (void)close(one[0]); /* the received ones have these numbers now */
    (void)close(two[0]);
}

static void test_messages_keep_apart(void **state)
{
    static const char *const texts[] = {"first", "", "third"};
    struct inbox *inbox = *state;
    CLEANUP_BUFFER struct buffer message = {0};
    struct inbox_fds fds = {.count = 0};
    int pair[2];

    connect_pair(pair);
    for (size_t i = 0; i < COUNT(texts); i++) {
        fds.fds[0] = pair[0];
        fds.count = i % 2;
        assert_int_equal(inbox_send(inbox->write, span_of(texts[i]), &fds), INBOX_DONE);
    }
    for (size_t i = 0; i < COUNT(texts); i++) {
        assert_int_equal(inbox_receive(inbox->read, &message, &fds), INBOX_DONE);
        assert_true(span_equal(buffer_span(&message), span_of(texts[i])));
        assert_int_equal(fds.count, i % 2);
        if (fds.count > 0)
            assert_is_same(fds.fds[0], pair[0]);
        close_all(&fds);
    }
    fd_close(pair[0]);
    fd_close(pair[1]);
}

static void test_largest(void **state)
{
    static char bytes[RECORD_MESSAGE_MAX + 1];
    struct inbox *inbox = *state;
    CLEANUP_BUFFER struct buffer message = {0};
    struct inbox_fds fds = {.count = RECORD_FDS_MAX};
    size_t before = fds_open();
    int pair[2];

    connect_pair(pair);
    memset(bytes, 'x', sizeof bytes);
    bytes[RECORD_MESSAGE_MAX - 1] = 'y';
    for (size_t i = 0; i < RECORD_FDS_MAX; i++)
        fds.fds[i] = pair[i % 2];
    struct inbox_fds sent = fds;
    assert_int_equal(
        inbox_send(inbox->write, (struct span){bytes, RECORD_MESSAGE_MAX}, &sent), INBOX_DONE);
    assert_int_equal(inbox_receive(inbox->read, &message, &fds), INBOX_DONE);
    assert_int_equal(message.length, RECORD_MESSAGE_MAX);
    assert_memory_equal(message.bytes, bytes, RECORD_MESSAGE_MAX);
    assert_int_equal(fds.count, RECORD_FDS_MAX);
    for (size_t i = 0; i < fds.count; i++)
        assert_is_same(fds.fds[i], pair[i % 2]);
    close_all(&fds);
    /* A byte more than is ever sent. */
    assert_int_equal(
        inbox_send(inbox->write, (struct span){bytes, sizeof bytes}, &sent), INBOX_DONE);
    assert_int_equal(inbox_receive(inbox->read, &message, &fds), -EBADMSG);
    assert_int_equal(fds.count, 0);
    assert_int_equal(fds_open(), before + 2);
    fd_close(pair[0]);
    fd_close(pair[1]);
}

static bool is_writable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

    return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLOUT);
}

static void test_full(void **state)
{
    struct inbox *inbox = *state;
    CLEANUP_BUFFER struct buffer message = {0};
    struct inbox_fds fds = {.count = 0};
    size_t before = fds_open(), sent = 0;
    int small = 1, r;

    assert_int_equal(setsockopt(inbox->write, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    while ((r = inbox_send(inbox->write, SPAN("x"), &fds)) == INBOX_DONE)
        sent++;
    assert_int_equal(r, INBOX_FULL);
    assert_in_range(sent, 1, 1000);
    assert_false(is_writable(inbox->write));
    assert_int_equal(fds_open(), before);
    for (size_t i = 0; i < sent; i++) {
        assert_int_equal(inbox_receive(inbox->read, &message, &fds), INBOX_DONE);
        assert_int_equal(message.length, 1);
    }
    assert_int_equal(inbox_receive(inbox->read, &message, &fds), INBOX_EMPTY);
    assert_true(is_writable(inbox->write));
    assert_int_equal(inbox_send(inbox->write, SPAN("x"), &fds), INBOX_DONE);
}

/* The system's default buffer, which an unprivileged server has to make do with. */
static void test_room_without_privileges(void **state)
{
    struct inbox *inbox = *state;
    struct inbox_fds fds = {.count = 0};
    int usual = 212992 / 2, sent = 0; /* the kernel doubles it: socket(7) */

    assert_int_equal(setsockopt(inbox->write, SOL_SOCKET, SO_SNDBUF, &usual, sizeof usual), 0);
    while (sent < 1000 && inbox_send(inbox->write, SPAN("x"), &fds) == INBOX_DONE)
        sent++;
    assert_in_range(sent, 200, 1000); /* messages, of up to 250 connections each */
}

/* ---- what is none of ours ---- */

static void send_raw(int fd, struct span bytes, const int *fds, size_t count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(253 * sizeof *fds)];
    } control;
    struct iovec part = {(void *)bytes.at, bytes.length};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};

    if (count > 0) {
        memset(&control, 0, sizeof control);
        head.msg_control = control.bytes;
        head.msg_controllen = CMSG_SPACE(count * sizeof *fds);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&head);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(count * sizeof *fds);
        memcpy(CMSG_DATA(rights), fds, count * sizeof *fds);
    }
    assert_int_equal(sendmsg(fd, &head, 0), bytes.length);
}

static void test_strange_messages(void **state)
{
    struct inbox *inbox = *state;
    CLEANUP_BUFFER struct buffer message = {0};
    CLEANUP_FD int records = memfd_create("records", MFD_CLOEXEC);
    CLEANUP_FD int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CLEANUP_FD int folder = open("/", O_RDONLY | O_CLOEXEC);
    CLEANUP_FD int secret = memfd_create("unreadable", MFD_CLOEXEC);
    CLEANUP_FD int huge = memfd_create("huge", MFD_CLOEXEC);
    char path[32];
    int pair[2], many[253];

    connect_pair(pair);
    assert_int_equal(ftruncate(huge, RECORD_MESSAGE_MAX + 1), 0);
    assert_int_equal(write(secret, "x", 1), 1);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", secret);
    CLEANUP_FD int unreadable = open(path, O_WRONLY | O_CLOEXEC);
    for (size_t i = 0; i < COUNT(many); i++)
        many[i] = i == 0 ? records : pair[0];
    struct {
        const char *name;
        struct span bytes;
        int first;
        size_t count;
        int expected;
    } cases[] = {
        {"what is right", SPAN("BTNINBOX"), records, 2, INBOX_DONE},
        {"another marker", SPAN("BTNINBOY"), records, 2, -EBADMSG},
        {"a longer one", SPAN("BTNINBOXx"), records, 2, -EBADMSG},
        {"a much longer one", SPAN("BTNINBOXxxxxxxxxxxxxxxxxx"), records, 2, -EBADMSG},
        {"a shorter one", SPAN("BTNINBO"), records, 2, -EBADMSG},
        {"no byte, but fds", {"", 0}, records, 2, -EBADMSG},
        {"no fd", SPAN("BTNINBOX"), records, 0, -EBADMSG},
        {"a socket for records", SPAN("BTNINBOX"), pair[0], 2, -EBADMSG},
        {"a device for records", SPAN("BTNINBOX"), null, 2, -EBADMSG},
        {"a folder for records", SPAN("BTNINBOX"), folder, 2, -EBADMSG},
        {"records that cannot be read", SPAN("BTNINBOX"), unreadable, 2, -EBADMSG},
        {"records without end", SPAN("BTNINBOX"), huge, 2, -EBADMSG},
        {"as many fds as ever", SPAN("BTNINBOX"), records, 1 + RECORD_FDS_MAX, INBOX_DONE},
        {"one too many", SPAN("BTNINBOX"), records, 2 + RECORD_FDS_MAX, -EBADMSG},
        {"as many as the kernel allows", SPAN("BTNINBOX"), records, 253, -EBADMSG},
    };
    size_t before = fds_open();

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct inbox_fds fds = {.count = 77};
        many[0] = cases[i].first;
        send_raw(inbox->write, cases[i].bytes, many, cases[i].count);
        int r = inbox_receive(inbox->read, &message, &fds);
        if (r != cases[i].expected)
            fail_msg("%s: %d", cases[i].name, r);
        assert_int_equal(fds.count, r == INBOX_DONE ? cases[i].count - 1 : 0);
        close_all(&fds);
        if (fds_open() != before)
            fail_msg("%s: fds are left open", cases[i].name);
        /* The next one is read as if nothing had been. */
        assert_int_equal(inbox_send(inbox->write, SPAN("next"), &fds), INBOX_DONE);
        assert_int_equal(inbox_receive(inbox->read, &message, &fds), INBOX_DONE);
        assert_true(span_equal(buffer_span(&message), SPAN("next")));
    }
    fd_close(pair[0]);
    fd_close(pair[1]);
}

static void test_other_end_gone(void **state)
{
    struct inbox *inbox = *state;
    CLEANUP_BUFFER struct buffer message = {0};
    struct inbox_fds fds = {.count = 0};

    assert_int_equal(inbox_send(inbox->write, SPAN("last"), &fds), INBOX_DONE);
    inbox->write = fd_close(inbox->write);
    assert_int_equal(inbox_receive(inbox->read, &message, &fds), INBOX_DONE);
    assert_int_equal(inbox_receive(inbox->read, &message, &fds), -EPIPE);

    inbox_close(inbox);
    assert_int_equal(inbox_open(inbox), 0);
    inbox->read = fd_close(inbox->read);
    assert_int_equal(inbox_send(inbox->write, SPAN("never"), &fds), -EPIPE);
    assert_true(inbox_send(-1, SPAN("never"), &fds) == -EBADF);
    assert_true(inbox_receive(-1, &message, &fds) == -EBADF);
}

/* ---- out of fds ---- */

static void limit_fds(rlim_t soft)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = soft;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* The limit under which so many fds are free. */
static rlim_t limit_with_room(rlim_t room)
{
    rlim_t limit = 0;

    for (rlim_t free = 0; free < room; limit++)
        free += fcntl((int)limit, F_GETFD) < 0;
    return limit;
}

/* The kernel closes what finds no place; what has found one is used. */
static void test_too_few_fds_to_receive(void **state)
{
    struct inbox *inbox = *state;
    CLEANUP_BUFFER struct buffer message = {0};
    struct rlimit former;
    int pair[2];

    connect_pair(pair);
    size_t before = fds_open();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &former), 0);
    for (rlim_t room = 0; room < 5; room++) {
        struct inbox_fds fds = {.fds = {pair[0], pair[0], pair[0]}, .count = 3};
        assert_int_equal(inbox_send(inbox->write, SPAN("three"), &fds), INBOX_DONE);
        limit_fds(limit_with_room(room));
        int r = inbox_receive(inbox->read, &message, &fds);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &former), 0);
        assert_int_equal(r, room < 4 ? -EMFILE : INBOX_DONE);
        assert_int_equal(fds.count, room > 0 ? room - 1 : 0);
        for (size_t i = 0; i < fds.count; i++)
            assert_is_same(fds.fds[i], pair[0]);
        if (room > 0)
            assert_true(span_equal(buffer_span(&message), SPAN("three")));
        close_all(&fds);
        assert_int_equal(fds_open(), before);
    }
    fd_close(pair[0]);
    fd_close(pair[1]);
}

/* unix(7): an unprivileged user may have as many fds in flight as RLIMIT_NOFILE says. */
static int be_crowded(struct inbox *inbox)
{
    CLEANUP_BUFFER struct buffer message = {0};
    struct inbox_fds fds = {.count = 8}, received;
    int pair[2], r, sent = 0;

    if ((getuid() == 0 && setuid(65534) < 0) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 1;
    for (size_t i = 0; i < fds.count; i++)
        fds.fds[i] = pair[0];
    struct rlimit limit = {30, 30};
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 2;
    while ((r = inbox_send(inbox->write, SPAN("x"), &fds)) == INBOX_DONE && sent < 100)
        sent++;
    if (r != INBOX_CROWDED || sent < 3 || sent > 5)
        return 3;
    if (inbox_receive(inbox->read, &message, &received) != INBOX_DONE || received.count != 8)
        return 4;
    return inbox_send(inbox->write, SPAN("x"), &fds) == INBOX_DONE ? 0 : 5;
}

static void test_too_many_fds_in_flight(void **state)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0)
        _exit(be_crowded(*state));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Without a single fd to spare the records cannot travel either. */
static void test_no_fd_to_send_with(void **state)
{
    struct inbox *inbox = *state;
    struct inbox_fds fds = {.count = 0};
    struct rlimit former;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &former), 0);
    limit_fds(0);
    int r = inbox_send(inbox->write, SPAN("x"), &fds);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &former), 0);
    assert_int_equal(r, INBOX_CROWDED);
}

#define WITH_INBOX(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_INBOX(test_pair),
        WITH_INBOX(test_what_is_no_end),
        WITH_INBOX(test_records_and_fds_arrive),
        WITH_INBOX(test_messages_keep_apart),
        WITH_INBOX(test_largest),
        WITH_INBOX(test_full),
        WITH_INBOX(test_room_without_privileges),
        WITH_INBOX(test_strange_messages),
        WITH_INBOX(test_other_end_gone),
        WITH_INBOX(test_too_few_fds_to_receive),
        WITH_INBOX(test_too_many_fds_in_flight),
        WITH_INBOX(test_no_fd_to_send_with),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
