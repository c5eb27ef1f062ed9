#include "connection/output.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

/* What sendfile(2) does instead of sending: fail, or take everything at once. */
static int file_error;
static bool file_takes_all;

ssize_t sendfile(int to, int from, off_t *offset, size_t length)
{
    if (file_error) {
        errno = file_error;
        file_error = file_error == EINTR ? 0 : file_error; /* a signal comes once */
        return -1;
    }
    return file_takes_all ? (ssize_t)length : syscall(SYS_sendfile, to, from, offset, length);
}

static int last_flags; /* of send(2) */

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    last_flags = flags;
    return syscall(SYS_sendto, fd, bytes, length, flags, NULL, 0);
}

static int sending, receiving, file;

static int set_up(void **state)
{
    int pair[2], small = 4096;

    (void)state;
    file_error = 0;
    file_takes_all = false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0 ||
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) < 0)
        return -1;
    sending = pair[0];
    receiving = pair[1];
    file = memfd_create("test", MFD_CLOEXEC);
    return fd_write_all(file, "0123456789", 10);
}

static int tear_down(void **state)
{
    (void)state;
    sending = fd_close(sending);
    receiving = fd_close(receiving);
    file = fd_close(file);
    return 0;
}

/* What lies in the socket is added to @received. */
static void receive(struct buffer *received)
{
    ssize_t n;

    do {
        assert_int_equal(buffer_reserve(received, 65536), 0);
        n = recv(receiving, received->bytes + received->length, 65536, 0);
        received->length += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    assert_int_equal(errno, EAGAIN);
}

static void assert_received(const char *expected)
{
    CLEANUP_BUFFER struct buffer received = {0};

    receive(&received);
    assert_string_equal(buffer_string(&received), expected);
}

static void test_parts_in_order(void **state)
{
    struct part parts[] = {{PART_BYTES, 4, 3}, {PART_BYTES, 0, 0}, {PART_BYTES, 0, 4},
        {PART_FILE, 2, 3}, {PART_FILE, 9, 1}, {PART_BYTES, 7, 1}, {PART_FILE, 0, 0}};
    struct output output = {.parts = parts, .count = 7, .bytes = "bodyhea.", .file = file};
    uint64_t sent = 1000;

    (void)state;
    assert_int_equal(output_send(&output, sending, &sent), OUTPUT_DONE);
    assert_int_equal(sent, 1000 + 3 + 4 + 3 + 1 + 1); /* it grows */
    assert_int_equal(output.count, 0);
    assert_received("heabody2349.");
    assert_int_equal(lseek(file, 0, SEEK_CUR), 10); /* the file's own position is nobody's */
    assert_int_equal(output_send(&output, sending, &sent), OUTPUT_DONE);
}

/* More pieces of memory than one sendmsg(2) is given. */
static void test_many_parts(void **state)
{
    struct part parts[100];
    char bytes[101], expected[101];
    uint64_t sent = 0;

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        bytes[i] = (char)('a' + i % 26);
        parts[i] = (struct part){PART_BYTES, 99 - i, 1};
        expected[99 - i] = bytes[i];
    }
    expected[100] = '\0';
    struct output output = {.parts = parts, .count = 100, .bytes = bytes, .file = -1};
    assert_int_equal(output_send(&output, sending, &sent), OUTPUT_DONE);
    assert_int_equal(sent, 100);
    assert_received(expected);
}

/* The head waits for what follows it, and the last piece for nothing. */
static void test_more(void **state)
{
    struct part parts[] = {{PART_BYTES, 0, 4}, {PART_FILE, 0, 10}};
    struct output output = {.parts = parts, .count = 2, .bytes = "head", .file = file};
    uint64_t sent = 0;

    (void)state;
    assert_int_equal(output_send(&output, sending, &sent), OUTPUT_DONE);
    assert_int_equal(last_flags, MSG_NOSIGNAL | MSG_MORE);
    parts[0] = (struct part){PART_FILE, 0, 10};
    parts[1] = (struct part){PART_BYTES, 0, 4};
    output.parts = parts;
    output.count = 2;
    assert_int_equal(output_send(&output, sending, &sent), OUTPUT_DONE);
    assert_int_equal(last_flags, MSG_NOSIGNAL);
    assert_received("head01234567890123456789head");
}

/* A file of @length bytes, each told by its place, in place of the short one. */
static void fill_file(size_t length)
{
    for (size_t i = 0; i < length; i += sizeof(uint64_t)) {
        uint64_t place = i * 0x9e3779b97f4a7c15;
        assert_int_equal(pwrite(file, &place, sizeof place, (off_t)i), sizeof place);
    }
}

/*
 * A long answer through a small socket: memory, file, memory. It blocks again and again, wherever
 * that happens to be, and what is kept is all that it needs: the memory it came from is gone.
 */
