#include "observe/counter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The contract with other builds and with whoever reads /metrics: lines are only ever added. */
static const struct {
    unsigned number;
    const char *name, *labels;
} contract[] = {
    {0, "connections_accepted", ""},
    {1, "connections_adopted", ""},
    {2, "requests", ""},
    {3, "received_bytes", ""},
    {4, "sent_bytes", ""},
    {5, "answers", "class=\"1xx\""},
    {6, "answers", "class=\"2xx\""},
    {7, "answers", "class=\"3xx\""},
    {8, "answers", "class=\"4xx\""},
    {9, "answers", "class=\"5xx\""},
    {10, "accept_pauses", "cause=\"resources\""},
    {11, "accept_pauses", "cause=\"max_connections\""},
    {12, "access_log_lost", ""},
    {16, "connections_ended", "reason=\"client_closed\""},
    {17, "connections_ended", "reason=\"client_asked\""},
    {18, "connections_ended", "reason=\"announced\""},
    {19, "connections_ended", "reason=\"request_refused\""},
    {20, "connections_ended", "reason=\"idle_timeout\""},
    {21, "connections_ended", "reason=\"header_timeout\""},
    {22, "connections_ended", "reason=\"body_timeout\""},
    {23, "connections_ended", "reason=\"send_timeout\""},
    {24, "connections_ended", "reason=\"client_abandoned\""},
    {25, "connections_ended", "reason=\"error\""},
    {26, "connections_ended", "reason=\"stopped_idle\""},
    {27, "connections_ended", "reason=\"drain_cut\""},
    {28, "connections_ended", "reason=\"worker_died\""},
    {30, "connections_ended", "reason=\"tunnel_closed\""},
    {32, "connections_moved", "state=\"idle\""},
    {33, "connections_moved", "state=\"head\""},
    {34, "connections_moved", "state=\"body\""},
    {35, "connections_moved", "state=\"reply\""},
    {36, "connections_moved", "state=\"linger\""},
    {40, "connections_moved", "state=\"waiting\""},
    {41, "connections_moved", "state=\"exchange\""},
    {42, "connections_moved", "state=\"tunnel\""},
    {43, "connections_moved", "state=\"proxy_header\""},
    {37, "moves_refused", ""},
    {38, "moves_unfit", ""},
    {39, "moves_delayed", ""},
    {48, "tunnels", ""},
    {49, "retries", ""},
    {50, "held", ""},
    {51, "backend_dials", ""},
    {52, "backend_reuses", ""},
    {53, "backend_unreached", ""},
    {54, "backend_failures", ""},
};

static void test_contract(void **state)
{
    size_t count = sizeof contract / sizeof *contract;

    (void)state;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(counter_table[i].counter, contract[i].number);
        assert_string_equal(counter_table[i].name, contract[i].name);
        assert_string_equal(counter_table[i].labels, contract[i].labels);
    }
    assert_null(counter_table[count].name);
    /* A move is counted by what moved; as an end it is none for the client. */
    assert_int_equal(COUNTER_END_MOVED, 29);
    assert_int_equal(sizeof(struct counters), 64 * 8);
}

/* Prometheus wants the samples of one metric together, under one HELP. */
static void test_groups(void **state)
{
    (void)state;
    for (const struct counter_info *info = counter_table; info->name; info++) {
        assert_true(info->help[0] != '\0' && !strpbrk(info->help, "\\\n"));
        for (const struct counter_info *later = info + 1; later->name; later++) {
            assert_int_not_equal(info->counter, later->counter);
            if (strcmp(info->name, later->name) != 0)
                continue;
            assert_string_equal(info->help, later->help);
            assert_string_not_equal(info->labels, later->labels);
            assert_string_equal(later[-1].name, info->name);
        }
    }
}

/* Every counter is 1, 2, 4, ... as often as it can be told from the others in a sum. */
static void test_sums(void **state)
{
    struct counters counters = {0};

    (void)state;
    assert_int_equal(counters_open(&counters), 0);
    assert_int_equal(counters_ended(&counters), 0);
    assert_int_equal(counters_moved(&counters), 0);
    for (unsigned i = COUNTER_END_CLIENT; i <= COUNTER_END_TUNNEL; i++)
        counters.values[i] = UINT64_C(1) << i;
    uint64_t all = (UINT64_C(1) << 31) - (1 << 16);
    assert_int_equal(counters_ended(&counters), all - (1 << 29));
    assert_int_equal(counters_moved(&counters), 1 << 29);
    assert_int_equal(counters_open(&counters), 0); /* never below zero */
    counters.values[COUNTER_ACCEPTED] = UINT64_C(1) << 31;
    counters.values[COUNTER_ADOPTED] = 5;
    counters.values[COUNTER_MOVED_IDLE] = 1000; /* counted as an end already */
    assert_int_equal(counters_open(&counters), (UINT64_C(1) << 31) + 5 - all);
}

static void test_add(void **state)
{
    struct counters to, from;

    (void)state;
    for (unsigned i = 0; i < COUNTER_MAX; i++) {
        to.values[i] = i;
        from.values[i] = UINT64_C(1000) * i;
    }
    counters_add(&to, &from);
    for (unsigned i = 0; i < COUNTER_MAX; i++) {
        assert_int_equal(to.values[i], 1001 * i);
        assert_int_equal(from.values[i], 1000 * i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contract),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_add),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
