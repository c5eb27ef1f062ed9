#include "observe/pauses.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct board board;

static int set_up(void **state)
{
    (void)state;
    return board_create(&board);
}

static int tear_down(void **state)
{
    (void)state;
    board_close(&board);
    return 0;
}

static void test_one(void **state)
{
    (void)state;
    assert_null(pauses_find(&board, "shop", 0));
    assert_null(pauses_first(&board));
    pauses_clear(&board, "shop"); /* nothing to do is allowed */
    assert_int_equal(pauses_set(&board, "shop", 100, 200), 0);
    const struct board_pause *pause = pauses_find(&board, "shop", 199);
    assert_non_null(pause);
    assert_string_equal(pause->upstream, "shop");
    assert_int_equal(pause->since_usec, 100);
    assert_int_equal(pause->until_usec, 200);
    assert_ptr_equal(pauses_first(&board), pause);
    assert_null(pauses_find(&board, "shop", 200)); /* it is over */
    assert_null(pauses_find(&board, "sho", 150));
    assert_null(pauses_find(&board, "shopp", 150));
    pauses_clear(&board, "shop");
    assert_null(pauses_find(&board, "shop", 150));
    assert_null(pauses_first(&board));
}

static void test_longer(void **state)
{
    (void)state;
    assert_int_equal(pauses_set(&board, "shop", 100, 200), 0);
    assert_int_equal(pauses_set(&board, "shop", 150, 250), 0);
    const struct board_pause *pause = pauses_find(&board, "shop", 240);
    assert_non_null(pause);
    assert_int_equal(pause->since_usec, 100); /* it is one pause */
    assert_int_equal(pauses_set(&board, "shop", 300, 400), 0);
    assert_ptr_equal(pauses_find(&board, "shop", 300), pause);
    assert_int_equal(pause->since_usec, 300); /* and this another */
    pauses_clear(&board, "shop");
    assert_null(pauses_first(&board));
}

static void test_names(void **state)
{
    char name[sizeof((struct board_pause *)0)->upstream + 1];

    (void)state;
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    assert_int_equal(pauses_set(&board, name, 0, 10), -ENAMETOOLONG);
    assert_null(pauses_first(&board));
    assert_null(pauses_find(&board, name, 0));
    name[sizeof name - 2] = '\0'; /* as long as the name of a section may be */
    assert_int_equal(pauses_set(&board, name, 0, 10), 0);
    assert_non_null(pauses_find(&board, name, 0));
}

static void test_full(void **state)
{
    char name[16];

    (void)state;
    for (unsigned i = 0; i < BOARD_PAUSES; i++) {
        (void)snprintf(name, sizeof name, "shop%u", i);
        assert_int_equal(pauses_set(&board, name, 0, 1000 - i), 0);
    }
    assert_int_equal(pauses_set(&board, "another", 0, 1000), -ENOSPC);
    assert_int_equal(pauses_set(&board, "shop7", 0, 2000), 0);
    assert_string_equal(pauses_first(&board)->upstream, name); /* the last one ends first */
    pauses_clear(&board, "shop5");
    assert_int_equal(pauses_set(&board, "another", 0, 1), 0);
    assert_string_equal(pauses_first(&board)->upstream, "another");
    assert_null(pauses_find(&board, "shop5", 0));
    assert_non_null(pauses_find(&board, "shop6", 0));
}

/* A worker that looks, and the next image of the supervisor. */
static void test_shared(void **state)
{
    struct board other;

    (void)state;
    assert_int_equal(board_open(dup(board.fd), &other), 0);
    assert_int_equal(pauses_set(&board, "shop", 100, 200), 0);
    assert_non_null(pauses_find(&other, "shop", 100));
    pauses_clear(&other, "shop");
    assert_null(pauses_find(&board, "shop", 100));
    board_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_longer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shared, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
