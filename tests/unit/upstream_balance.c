#include "upstream/balance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

#define SERVERS 4

static struct config_upstream config;
static struct config_server configs[SERVERS];
static struct upstream_server servers[SERVERS];
static struct upstream upstream;
static struct demand demand;
static unsigned chosen[SERVERS];

/* Servers that can be used, with these weights; a weight of 0 ends them. */
static void begin(enum balance balance, unsigned a, unsigned b, unsigned c, unsigned d)
{
    const unsigned weights[SERVERS] = {a, b, c, d};

    config = (struct config_upstream){.balance = balance, .name = (char *)"shop"};
    upstream = (struct upstream){.config = &config, .servers = servers};
    for (size_t i = 0; i < SERVERS && weights[i] > 0; i++) {
        static const char *const names[SERVERS] = {"one", "two", "three", "four"};
        configs[i] = (struct config_server){.text = (char *)names[i], .weight = weights[i]};
        servers[i] = (struct upstream_server){
            .upstream = &upstream,
            .config = &configs[i],
            .address_count = 1,
            .hash = (uint32_t)(i * 2654435761u + 12345),
        };
        list_init(&servers[i].idle);
        upstream.server_count++;
    }
    demand = (struct demand){.reusable = true};
}

static size_t choose(void)
{
    const struct upstream_server *server = balance_choose(&upstream, &demand);

    assert_non_null(server);
    return (size_t)(server - servers);
}

static void choose_often(unsigned times)
{
    memset(chosen, 0, sizeof chosen);
    while (times-- > 0)
        chosen[choose()]++;
}

static void assert_chosen(unsigned a, unsigned b, unsigned c, unsigned d)
{
    const unsigned expected[SERVERS] = {a, b, c, d};

    for (size_t i = 0; i < SERVERS; i++)
        if (chosen[i] != expected[i])
            fail_msg("server %zu: %u times instead of %u", i, chosen[i], expected[i]);
}

/* ---- round robin ---- */

static void test_turns(void **state)
{
    (void)state;
    begin(BALANCE_ROUND_ROBIN, 1, 1, 1, 0);
    for (unsigned i = 0; i < 10; i++) { /* each in each round */
        choose_often(3);
        assert_chosen(1, 1, 1, 0);
    }
    begin(BALANCE_ROUND_ROBIN, 7, 0, 0, 0);
    choose_often(10);
    assert_chosen(10, 0, 0, 0);
}

/* By weight, and spread: in no stretch does one get much more or less than its share. */
static void test_weights(void **state)
{
    static const unsigned weights[][SERVERS] = {
        {2, 1, 0, 0}, {5, 1, 1, 0}, {1, 2, 3, 4}, {100, 1, 0, 0}, {3, 3, 2, 2}};

    (void)state;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        const unsigned *w = weights[i];
        unsigned total = w[0] + w[1] + w[2] + w[3];
        begin(BALANCE_ROUND_ROBIN, w[0], w[1], w[2], w[3]);
        memset(chosen, 0, sizeof chosen);
        for (unsigned n = 1; n <= 20 * total; n++) {
            chosen[choose()]++;
            for (size_t s = 0; s < upstream.server_count; s++) {
                double share = (double)n * w[s] / total, off = (double)chosen[s] - share;
                if (off < -2 || off > 2)
                    fail_msg("weights %zu, after %u: server %zu was chosen %u times", i, n, s,
                        chosen[s]);
            }
        }
        assert_chosen(20 * w[0], 20 * w[1], 20 * w[2], 20 * w[3]);
    }
}

/* One that was away for long does not get all that it missed. */
static void test_no_debts(void **state)
{
    (void)state;
    begin(BALANCE_ROUND_ROBIN, 1, 1, 1, 0);
    servers[2].probe.down = true;
    choose_often(1000);
    assert_chosen(500, 500, 0, 0);
    servers[1].probe.down = true;
    choose_often(1000);
    assert_chosen(1000, 0, 0, 0);
    servers[1].probe.down = servers[2].probe.down = false;
    choose_often(30);
    assert_in_range(chosen[0], 9, 11);
    assert_in_range(chosen[1], 9, 11);
    assert_in_range(chosen[2], 9, 11);
}

/* ---- least connections ---- */

static void test_least_connections(void **state)
{
    (void)state;
    begin(BALANCE_LEAST_CONNECTIONS, 1, 1, 1, 0);
    servers[0].lent = 2;
    servers[1].lent = 3;
    servers[2].lent = 1;
    servers[2].dialling = 2; /* is about to be one */
    assert_int_equal(choose(), 0);
    servers[0].lent = 4;
    choose_often(9); /* equals take turns */
    assert_int_equal(chosen[0], 0);
    assert_in_range(chosen[1], 3, 6);
    servers[0].lent = 3;
    choose_often(9);
    assert_chosen(3, 3, 3, 0);
    /* In relation to the weight. */
    begin(BALANCE_LEAST_CONNECTIONS, 10, 1, 0, 0);
    servers[0].lent = 8;
    assert_int_equal(choose(), 0);
    servers[0].lent = 10;
    assert_int_equal(choose(), 1);
}

