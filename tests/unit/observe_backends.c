#include "observe/backends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "observe/pauses.h"
#include "observe/report.h"

static struct board board;
static struct buffer out;

/* The entries of one worker: of an upstream with two servers, and of one with one. */
struct shown {
    unsigned slot;
    struct board_backend *shop, *first, *second, *other, *only;
};

static struct shown one, two;

static void show(struct shown *ret, enum board_state state, unsigned generation)
{
    struct backends backends;

    ret->slot = board_take_slot(&board);
    board.slots[ret->slot].state = state;
    board.slots[ret->slot].generation = generation;
    backends_init(&backends, &board, ret->slot);
    ret->shop = backends_add(&backends, "shop", "");
    ret->first = backends_add(&backends, "shop", "127.0.0.1:3000");
    ret->second = backends_add(&backends, "shop", "unix:/run/a \"b\"\\\n\xc3\xb6.sock");
    ret->other = backends_add(&backends, "other", "");
    ret->only = backends_add(&backends, "other", "db:1");
}

static int set_up(void **state)
{
    (void)state;
    if (board_create(&board) < 0)
        return -1;
    board.head->generation = 1;
    show(&one, BOARD_CURRENT, 1);
    show(&two, BOARD_CURRENT, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    board_close(&board);
    buffer_clear(&out);
    return 0;
}

static const char *written(int (*report)(const struct board *, struct buffer *))
{
    out.length = 0;
    assert_int_equal(buffer_append_string(&out, ">"), 0); /* what is there stays there */
    assert_int_equal(report(&board, &out), 0);
    assert_int_equal(out.bytes[0], '>');
    return buffer_string(&out) + 1;
}

static void test_prometheus(void **state)
{
    (void)state;
    one.first->lent = 2;
    two.first->lent = 1;
    two.first->idle = 5;
    two.second->state = BOARD_BACKEND_UNREACHABLE;
    one.only->state = two.only->state = BOARD_BACKEND_DOWN;
    one.shop->waiting = 3;
    two.shop->waiting = 4;
    assert_int_equal(pauses_set(&board, "other", 1, clock_monotonic_usec() + 60 * USEC_PER_SEC), 0);
#define SECOND "server=\"unix:/run/a \\\"b\\\"\\\\\\\\x0a\\\\xc3\\\\xb6.sock\""
    assert_string_equal(written(backends_prometheus),
        "# HELP baton_backend_up Share of the workers for which the server is up.\n"
        "# TYPE baton_backend_up gauge\n"
        "baton_backend_up{upstream=\"shop\",server=\"127.0.0.1:3000\"} 1\n"
        "baton_backend_up{upstream=\"shop\"," SECOND "} 0.5\n"
        "baton_backend_up{upstream=\"other\",server=\"db:1\"} 0\n"
        "# HELP baton_backend_connections Open connections to the server.\n"
        "# TYPE baton_backend_connections gauge\n"
        "baton_backend_connections{upstream=\"shop\",server=\"127.0.0.1:3000\",state=\"lent\"} 3\n"
        "baton_backend_connections{upstream=\"shop\",server=\"127.0.0.1:3000\",state=\"idle\"} 5\n"
        "baton_backend_connections{upstream=\"shop\"," SECOND ",state=\"lent\"} 0\n"
        "baton_backend_connections{upstream=\"shop\"," SECOND ",state=\"idle\"} 0\n"
        "baton_backend_connections{upstream=\"other\",server=\"db:1\",state=\"lent\"} 0\n"
        "baton_backend_connections{upstream=\"other\",server=\"db:1\",state=\"idle\"} 0\n"
        "# HELP baton_upstream_waiting Requests and tunnels that wait for a backend.\n"
        "# TYPE baton_upstream_waiting gauge\n"
        "baton_upstream_waiting{upstream=\"shop\"} 7\n"
        "baton_upstream_waiting{upstream=\"other\"} 0\n"
        "# HELP baton_upstream_paused Whether the upstream is paused.\n"
        "# TYPE baton_upstream_paused gauge\n"
        "baton_upstream_paused{upstream=\"shop\"} 0\n"
        "baton_upstream_paused{upstream=\"other\"} 1\n");
    assert_non_null(strstr(written(report_prometheus), "baton_upstream_paused{"));
}

static void test_json(void **state)
{
    (void)state;
    one.first->requests = 10;
    two.first->requests = 20;
    two.first->failures = 1;
    one.shop->waiting = 3;
    assert_int_equal(pauses_set(&board, "shop", 1, clock_monotonic_usec() + 60 * USEC_PER_SEC), 0);
    assert_string_equal(written(backends_json),
        ",\"upstreams\":[{\"name\":\"shop\",\"paused\":true,\"waiting\":3,\"servers\":["
        "{\"server\":\"127.0.0.1:3000\",\"state\":\"up\",\"connections\":0,\"idle\":0,"
        "\"requests\":30,\"failures\":1},"
        "{\"server\":\"unix:/run/a \\\"b\\\"\\\\\\\\x0a\\\\xc3\\\\xb6.sock\",\"state\":\"up\","
        "\"connections\":0,\"idle\":0,\"requests\":0,\"failures\":0}]},"
        "{\"name\":\"other\",\"paused\":false,\"waiting\":0,\"servers\":["
        "{\"server\":\"db:1\",\"state\":\"up\",\"connections\":0,\"idle\":0,\"requests\":0,"
        "\"failures\":0}]}]");
    assert_non_null(strstr(written(report_json), "],\"upstreams\":[{\"name\":\"shop\""));
    assert_string_equal(buffer_string(&out) + out.length - 5, &"}]}]}\n"[1]);
}

static void test_text(void **state)
{
    (void)state;
    one.first->lent = 12;
    one.first->idle = 34;
    two.first->requests = 123456789;
    two.only->failures = 8;
    one.other->waiting = 2;
    two.other->waiting = 1;
    one.second->state = BOARD_BACKEND_UNREACHABLE;
    assert_string_equal(written(backends_text),
        "\n"
        "UPSTREAM  SERVER                             STATE        CONNECTIONS   IDLE     REQUESTS"
        "  FAILURES\n"
        "shop      127.0.0.1:3000                     up                    12     34    123456789"
        "         0\n"
        "shop      unix:/run/a \"b\"\\\\x0a\\xc3\\xb6.sock  partly                 0      0        "
        "    0"
        "         0\n"
        "other     db:1                               up                     0      0            0"
        "         8\n"
        "other: 3 requests wait\n");
    /* The end of a pause as a person would say it. */
    assert_int_equal(
        pauses_set(&board, "shop", 1, clock_monotonic_usec() + 90500 * USEC_PER_MSEC), 0);
    one.shop->waiting = 1;
    assert_non_null(strstr(written(backends_text),
        "\nshop is paused, for 1min 30s at the most: 1 request waits\nother: 3 requests wait\n"));
    assert_non_null(strstr(written(report_text), "\n\nUPSTREAM "));
}

static void assert_states(uint32_t first, uint32_t second, const char *word)
{
    char expected[64];

    one.only->state = first;
    two.only->state = second;
    (void)snprintf(expected, sizeof expected, "\"server\":\"db:1\",\"state\":\"%s\"", word);
    if (!strstr(written(backends_json), expected))
        fail_msg("not %s in %s", word, buffer_string(&out));
}

/* What the workers say together. */
static void test_states(void **state)
{
    (void)state;
    assert_states(BOARD_BACKEND_UP, BOARD_BACKEND_UP, "up");
    assert_states(BOARD_BACKEND_UNREACHABLE, BOARD_BACKEND_UNREACHABLE, "unreachable");
    assert_states(BOARD_BACKEND_DOWN, BOARD_BACKEND_DOWN, "down");
    assert_states(BOARD_BACKEND_UNRESOLVED, BOARD_BACKEND_UNRESOLVED, "unresolved");
    assert_states(BOARD_BACKEND_UP, BOARD_BACKEND_DOWN, "partly");
    assert_states(BOARD_BACKEND_UNREACHABLE, BOARD_BACKEND_DOWN, "down");
    assert_states(BOARD_BACKEND_UNRESOLVED, BOARD_BACKEND_UP, "partly");
    assert_states(BOARD_BACKEND_UNRESOLVED + 1, UINT32_MAX, "unknown"); /* of a later build */
    one.only->avoided_until_usec = clock_monotonic_usec() + 60 * USEC_PER_SEC;
    assert_states(BOARD_BACKEND_UP, BOARD_BACKEND_UP, "partly");
    assert_states(BOARD_BACKEND_UP, BOARD_BACKEND_UNREACHABLE, "down");
    two.only->avoided_until_usec = USEC_INFINITY;
    assert_states(BOARD_BACKEND_UP, BOARD_BACKEND_UP, "avoided");
    assert_states(BOARD_BACKEND_DOWN, BOARD_BACKEND_DOWN, "down");
    one.only->avoided_until_usec = two.only->avoided_until_usec = 1;
    assert_states(BOARD_BACKEND_UP, BOARD_BACKEND_UP, "up");
}

static void test_other_generations(void **state)
{
    struct shown former, next;

    (void)state;
    show(&former, BOARD_RETIRING, 0);
    show(&next, BOARD_STARTING, 2);
    former.first->requests = next.first->requests = 1000;
    former.shop->waiting = 7;
    one.shop->waiting = 1;
    assert_null(strstr(written(backends_json), "1000"));
    assert_int_equal(backends_waiting(&board, "shop"), 8); /* they wait all the same */
    assert_int_equal(backends_waiting(&board, "other"), 0);
    assert_int_equal(backends_waiting(&board, "sho"), 0);
    board.head->generation = 2; /* a reload */
    board.slots[next.slot].state = BOARD_CURRENT;
    assert_non_null(strstr(written(backends_json), "\"requests\":1000"));
    board.slots[next.slot].state = BOARD_RETIRING; /* a stop */
    assert_non_null(strstr(written(backends_json), "\"requests\":1000"));
}

static void test_released(void **state)
{
    (void)state;
    one.first->requests = 5;
    one.shop->waiting = 3;
    uint32_t used = board.head->backends;
    assert_int_equal(used, 10);
    board_release_slot(&board, one.slot);
    assert_int_equal(backends_waiting(&board, "shop"), 0);
    assert_int_equal(one.first->slot, 0);
    assert_int_equal(one.first->requests, 0);
    assert_string_equal(one.first->server, "");
    show(&one, BOARD_CURRENT, 1); /* who replaces it takes the same entries */
    assert_int_equal(board.head->backends, used);
    assert_int_equal(one.first->slot, one.slot);
    board_release_slot(&board, one.slot);
    board_release_slot(&board, two.slot);
    assert_string_equal(written(backends_prometheus), "");
    assert_string_equal(written(backends_json), "");
    assert_string_equal(written(backends_text), "");
}

static void test_full(void **state)
{
    struct backends backends;
    struct board_backend *unread = backends_add(NULL, "shop", "a");

    (void)state;
    assert_int_equal(unread->slot, 0);
    backends_init(&backends, NULL, 1);
    assert_ptr_equal(backends_add(&backends, "shop", "a"), unread);
    backends_init(&backends, &board, board_take_slot(&board));
    for (size_t i = 10; i < BOARD_BACKENDS; i++)
        assert_ptr_equal(backends_add(&backends, "x", "a"), &board.backends[i]);
    assert_ptr_equal(backends_add(&backends, "shop", "a"), unread);
    assert_int_equal(board.head->backends, BOARD_BACKENDS);
    board_release_slot(&board, one.slot);
    struct board_backend *freed = backends_add(&backends, "shop", "a");
    assert_ptr_equal(freed, &board.backends[0]);
    assert_int_equal(freed->number, BOARD_BACKENDS - 10 + 2); /* others may have had that entry */
}

static void test_long_names(void **state)
{
    struct backends backends;
    char name[600];

    (void)state;
    memset(name, '\xff', sizeof name);
    name[sizeof name - 1] = '\0';
    backends_init(&backends, &board, one.slot);
    struct board_backend *backend = backends_add(&backends, name, name);
    assert_int_equal(strlen(backend->upstream), 252); /* whole escapes */
    assert_int_equal(strlen(backend->server), 444);
    assert_string_equal(backend->server + 440, "\\xff");
    memset(name, 'x', sizeof name - 1);
    backend = backends_add(&backends, name, name);
    assert_int_equal(strlen(backend->upstream), 255);
    assert_int_equal(strlen(backend->server), 447);
}

/* Whoever wrote past its end: no reader follows. */
static void test_garbage(void **state)
{
    (void)state;
    memset(one.shop, 0xff, sizeof *one.shop);
    memset(two.only->server, 0x80, sizeof two.only->server);
    memset(two.only->upstream, 0x01, sizeof two.only->upstream);
    board.head->backends = UINT32_MAX;
    assert_non_null(written(backends_json));
    assert_null(strchr(buffer_string(&out), '\x80'));
    assert_non_null(written(backends_text));
    assert_non_null(written(backends_prometheus));
    board_release_slot(&board, one.slot);
    (void)backends_waiting(&board, "shop");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_prometheus, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_states, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_generations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_released, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_garbage, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
