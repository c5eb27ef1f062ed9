#include "process/child.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/log.h"
#include "connection/record.h"

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

#define START_TIMEOUT 10.0
#define PING_TIMEOUT 4.0

static struct ev_loop *loop;
static struct child *child;
static int worker; /* the worker's end of the channel: what it says, the test says */
static unsigned ready_count, serving_count, gone_count;
static int gone_status;
static char failure[sizeof child->failure];

static void on_ready(struct child *which)
{
    assert_ptr_equal(which, child);
    ready_count++;
}

static void on_serving(struct child *which)
{
    assert_ptr_equal(which, child);
    serving_count++;
}

static void on_gone(struct child *which, int status)
{
    assert_ptr_equal(which, child);
    gone_count++;
    gone_status = status;
    (void)strcpy(failure, child->failure);
    child_free(child);
    child = NULL;
}

static const struct child_calls calls = {on_ready, on_serving, on_gone};

/* A worker that does nothing until a signal ends it; @stubborn: until SIGKILL does. */
static pid_t fork_worker(bool stubborn)
{
    sigset_t abort, before, none;

    sigemptyset(&none);
    sigemptyset(&abort);
    sigaddset(&abort, SIGABRT);
    (void)sigprocmask(SIG_BLOCK, &abort, &before); /* it may come before the worker runs at all */
    pid_t pid = fork();
    if (pid != 0)
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    (void)signal(SIGABRT, SIG_DFL); /* cmocka catches it */
    (void)sigprocmask(SIG_SETMASK, stubborn ? &abort : &none, NULL);
    for (;;)
        (void)pause();
}

static void begin(bool stubborn, double ping_timeout)
{
    pid_t pid = fork_worker(stubborn); /* before there is a channel: it has none of its ends */
    int channel[2];

    assert_int_equal(channel_open(channel), 0);
    worker = channel[1];
    struct child_identity identity = {
        .generation = 3, .number = 1, .slot = 2, .pid = pid, .channel = channel[0]};
    child = child_new(loop, &identity, &calls, NULL, START_TIMEOUT, ping_timeout);
    assert_non_null(child);
}

static int set_up(void **state)
{
    (void)state;
    ready_count = serving_count = gone_count = 0;
    memset(failure, 0, sizeof failure);
    time_of_day_ahead = 0;
    loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    log_set_level(LOG_ERR - 1);
    return loop ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    if (child) {
        pid_t pid = child->pid;
        child_kill(child, SIGKILL);
        child_free(child);
        child = NULL;
        (void)waitpid(pid, NULL, 0);
    }
    worker = fd_close(worker);
    return 0;
}

static void say(enum message_kind kind, uint64_t value, const char *text)
{
    struct message message = {.kind = kind, .value = value};

    (void)strcpy(message.text, text);
    assert_int_equal(channel_send(worker, &message), 0);
}

/* What is due happens; the time that passes is made. */
static void pass(time_t seconds)
{
    monotonic_ahead += seconds;
    for (int i = 0; i < 4; i++) /* what was said, what that leads to */
        (void)ev_run(loop, EVRUN_NOWAIT);
}

static struct message heard(void)
{
    struct message message;

    assert_int_equal(channel_receive(worker, &message), CHANNEL_MESSAGE);
    return message;
}

static void assert_silence(void)
{
    assert_int_equal(channel_receive(worker, &(struct message){0}), CHANNEL_EMPTY);
}

static void run_until_gone(int signal, const char *why)
{
    while (gone_count == 0)
        (void)ev_run(loop, EVRUN_ONCE);
    assert_int_equal(gone_count, 1);
    assert_true(WIFSIGNALED(gone_status));
    assert_int_equal(WTERMSIG(gone_status), signal);
    assert_string_equal(failure, why);
}

static void test_ready(void **state)
{
    (void)state;
    begin(false, PING_TIMEOUT);
    assert_int_equal(child->state, CHILD_STARTING);
    say(MESSAGE_READY, 0, "");
    say(MESSAGE_READY, 0, "");
    say((enum message_kind)1000, 0, "of a later build");
    pass(0);
    assert_int_equal(ready_count, 1);
    assert_int_equal(child->state, CHILD_READY);
    child_serve(child);
    assert_int_equal(heard().kind, MESSAGE_SERVE);
    say(MESSAGE_SERVING, 0, "");
    pass(0);
    assert_int_equal(serving_count, 1);
    assert_int_equal(child->state, CHILD_SERVING);
    child_reopen_logs(child);
    assert_int_equal(heard().kind, MESSAGE_REOPEN);
    child_tell_pauses(child);
    assert_int_equal(heard().kind, MESSAGE_PAUSES);
    child_kill(child, SIGTERM);
    run_until_gone(SIGTERM, "");
}

static void test_not_ready_in_time(void **state)
{
    (void)state;
    begin(false, PING_TIMEOUT);
    pass(9);
    assert_false(child->hung);
    pass(2);
    run_until_gone(SIGABRT, "it did not get ready within StartTimeout=");
    assert_int_equal(ready_count, 0);
}

/* Why it cannot start is heard even when its end is known first. */
static void test_failed(void **state)
{
    (void)state;
    begin(false, PING_TIMEOUT);
    ev_io_stop(loop, &child->io);
    say(MESSAGE_FAILED, 0, "there is no such root");
    child_kill(child, SIGTERM);
    run_until_gone(SIGTERM, "there is no such root");
    worker = fd_close(worker);
    gone_count = 0;
    begin(false, PING_TIMEOUT);
    say(MESSAGE_FAILED, 0, "there is no such root");
    pass(0);
    pass(11); /* but it does not end */
    run_until_gone(SIGABRT, "there is no such root");
}