/* ---- hash ---- */

static void map(unsigned clients, size_t *ret)
{
    for (uint32_t i = 0; i < clients; i++) {
        demand.hash = (i + 1) * 2246822519u;
        ret[i] = choose();
        chosen[ret[i]]++;
    }
}

static void test_hash(void **state)
{
    enum { CLIENTS = 8000 };
    static size_t before[CLIENTS], after[CLIENTS];

    (void)state;
    begin(BALANCE_HASH, 1, 1, 2, 4);
    memset(chosen, 0, sizeof chosen);
    map(CLIENTS, before);
    for (size_t i = 0; i < SERVERS; i++) /* by weight, roughly */
        assert_in_range(chosen[i], configs[i].weight * 850, configs[i].weight * 1150);
    map(CLIENTS, after);
    assert_memory_equal(before, after, sizeof before);
    servers[1].probe.down = true; /* its clients alone go elsewhere, and to all of the others */
    memset(chosen, 0, sizeof chosen);
    map(CLIENTS, after);
    unsigned moved[SERVERS] = {0};
    for (size_t i = 0; i < CLIENTS; i++) {
        if (before[i] == 1)
            moved[after[i]]++;
        else
            assert_int_equal(before[i], after[i]);
    }
    assert_int_equal(moved[1], 0);
    for (size_t i = 0; i < SERVERS; i++)
        assert_true(i == 1 || moved[i] > 50);
    servers[1].probe.down = false; /* and come back */
    map(CLIENTS, after);
    assert_memory_equal(before, after, sizeof before);
}

/* ---- which ones ---- */

static void test_unusable(void **state)
{
    (void)state;
    begin(BALANCE_ROUND_ROBIN, 1, 1, 1, 1);
    servers[0].probe.down = true;
    servers[1].address_count = 0; /* its name is not known yet */
    servers[2].unreachable = true;
    servers[2].retry_at = clock_monotonic_seconds() + 60;
    choose_often(10);
    assert_chosen(0, 0, 0, 10);
    servers[2].retry_at = 0; /* it is tried again, */
    choose_often(10);
    assert_chosen(0, 0, 5, 5);
    servers[2].dialling = 1; /* but with one connection */
    choose_often(10);
    assert_chosen(0, 0, 0, 10);
    servers[3].probe.down = true;
    assert_null(balance_choose(&upstream, &demand));
    upstream.server_count = 0;
    assert_null(balance_choose(&upstream, &demand));
}

static void test_room(void **state)
{
    (void)state;
    begin(BALANCE_ROUND_ROBIN, 1, 1, 0, 0);
    config.max_connections = 3;
    servers[0].lent = 2;
    servers[0].dialling = 1;
    choose_often(10);
    assert_chosen(0, 10, 0, 0);
    servers[1].lent = 3;
    assert_null(balance_choose(&upstream, &demand));
    servers[0].idle_count = 1; /* one that is kept, for those who can use it */
    assert_int_equal(choose(), 0);
    demand.reusable = false;
    assert_null(balance_choose(&upstream, &demand));
    servers[0].lent = 1; /* it gives way to a new one */
    assert_int_equal(choose(), 0);
    config.max_connections = 0;
    servers[0].lent = servers[1].lent = 1000000;
    choose_often(10);
    assert_chosen(5, 5, 0, 0);
    servers[0].dialling = SERVER_DIALS_MAX;
    choose_often(10);
    assert_chosen(0, 10, 0, 0);
}

/* Who failed is asked again only where there is nobody better. */
static void test_ranks(void **state)
{
    double later = clock_monotonic_seconds() + 60;

    (void)state;
    for (enum balance balance = BALANCE_ROUND_ROBIN; balance <= BALANCE_HASH; balance++) {
        begin(balance, 100, 1, 100, 0);
        servers[0].avoid_until = later;
        demand.avoid = &servers[2];
        choose_often(10);
        assert_chosen(0, 10, 0, 0);
        servers[1].probe.down = true;
        choose_often(10);
        assert_chosen(10, 0, 0, 0); /* it failed others, not this one */
        servers[0].probe.down = true;
        choose_often(10);
        assert_chosen(0, 0, 10, 0);
        servers[2].avoid_until = later;
        choose_often(10);
        assert_chosen(0, 0, 10, 0);
        servers[0].probe.down = false;
        servers[0].avoid_until = 0;
        choose_often(10);
        assert_chosen(10, 0, 0, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_no_debts),
        cmocka_unit_test(test_least_connections),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_unusable),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_ranks),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
