#include "observe/report.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct board board;
static struct buffer out;

static void fill_slot(unsigned pid, unsigned generation, enum board_state state, uint64_t open)
{
    struct board_slot *slot = &board.slots[board_take_slot(&board)];

    slot->pid = (int32_t)pid;
    slot->generation = generation;
    slot->worker = 1;
    slot->state = state;
    slot->counters.values[COUNTER_ACCEPTED] = 10;
    slot->counters.values[COUNTER_END_CLIENT] = 10 - open;
    slot->counters.values[COUNTER_REQUESTS] = pid * 100;
}

/* One worker retires, one serves, one starts. */
static int set_up(void **state)
{
    (void)state;
    if (board_create(&board) < 0)
        return -1;
    fill_slot(1, 6, BOARD_RETIRING, 1);
    fill_slot(2, 7, BOARD_CURRENT, 3);
    fill_slot(3, 8, BOARD_STARTING, 0);
    board.head->generation = 7;
    board.head->reloads = 6;
    board.head->reloads_refused = 2;
    board.head->worker_crashes = 1;
    board.head->started_usec = UINT64_C(1700000000000042);
    board.slots[0].counters.values[COUNTER_REQUESTS] = 1000000;
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

/* Cuts the next line off *text. */
static char *next_line(char **text)
{
    return strsep(text, "\n");
}

/* "HELP name text" or "TYPE name type" */
static void assert_comment(const char *line, const char *kind, const char *name, size_t length)
{
    assert_non_null(line);
    assert_memory_equal(line, kind, strlen(kind));
    assert_memory_equal(line + strlen(kind), name, length);
    assert_int_equal(line[strlen(kind) + length], ' ');
}

/*
 * Prometheus' text format 0.0.4: each metric has its HELP and its TYPE right before its samples,
 * and comes once; each line ends with a line feed.
 */
static void test_prometheus_format(void **state)
{
    char *text = strdup(written(report_prometheus)), *rest = text, *line;
    char seen[4096] = " ";
    size_t samples = 0, length = 0;

    (void)state;
    assert_int_equal(text[strlen(text) - 1], '\n');
    while ((line = next_line(&rest)) && *line) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            const char *name = line + 7;
            length = strcspn(name, " ");
            char *type = next_line(&rest);
            assert_comment(type, "# TYPE ", name, length);
            bool counter = strcmp(type + 7 + length, " counter") == 0;
            assert_true(counter || strcmp(type + 7 + length, " gauge") == 0);
            assert_int_equal(counter, memcmp(name + length - 6, "_total", 6) == 0);
            char word[128];
            (void)snprintf(word, sizeof word, " %.*s ", (int)length, name);
            assert_null(strstr(seen, word));
            strcat(seen, word + 1);
            assert_true(strncmp(rest, name, length) == 0); /* a sample follows */
            continue;
        }
        samples++;
        char *value = strrchr(line, ' ');
        assert_true(line[length] == '{' || line + length == value);
        assert_int_equal(line[length] == '{', value[-1] == '}');
        assert_true(isdigit((unsigned char)value[1]));
    }
    assert_null(rest);
    assert_true(samples > 40);
    free(text);
}

static void test_prometheus_values(void **state)
{
    static const char *const lines[] = {
        "\nbaton_requests_total 1000600\n",
        "baton_connections_accepted_total 30\n",
        "\nbaton_connections_ended_total{reason=\"client_closed\"} 26\n",
        "\nbaton_workers{state=\"starting\"} 1\n",
        "\nbaton_workers{state=\"current\"} 1\n",
        "\nbaton_workers{state=\"retiring\"} 1\n",
        "\nbaton_connections{state=\"starting\"} 0\n",
        "\nbaton_connections{state=\"current\"} 3\n",
        "\nbaton_connections{state=\"retiring\"} 1\n",
        "\nbaton_generation 7\n",
        "\nbaton_reloads_total{outcome=\"done\"} 6\n",
        "\nbaton_reloads_total{outcome=\"refused\"} 2\n",
        "\nbaton_worker_crashes_total 1\n",
        "\nbaton_start_time_seconds 1700000000.000042\n",
    };
    const char *text = written(report_prometheus);

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(text, lines[i]))
            fail_msg("no '%s' in:\n%s", lines[i], text);
}

static void test_json(void **state)
{
    (void)state;
    assert_string_equal(written(report_json),
        "{\"version\":\"" BATON_VERSION "\",\"generation\":7,\"stopping\":false,\"reloads\":6,"
        "\"reloads_refused\":2,\"worker_crashes\":1,\"connections\":4,\"requests\":1000600,"
        "\"workers\":["
        "{\"pid\":1,\"generation\":6,\"worker\":1,\"state\":\"retiring\",\"connections\":1,"
        "\"requests\":100},"
        "{\"pid\":2,\"generation\":7,\"worker\":1,\"state\":\"current\",\"connections\":3,"
        "\"requests\":200},"
        "{\"pid\":3,\"generation\":8,\"worker\":1,\"state\":\"starting\",\"connections\":0,"
        "\"requests\":300}]}\n");
    board.head->stopping = 1;
    for (unsigned i = 1; i <= 3; i++)
        board_release_slot(&board, i);
    assert_non_null(strstr(written(report_json), "\"stopping\":true"));
    assert_non_null(strstr(buffer_string(&out), "\"workers\":[]}\n"));
}

static void test_text(void **state)
{
    (void)state;
    assert_string_equal(written(report_text),
        "Serving generation 7: 1 worker, 3 connections; draining: 1 worker, 1 connection\n"
        "Baton " BATON_VERSION ", serving since 2023-11-14 22:13:20 UTC\n"
        "6 reloads done, 2 refused; 1 workers crashed\n"
        "30 connections accepted, 4 open; 1000600 requests\n"
        "\n"
        "       PID GENERATION  WORKER STATE      CONNECTIONS     REQUESTS\n"
        "         1          6       1 retiring             1          100\n"
        "         2          7       1 current              3          200\n"
        "         3          8       1 starting             0          300\n");
}

static void test_line(void **state)
{
    (void)state;
    assert_string_equal(written(report_line),
        "Serving generation 7: 1 worker, 3 connections; draining: 1 worker, 1 connection");
    board_release_slot(&board, 1);
    fill_slot(4, 7, BOARD_CURRENT, 0);
    assert_string_equal(written(report_line), "Serving generation 7: 2 workers, 3 connections");
    board.head->stopping = 1;
    assert_string_equal(written(report_line), "Stopping generation 7: 2 workers, 3 connections");
}

/* A later build may know more states than this one. */
static void test_unknown_state(void **state)
{
    (void)state;
    board.slots[2].state = BOARD_RETIRING + 1;
    assert_non_null(strstr(written(report_json), "\"state\":\"unknown\""));
    board.slots[2].state = UINT32_MAX;
    assert_non_null(strstr(written(report_text), " unknown "));
    assert_string_equal(written(report_line),
        "Serving generation 7: 0 workers, 0 connections; draining: 1 worker, 1 connection");
    assert_non_null(strstr(written(report_prometheus), "baton_requests_total 1000600\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_prometheus_format, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_prometheus_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_state, set_up, tear_down),
    };

    (void)setenv("TZ", "UTC", 1);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
