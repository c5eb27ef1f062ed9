#include "connection/held.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/fd.h"

static struct held held;
static int sending, receiving;

static int set_up(void **state)
{
    int pair[2], small = 4096;

    (void)state;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0 ||
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) < 0)
        return -1;
    sending = pair[0];
    receiving = pair[1];
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    held_destroy(&held);
    sending = fd_close(sending);
    receiving = fd_close(receiving);
    return 0;
}

/* An answer's view: its body lies in front of its head, as handlers leave it. */
static uint64_t join(char *bytes, size_t body, size_t head)
{
    struct part parts[] = {{PART_BYTES, body, head}, {PART_BYTES, 0, body}};
    struct output output = {.parts = parts, .count = body > 0 ? 2 : 1, .bytes = bytes, .file = -1};
    uint64_t before;

    assert_true(held_join(&held, &output, &before));
    assert_ptr_equal(output.bytes, held.bytes.bytes);
    uint64_t total = 0;
    for (size_t i = 0; i < output.count; i++) { /* it is all of it, without a gap */
        assert_int_equal(parts[i].offset, total);
        total += parts[i].length;
    }
    assert_int_equal(total, held.bytes.length);
    return before;
}

static void test_one_behind_the_other(void **state)
{
    char text[64] = "";
    uint64_t sent = 5;

    (void)state;
    assert_true(held_is_empty(&held));
    assert_int_equal(join((char[]){"bodyHEAD"}, 4, 4), 0);
    assert_int_equal(join((char[]){"ONLY"}, 0, 4), 8);
    assert_int_equal(join((char[]){"tLAST"}, 1, 4), 12);
    assert_false(held_is_empty(&held));
    assert_int_equal(held_send(&held, sending, &sent), OUTPUT_DONE);
    assert_int_equal(sent, 5 + 17);
    assert_true(held_is_empty(&held));
    assert_int_equal(recv(receiving, text, sizeof text, 0), 17);
    assert_string_equal(text, "HEADbodyONLYLASTt");
}

static void test_a_file_behind(void **state)
{
    char bytes[] = "bodyHEAD";
    struct part parts[] = {{PART_BYTES, 4, 4}, {PART_FILE, 7, 9}, {PART_BYTES, 0, 4}};
    struct output output = {.parts = parts, .count = 3, .bytes = bytes, .file = 3};
    uint64_t before;

    (void)state;
    assert_int_equal(join((char[]){"FIRST"}, 0, 5), 0);
    assert_true(held_join(&held, &output, &before));
    assert_int_equal(before, 5);
    assert_memory_equal(output.bytes + parts[0].offset, "FIRSTHEAD", 9);
    assert_int_equal(parts[0].length, 9);
    assert_int_equal(parts[1].offset, 7);
    assert_int_equal(parts[1].length, 9);
    assert_memory_equal(output.bytes + parts[2].offset, "body", 4);
    held_drop(&held);
    assert_true(held_is_empty(&held));
}

/* What the socket does not take is held still. */
static void test_a_full_socket(void **state)
{
    static char many[100000], got[sizeof many];
    size_t have = 0;
    uint64_t sent = 0;
    int r;

    (void)state;
    for (size_t i = 0; i < sizeof many; i++)
        many[i] = (char)(i * 7 / 3);
    join(many, 0, sizeof many);
    assert_int_equal(held_send(&held, sending, &sent), OUTPUT_BLOCKED);
    assert_int_equal(held.bytes.length, sizeof many - sent);
    do {
        ssize_t n = recv(receiving, got + have, sizeof got - have, 0);
        assert_true(n > 0);
        have += (size_t)n;
        r = have < sizeof many ? held_send(&held, sending, &sent) : OUTPUT_DONE;
    } while (have < sizeof many);
    assert_int_equal(r, OUTPUT_DONE);
    assert_memory_equal(got, many, sizeof many);
    receiving = fd_close(receiving);
    join(many, 0, 10);
    assert_true(held_send(&held, sending, &sent) < 0);
    assert_false(held_is_empty(&held));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_behind_the_other),
        TEST(test_a_file_behind),
        TEST(test_a_full_socket),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
