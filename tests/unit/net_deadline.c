#include "net/deadline.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define SHORT 0.005
#define LONG 1000.0

/* Clocks are the system's, and so many seconds ahead of it. */
static time_t time_of_day_ahead, monotonic_ahead;

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    long r = syscall(SYS_clock_gettime, clock, ret);

    if (clock == CLOCK_REALTIME)
        ret->tv_sec += time_of_day_ahead;
    if (clock == CLOCK_MONOTONIC)
        ret->tv_sec += monotonic_ahead;
    return (int)r;
}

/* libev takes the time of day from here, or from there. */
int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec now;
    int r = clock_gettime(CLOCK_REALTIME, &now);

    (void)zone;
    *ret = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return r;
}

struct item {
    char name;
    struct deadline deadline;
};

static struct ev_loop *loop;
static struct deadline_list list, other;
static struct item a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'}, d = {.name = 'd'};
static char expired[16]; /* their names, in order */
static void (*then)(struct item *item);

static void on_expired(struct deadline *deadline)
{
    struct item *item = CONTAINER_OF(deadline, struct item, deadline);

    assert_true(deadline_left(deadline) == -1); /* it is in no list */
    expired[strlen(expired)] = item->name;
    if (then)
        then(item);
}

static int set_up(void **state)
{
    (void)state;
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    deadline_list_init(&list, loop, SHORT, on_expired);
    deadline_list_init(&other, loop, LONG, on_expired);
    deadline_init(&a.deadline);
    deadline_init(&b.deadline);
    deadline_init(&c.deadline);
    deadline_init(&d.deadline);
    memset(expired, 0, sizeof expired);
    then = NULL;
    time_of_day_ahead = 0;
    return loop ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    deadline_list_deinit(&list);
    deadline_list_deinit(&other);
    ev_loop_destroy(loop);
    return 0;
}

/* Runs until these have expired. One that never comes is ended by main()'s alarm(). */
static void run_until(const char *names)
{
    while (strlen(expired) < strlen(names))
        (void)ev_run(loop, EVRUN_ONCE);
    assert_string_equal(expired, names);
}

static void test_order(void **state)
{
    uint64_t before = clock_monotonic_usec();

    (void)state;
    deadline_arm(&list, &a.deadline);
    deadline_arm(&list, &b.deadline);
    deadline_arm(&list, &c.deadline);
    deadline_arm(&list, &a.deadline); /* again: now it is the last */
    run_until("bca");
    assert_true(clock_monotonic_usec() - before >= 5000);
}

static void test_disarm(void **state)
{
    (void)state;
    deadline_disarm(&a.deadline); /* of none: allowed */
    deadline_arm(&list, &a.deadline);
    deadline_arm(&list, &b.deadline);
    deadline_disarm(&a.deadline);
    assert_true(deadline_left(&a.deadline) == -1);
    run_until("b");
    /* The timer fires for one that is gone, and then waits for what is due next. */
    deadline_arm(&list, &a.deadline);
    deadline_disarm(&a.deadline);
    deadline_arm(&list, &c.deadline);
    run_until("bc");
    assert_false(ev_is_active(&list.timer));
}

static void test_left(void **state)
{
    (void)state;
    assert_true(deadline_left(&a.deadline) == -1);
    deadline_arm(&other, &a.deadline);
    double left = deadline_left(&a.deadline);
    assert_true(left > LONG - 100 && rint(left * 1e6) <= LONG * 1e6);
    deadline_arm(&list, &a.deadline);
    monotonic_ahead++;
    assert_true(deadline_left(&a.deadline) == 0); /* overdue, though nobody has looked yet */
}

static void test_none(void **state)
{
    struct deadline_list none;

    (void)state;
    deadline_list_init(&none, loop, 0, on_expired);
    deadline_arm(&none, &a.deadline);
    assert_true(deadline_left(&a.deadline) == -1);
    assert_false(ev_is_active(&none.timer));
    /* Arming ends what was armed before all the same. */
    deadline_arm(&list, &a.deadline);
    deadline_arm(&none, &a.deadline);
    assert_true(deadline_left(&a.deadline) == -1);
    /* But time that was already running goes on. */
    deadline_arm_for(&none, &b.deadline, SHORT);
    run_until("b");
    deadline_list_deinit(&none);
}