static void test_blocked_and_kept(void **state)
{
    enum { SIZE = 100000 };
    CLEANUP_BUFFER struct buffer received = {0};
    struct part parts[] = {
        {PART_BYTES, SIZE / 2, SIZE / 2}, {PART_FILE, 8, SIZE - 8}, {PART_BYTES, 0, SIZE / 2}};
    char *bytes = malloc(SIZE), *content = malloc(SIZE);
    uint64_t sent = 0;
    int blocked = 0, r;

    (void)state;
    fill_file(SIZE);
    assert_int_equal(pread(file, content, SIZE, 0), SIZE);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 7 % 251);
    struct output view = {.parts = parts, .count = 3, .bytes = bytes, .file = file};
    assert_int_equal(output_send(&view, sending, &sent), OUTPUT_BLOCKED);
    assert_in_range(sent, 1, SIZE / 2 - 1);
    struct output *kept = output_keep(&view);
    assert_non_null(kept);
    assert_int_equal(view.file, -1);
    assert_int_equal(kept->file, file);
    assert_int_equal(output_memory(kept).length, SIZE - sent);
    char *copy = memcpy(malloc(SIZE), bytes, SIZE);
    memset(bytes, 0, SIZE);
    memset(parts, 0, sizeof parts);
    while ((r = output_send(kept, sending, &sent)) == OUTPUT_BLOCKED) {
        receive(&received);
        assert_int_equal(received.length, sent);
        blocked++;
    }
    assert_int_equal(r, OUTPUT_DONE);
    receive(&received);
    assert_true(blocked > 5);
    assert_int_equal(sent, 2 * SIZE - 8);
    assert_int_equal(received.length, sent);
    assert_memory_equal(received.bytes, copy + SIZE / 2, SIZE / 2);
    assert_memory_equal(received.bytes + SIZE / 2, content + 8, SIZE - 8);
    assert_memory_equal(received.bytes + SIZE / 2 + SIZE - 8, copy, SIZE / 2);
    output_free(kept);
    assert_int_equal(fcntl(file, F_GETFD), -1); /* it owned the file */
    file = -1;
    free(bytes);
    free(copy);
    free(content);
}

/* Whoever lent the file may close it then. */
static void test_a_lent_file_is_kept_as_another(void **state)
{
    struct part part = {PART_FILE, 2, 5};
    struct rlimit limit, none;
    CLEANUP_BUFFER struct buffer received = {0};
    uint64_t sent = 0;

    (void)state;
    fill_file(10);
    struct output view = {.parts = &part, .count = 1, .file = file, .lent = true};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_null(output_keep(&view));
    assert_int_equal(view.file, file);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);

    struct output *kept = output_keep(&view);
    assert_non_null(kept);
    assert_int_not_equal(kept->file, file);
    file = fd_close(file);
    int other = kept->file;
    assert_int_equal(output_send(kept, sending, &sent), OUTPUT_DONE);
    receive(&received);
    assert_int_equal(received.length, 5);
    output_free(kept);
    assert_int_equal(fcntl(other, F_GETFD), -1);
}

/* A kept output is kept again when a connection moves. */
static void test_keep_again(void **state)
{
    struct part parts[] = {{PART_BYTES, 3, 2}, {PART_BYTES, 0, 2}};
    struct output view = {.parts = parts, .count = 2, .bytes = "ab_cd", .file = -1};
    uint64_t sent = 0;

    (void)state;
    struct output *first = output_keep(&view), *second = output_keep(first);
    assert_non_null(second);
    assert_int_equal(first->file, -1);
    assert_int_equal(output_memory(second).length, 4);
    assert_memory_equal(output_memory(second).at, "cdab", 4);
    output_free(first);
    assert_int_equal(output_send(second, sending, &sent), OUTPUT_DONE);
    assert_received("cdab");
    output_free(second);
    output_free(NULL);
}

/* One that could go on for long lets the others have their turn. */
static void test_yield(void **state)
{
    const uint64_t whole = UINT64_C(1) << 40;
    struct part part = {PART_FILE, 0, whole};
    struct output output = {.parts = &part, .count = 1, .file = file};
    uint64_t sent = 0;
    int turns = 0;

    (void)state;
    file_takes_all = true;
    for (; turns < 10; turns++)
        assert_int_equal(output_send(&output, sending, &sent), OUTPUT_YIELD);
    assert_in_range(sent, 1, whole / 1000);
    assert_int_equal(part.offset, sent);
    assert_int_equal(part.length, whole - sent);
}

static void test_shrank(void **state)
{
    struct part parts[] = {{PART_BYTES, 0, 4}, {PART_FILE, 8, 4}};
    struct output output = {.parts = parts, .count = 2, .bytes = "head", .file = file};
    uint64_t sent = 0;

    (void)state;
    assert_int_equal(output_send(&output, sending, &sent), OUTPUT_SHRANK);
    assert_int_equal(sent, 6);
    assert_received("head89");
}

static void test_errors(void **state)
{
    struct part part = {PART_FILE, 0, 10};
    struct output output = {.parts = &part, .count = 1, .bytes = "head", .file = file};
    uint64_t sent = 0;

    (void)state;
    file_error = EIO;
    assert_int_equal(output_send(&output, sending, &sent), -EIO);
    file_error = EINTR;
    assert_int_equal(output_send(&output, sending, &sent), OUTPUT_DONE);
    assert_received("0123456789");
    receiving = fd_close(receiving);
    part = (struct part){PART_BYTES, 0, 4};
    output.parts = &part;
    output.count = 1;
    assert_int_equal(output_send(&output, sending, &sent), -EPIPE); /* without SIGPIPE */
    assert_int_equal(sent, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_parts_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_blocked_and_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_lent_file_is_kept_as_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keep_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_yield, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shrank, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
