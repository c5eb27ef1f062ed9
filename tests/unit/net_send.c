#include "net/send.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

#define COUNT 16

static int pair[2];

static int set_up(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair);
}

static int tear_down(void **state)
{
    (void)state;
    pair[0] = fd_close(pair[0]);
    pair[1] = fd_close(pair[1]);
    return 0;
}

/* In @count spans of @size bytes each, but for an empty one: the same bytes arrive, in order. */
static void check(size_t count, size_t size)
{
    static char bytes[COUNT * 8192], received[sizeof bytes];
    struct iovec spans[COUNT];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7 % 251);
    for (size_t i = 0; i < count; i++)
        spans[i] = (struct iovec){bytes + i * size, size};
    if (count > 2) {
        spans[1].iov_len = 0;
        spans[2] = (struct iovec){bytes + size, 2 * size};
    }
    memset(received, 0, sizeof received);
    assert_int_equal(send_spans(pair[0], spans, count, 0), count * size);
    assert_int_equal(recv(pair[1], received, sizeof received, 0), count * size);
    assert_memory_equal(received, bytes, count * size);
}

static void test_few_and_many(void **state)
{
    static const size_t sizes[] = {
        1, 13, 200, 255, 256, 257, 1365, 1366, 2048, 4095, 4096, 4097, 8192};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t count = 1; count <= COUNT; count++)
            check(count, sizes[i]);
}

static void test_errors(void **state)
{
    char byte = 'x';
    struct iovec spans[] = {{&byte, 1}, {&byte, 1}};

    (void)state;
    while (send_spans(pair[0], spans, 2, 0) == 2)
        ;
    assert_int_equal(errno, EAGAIN);
    pair[1] = fd_close(pair[1]);
    for (size_t count = 1; count <= 2; count++) { /* and no signal */
        assert_int_equal(send_spans(pair[0], spans, count, 0), -1);
        assert_int_equal(errno, EPIPE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_few_and_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
