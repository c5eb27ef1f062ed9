#include "process/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/fd.h"

static int channel[2];

static int set_up(void **state)
{
    (void)state;
    return channel_open(channel);
}

static int tear_down(void **state)
{
    (void)state;
    channel[0] = fd_close(channel[0]);
    channel[1] = fd_close(channel[1]);
    return 0;
}

/* The other end may be of another build. */
static void test_layout(void **state)
{
    static const struct {
        enum message_kind kind;
        int number;
    } kinds[] = {{MESSAGE_RETIRE, 1}, {MESSAGE_PING, 2}, {MESSAGE_REOPEN, 3}, {MESSAGE_SERVE, 4},
        {MESSAGE_READY, 64}, {MESSAGE_PONG, 65}, {MESSAGE_FAILED, 66}, {MESSAGE_SERVING, 67}};

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        assert_int_equal(kinds[i].kind, kinds[i].number);
    assert_int_equal(MESSAGE_STOP, 1);
    assert_int_equal(MESSAGE_PARK, 2);
    assert_int_equal(offsetof(struct message, kind), 0);
    assert_int_equal(offsetof(struct message, flags), 4);
    assert_int_equal(offsetof(struct message, value), 8);
    assert_int_equal(offsetof(struct message, text), 16);
    assert_int_equal(sizeof(struct message), 512);
}

static void test_open(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fcntl(channel[i], F_GETFD), FD_CLOEXEC);
        assert_true(fcntl(channel[i], F_GETFL) & O_NONBLOCK);
    }
}

static void test_both_ways(void **state)
{
    struct message sent = {.kind = MESSAGE_RETIRE, .flags = 3, .value = UINT64_MAX, .text = "1 2"};
    struct message received;

    (void)state;
    for (int i = 0; i < 2; i++) {
        memset(&received, 0xff, sizeof received);
        assert_int_equal(channel_receive(channel[1 - i], &received), CHANNEL_EMPTY);
        assert_int_equal(channel_send(channel[i], &sent), 0);
        sent.value = 7;
        assert_int_equal(channel_send(channel[i], &sent), 0);
        sent.value = UINT64_MAX;
        assert_int_equal(channel_receive(channel[1 - i], &received), CHANNEL_MESSAGE);
        assert_memory_equal(&received, &sent, sizeof sent);
        assert_int_equal(channel_receive(channel[1 - i], &received), CHANNEL_MESSAGE);
        assert_int_equal(received.value, 7);
        assert_int_equal(channel_receive(channel[1 - i], &received), CHANNEL_EMPTY);
    }
}

static void test_text_is_terminated(void **state)
{
    struct message message = {.kind = MESSAGE_FAILED};

    (void)state;
    memset(message.text, 'x', sizeof message.text);
    assert_int_equal(channel_send(channel[1], &message), 0);
    assert_int_equal(channel_receive(channel[0], &message), CHANNEL_MESSAGE);
    assert_int_equal(strlen(message.text), sizeof message.text - 1);
}

static void test_other_sizes(void **state)
{
    char bytes[2 * sizeof(struct message)] = {0};
    static const size_t sizes[] = {
        1, sizeof(struct message) - 1, sizeof(struct message) + 1, sizeof bytes};
    struct message message;

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(send(channel[0], bytes, sizes[i], 0), sizes[i]);
        assert_int_equal(channel_receive(channel[1], &message), -EBADMSG);
    }
    assert_int_equal(channel_receive(channel[1], &message), CHANNEL_EMPTY);
}

/* What was said before the end is heard; and what was not read is no other end than any. */
static void test_closed(void **state)
{
    struct message message = {.kind = MESSAGE_FAILED};

    (void)state;
    assert_int_equal(channel_send(channel[1], &message), 0);
    channel[1] = fd_close(channel[1]);
    assert_int_equal(channel_receive(channel[0], &message), CHANNEL_MESSAGE);
    assert_int_equal(channel_receive(channel[0], &message), CHANNEL_CLOSED);
    assert_int_equal(channel_send(channel[0], &message), -EPIPE); /* without SIGPIPE */
    assert_int_equal(channel_receive(channel[0], &message), CHANNEL_CLOSED);

    fd_close(channel[0]);
    assert_int_equal(channel_open(channel), 0);
    assert_int_equal(channel_send(channel[0], &message), 0);
    channel[1] = fd_close(channel[1]);
    assert_int_equal(channel_receive(channel[0], &message), CHANNEL_CLOSED);
    assert_int_equal(channel_receive(-1, &message), -EBADF);
}

static void test_full(void **state)
{
    struct message message = {.kind = MESSAGE_PING};
    unsigned sent = 0;
    int r;

    (void)state;
    while ((r = channel_send(channel[0], &message)) == 0)
        sent++;
    assert_int_equal(r, -EAGAIN);
    assert_true(sent > 10);
    while (channel_receive(channel[1], &message) == CHANNEL_MESSAGE)
        sent--;
    assert_int_equal(sent, 0);
    assert_int_equal(channel_send(channel[0], &message), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test_setup_teardown(test_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_both_ways, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text_is_terminated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_sizes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
