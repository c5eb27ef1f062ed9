#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* A file that holds @length bytes, read from its start. */
static int file_of(const char *bytes, size_t length)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, bytes, length), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void test_close(void **state)
{
    int fd = file_of("", 0);

    (void)state;
    errno = EXDEV;
    assert_int_equal(fd_close(fd), -1);
    assert_false(is_open(fd));
    errno = EXDEV;
    assert_int_equal(fd_close(fd), -1); /* a mistake, but errno is not the place to learn of it */
    assert_int_equal(errno, EXDEV);
    assert_int_equal(fd_close(-1), -1);
    assert_int_equal(errno, EXDEV);
}

static void test_ownership(void **state)
{
    int first, second;

    (void)state;
    {
        CLEANUP_FD int kept = file_of("", 0);
        CLEANUP_FD int given = file_of("", 0);
        CLEANUP_FD int none = -1;
        first = kept;
        second = TAKE_FD(given);
        assert_int_equal(given, -1);
        (void)none;
    }
    assert_false(is_open(first));
    assert_true(is_open(second));
    fd_close_at(&second);
    assert_int_equal(second, -1);
}

static void test_flags(void **state)
{
    CLEANUP_FD int fd = file_of("", 0);
    int closed = fd_close(dup(fd));

    (void)state;
    assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
    int other = fcntl(fd, F_GETFL);
    assert_int_equal(fd_set_cloexec(fd, false), 0);
    assert_int_equal(fcntl(fd, F_GETFD), 0);
    assert_int_equal(fd_set_cloexec(fd, true), 0);
    assert_int_equal(fd_set_cloexec(fd, true), 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fd_set_nonblock(fd, true), 0);
    assert_int_equal(fcntl(fd, F_GETFL), other | O_NONBLOCK); /* the others stay */
    assert_int_equal(fd_set_nonblock(fd, false), 0);
    assert_int_equal(fcntl(fd, F_GETFL), other);
    assert_int_equal(fd_set_cloexec(closed, true), -EBADF);
    assert_int_equal(fd_set_nonblock(closed, true), -EBADF);
}

/* Both are cut short, and interrupted by a signal every other time, as they may be at any time. */
static bool disturbed;
static size_t calls;

ssize_t write(int fd, const void *bytes, size_t length)
{
    if (disturbed && calls++ % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    return syscall(SYS_write, fd, bytes, disturbed && length > 1000 ? 1000 : length);
}

ssize_t read(int fd, void *bytes, size_t length)
{
    if (disturbed && calls++ % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    return syscall(SYS_read, fd, bytes, disturbed && length > 1000 ? 1000 : length);
}

static void test_disturbed(void **state)
{
    CLEANUP_FD int fd = memfd_create("test", MFD_CLOEXEC);
    char bytes[10500], *back = NULL;
    size_t length = 0;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7 % 251);
    disturbed = true;
    calls = 0;
    int r = fd_write_all(fd, bytes, sizeof bytes);
    size_t writes = calls;
    if (r == 0 && lseek(fd, 0, SEEK_SET) == 0)
        r = fd_read_all(fd, SIZE_MAX, &back, &length);
    disturbed = false;
    assert_int_equal(r, 0);
    assert_int_equal(writes, 2 * 11);
    assert_int_equal(length, sizeof bytes);
    assert_memory_equal(back, bytes, sizeof bytes);
    free(back);
}

static void test_write_all_fails(void **state)
{
    CLEANUP_FD int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_true(full >= 0);
    assert_int_equal(fd_write_all(full, "x", 1), -ENOSPC);
    assert_int_equal(fd_write_all(full, "", 0), 0);
}

/* Lengths around the sizes by which the memory grows, at limits around the length. */
static void test_read_all(void **state)
{
    static const size_t lengths[] = {0, 1, 4095, 4096, 4097, 8192, 100000};

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t wanted = lengths[i], length = 1;
        char *bytes = malloc(wanted + 1), *read_bytes = NULL;
        assert_non_null(bytes);
        for (size_t j = 0; j < wanted; j++)
            bytes[j] = (char)(j % 251);
        CLEANUP_FD int fd = file_of(bytes, wanted);
        assert_int_equal(fd_read_all(fd, wanted, &read_bytes, &length), 0);
        assert_int_equal(length, wanted);
        assert_memory_equal(read_bytes, bytes, wanted);
        assert_int_equal(read_bytes[wanted], '\0');
        free(read_bytes);
        free(bytes);
        if (wanted == 0)
            continue;
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        read_bytes = NULL;
        assert_int_equal(fd_read_all(fd, wanted - 1, &read_bytes, &length), -EFBIG);
        assert_null(read_bytes);
        assert_int_equal(length, wanted);
    }
}

static void test_read_all_goes_on(void **state)
{
    CLEANUP_FD int fd = file_of("before after", 12);
    CLEANUP_FD int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *bytes = NULL;
    size_t length = 0;

    (void)state;
    assert_int_equal(lseek(fd, 7, SEEK_SET), 7);
    assert_int_equal(fd_read_all(fd, SIZE_MAX, &bytes, &length), 0);
    assert_string_equal(bytes, "after");
    assert_int_equal(length, 5);
    free(bytes);
    bytes = NULL;
    assert_int_equal(fd_read_all(folder, 10, &bytes, &length), -EISDIR);
    assert_null(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_ownership),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_disturbed),
        cmocka_unit_test(test_write_all_fails),
        cmocka_unit_test(test_read_all),
        cmocka_unit_test(test_read_all_goes_on),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