static void test_other_list(void **state)
{
    (void)state;
    deadline_arm(&list, &a.deadline);
    deadline_arm(&other, &a.deadline);
    deadline_arm(&list, &b.deadline);
    run_until("b");
    assert_true(deadline_left(&a.deadline) > LONG - 100);
}

/* Shorter ones come before those that are armed already, and equal ones behind their equals. */
static void test_arm_for(void **state)
{
    (void)state;
    deadline_arm(&other, &a.deadline);
    deadline_arm_for(&other, &b.deadline, 2 * SHORT);
    deadline_arm_for(&other, &c.deadline, SHORT);
    run_until("cb");
    assert_true(ev_is_active(&other.timer)); /* for the one that is left */
    deadline_arm_for(&other, &b.deadline, LONG / 2);
    deadline_arm_for(&other, &c.deadline, LONG / 2);
    deadline_arm_for(&other, &d.deadline, LONG / 2 + 1);
    assert_ptr_equal(other.entries.next, &b.deadline.link);
    assert_ptr_equal(b.deadline.link.next, &c.deadline.link);
    assert_ptr_equal(c.deadline.link.next, &d.deadline.link);
    assert_ptr_equal(d.deadline.link.next, &a.deadline.link);
    deadline_arm_for(&other, &a.deadline, 0);
    run_until("cba");
}

static void arm_again(struct item *item)
{
    if (strlen(expired) < 3)
        deadline_arm(&list, &item->deadline);
}

static void test_armed_again_when_it_expires(void **state)
{
    (void)state;
    then = arm_again;
    deadline_arm(&list, &a.deadline);
    run_until("aaa");
    assert_false(ev_is_active(&list.timer));
}

/* As when one connection's end is another's. */
static void disarm_next(struct item *item)
{
    (void)item;
    deadline_disarm(&b.deadline);
}

static void test_next_disarmed_when_one_expires(void **state)
{
    (void)state;
    then = disarm_next;
    deadline_arm(&list, &a.deadline);
    deadline_arm(&list, &b.deadline);
    deadline_arm(&list, &c.deadline);
    run_until("ac");
}

static void test_deinit(void **state)
{
    (void)state;
    deadline_arm(&list, &a.deadline);
    deadline_arm(&list, &b.deadline);
    deadline_list_deinit(&list);
    assert_true(deadline_left(&a.deadline) == -1);
    assert_true(deadline_left(&b.deadline) == -1);
    deadline_disarm(&a.deadline);
    assert_false(ev_is_active(&list.timer));
}

/* The loop looks at the time of day only now and then. */
static void set_time_of_day(time_t ahead)
{
    double before = ev_now(loop);

    time_of_day_ahead += ahead;
    monotonic_ahead++;
    ev_now_update(loop);
    double moved = ev_now(loop) - before;
    assert_true(ahead > 0 ? moved > (double)ahead : moved < (double)ahead + 100);
}

/* clock_settime(2), as after the boot of a machine without a clock: no time has passed by it. */
static void test_time_of_day_is_set(void **state)
{
    (void)state;
    deadline_arm(&other, &a.deadline);
    deadline_arm_for(&other, &b.deadline, SHORT);
    set_time_of_day(10 * (time_t)LONG);
    run_until("b");
    assert_true(deadline_left(&a.deadline) > LONG - 100);
    deadline_arm_for(&other, &b.deadline, SHORT);
    set_time_of_day(-20 * (time_t)LONG);
    run_until("bb");
    assert_true(deadline_left(&a.deadline) <= LONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_disarm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arm_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_armed_again_when_it_expires, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_next_disarmed_when_one_expires, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deinit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_time_of_day_is_set, set_up, tear_down),
    };

    (void)alarm(60); /* for an event that never comes */
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
