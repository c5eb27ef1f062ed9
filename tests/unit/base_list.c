#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct item {
    int number;
    struct link link;
};

static struct link list;
static struct item items[4];

static int set_up(void **state)
{
    (void)state;
    list_init(&list);
    for (int i = 0; i < 4; i++) {
        items[i].number = i;
        list_init(&items[i].link);
    }
    return 0;
}

/* The digits of @expected are the numbers of the items, in both directions. */
static void assert_list(const char *expected)
{
    const struct link *back = &list;
    size_t count = 0;

    LIST_EACH (link, &list) {
        assert_int_equal(CONTAINER_OF(link, struct item, link)->number, expected[count] - '0');
        assert_ptr_equal(link->previous, back);
        back = link;
        count++;
    }
    assert_int_equal(expected[count], '\0');
    assert_ptr_equal(list.previous, back);
    assert_int_equal(list_empty(&list), count == 0);
}

static void test_append(void **state)
{
    (void)state;
    assert_list("");
    list_append(&list, &items[2].link);
    assert_list("2");
    list_append(&list, &items[0].link);
    list_append(&list, &items[1].link);
    assert_list("201");
}

static void test_insert_before(void **state)
{
    (void)state;
    list_append(&list, &items[0].link);
    list_insert_before(&items[0].link, &items[1].link);
    assert_list("10");
    list_insert_before(&items[0].link, &items[2].link);
    assert_list("120");
    list_insert_before(list.next, &items[3].link); /* at the front */
    assert_list("3120");
}

static void test_remove(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        list_append(&list, &items[i].link);
    list_remove(&items[1].link);
    assert_list("023");
    list_remove(&items[0].link);
    list_remove(&items[3].link);
    assert_list("2");
    list_remove(&items[3].link); /* in no list: allowed */
    assert_true(list_empty(&items[3].link));
    list_remove(&items[2].link);
    assert_list("");
    list_append(&list, &items[1].link); /* and it may come back */
    assert_list("1");
}

static void test_walk_removes_the_current_entry(void **state)
{
    int visited = 0;

    (void)state;
    for (int i = 0; i < 4; i++)
        list_append(&list, &items[i].link);
    LIST_EACH (link, &list) {
        visited++;
        if (CONTAINER_OF(link, struct item, link)->number % 2 == 0)
            list_remove(link);
    }
    assert_int_equal(visited, 4);
    assert_list("13");
    LIST_EACH (link, &list)
        list_remove(link);
    assert_list("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_append, set_up),
        cmocka_unit_test_setup(test_insert_before, set_up),
        cmocka_unit_test_setup(test_remove, set_up),
        cmocka_unit_test_setup(test_walk_removes_the_current_entry, set_up),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