/* What else it said before its end has no meaning any more. */
static void test_ready_too_late(void **state)
{
    (void)state;
    begin(false, PING_TIMEOUT);
    ev_io_stop(loop, &child->io);
    say(MESSAGE_READY, 0, "");
    child_kill(child, SIGTERM);
    run_until_gone(SIGTERM, "");
    assert_int_equal(ready_count, 0);
}

static void test_pings(void **state)
{
    (void)state;
    begin(false, PING_TIMEOUT);
    say(MESSAGE_READY, 0, "");
    pass(0);
    for (uint64_t number = 1; number <= 3; number++) {
        assert_silence();
        pass(3); /* half of the timeout */
        struct message message = heard();
        assert_int_equal(message.kind, MESSAGE_PING);
        assert_int_equal(message.value, number);
        say(MESSAGE_PONG, number, "");
        pass(0);
    }
    pass(3);
    assert_int_equal(heard().kind, MESSAGE_PING);
    say(MESSAGE_PONG, 1, ""); /* of another one */
    pass(0);
    pass(3);
    assert_false(child->hung);
    pass(2);
    run_until_gone(SIGABRT, "it did not answer within WorkerTimeout=");
}

static void test_no_pings(void **state)
{
    (void)state;
    begin(false, 0);
    say(MESSAGE_READY, 0, "");
    pass(0);
    pass(100000);
    assert_silence();
    assert_false(child->hung);
}

/* It keeps its time itself; only one that does not is ended, with pings or without. */
static void test_retires(void **state)
{
    (void)state;
    for (int pings = 0; pings < 2; pings++) {
        gone_count = 0;
        begin(false, pings ? 1000 * PING_TIMEOUT : 0);
        say(MESSAGE_READY, 0, "");
        pass(0);
        child_retire(child, 100000000, MESSAGE_STOP);
        struct message message = heard();
        assert_int_equal(message.kind, MESSAGE_RETIRE);
        assert_int_equal(message.value, 100000000);
        assert_int_equal(message.flags, MESSAGE_STOP);
        int oldest, newest; /* that we read */
        assert_int_equal(sscanf(message.text, "%d %d", &oldest, &newest), 2);
        assert_int_equal(oldest, RECORD_VERSION_OLDEST);
        assert_int_equal(newest, RECORD_VERSION);
        pass(100);
        assert_false(child->hung);
        pass(10);
        run_until_gone(SIGABRT, "it outstayed its DrainTimeout=");
        worker = fd_close(worker);
    }
}

/* The loop's timer may fire a little before the time it was set for has come by the clock. */
static void test_retires_to_the_end(void **state)
{
    (void)state;
    begin(false, 0);
    child_assume_ready(child);
    child_assume_retiring(child, 100);
    ev_timer_stop(loop, &child->patience);
    ev_feed_event(loop, &child->patience, EV_TIMER);
    pass(0);
    assert_false(child->hung);
    pass(110);
    run_until_gone(SIGABRT, "it outstayed its DrainTimeout=");
}

/* clock_settime(2): no time has passed by that. */
static void test_time_of_day_is_set(void **state)
{
    static const time_t steps[] = {100000, -200000};

    (void)state;
    begin(false, PING_TIMEOUT);
    child_assume_ready(child);
    child_assume_retiring(child, 1000);
    for (size_t i = 0; i < 2; i++) {
        double before = ev_now(loop);
        time_of_day_ahead += steps[i];
        pass(3);
        assert_true(steps[i] > 0 ? ev_now(loop) > before + 1000 : ev_now(loop) < before - 1000);
        assert_false(child->hung);
        assert_int_equal(heard().kind, MESSAGE_PING);
        say(MESSAGE_PONG, child->pings, "");
        pass(0);
    }
    pass(3);
    pass(5);
    run_until_gone(SIGABRT, "it did not answer within WorkerTimeout=");
}

/* SIGABRT, and SIGKILL for one whom that does not end; a stopped one takes the former. */
static void test_stubborn(void **state)
{
    (void)state;
    begin(true, PING_TIMEOUT);
    pass(11);
    assert_true(child->hung);
    pass(2);
    run_until_gone(SIGKILL, "it did not get ready within StartTimeout=");
    worker = fd_close(worker);
    gone_count = 0;
    begin(false, PING_TIMEOUT);
    child_kill(child, SIGSTOP);
    assert_int_equal(waitpid(child->pid, NULL, WUNTRACED), child->pid);
    pass(11);
    run_until_gone(SIGABRT, "it did not get ready within StartTimeout=");
}

static void test_nonsense(void **state)
{
    (void)state;
    begin(false, PING_TIMEOUT);
    assert_int_equal(write(worker, "nonsense", 8), 8);
    run_until_gone(SIGABRT, "it sent what is no message");
}

static void test_closed_channel(void **state)
{
    (void)state;
    begin(false, PING_TIMEOUT);
    worker = fd_close(worker);
    pass(0);
    assert_false(ev_is_active(&child->io)); /* it is about to exit: that is what is waited for */
    assert_false(child->hung);
    child_kill(child, SIGKILL);
    run_until_gone(SIGKILL, "");
}

static void test_release(void **state)
{
    (void)state;
    begin(false, PING_TIMEOUT);
    pid_t pid = child->pid;
    int channel = child_release(child);
    child = NULL;
    say(MESSAGE_READY, 0, "");
    struct message message;
    assert_int_equal(channel_receive(channel, &message), CHANNEL_MESSAGE);
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (kill(pid, 0) == 0)
        pass(1000); /* until libev has reaped it */
    assert_int_equal(gone_count, 0);
    fd_close(channel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ready, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_ready_in_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ready_too_late, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_pings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retires, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retires_to_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_time_of_day_is_set, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stubborn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_channel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_release, set_up, tear_down),
    };

    (void)alarm(60); /* for an event that never comes */
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
