#include "process/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "fds.h"

#define NONCE "0123456789abcdef0123456789abcdef"
#define STATE "what the supervisor leaves to its successor"

static struct ev_loop *loop;
static struct preflight preflight;

/* What the child prints never ends, as far as can be seen from here. */
static bool endless;

ssize_t read(int fd, void *bytes, size_t length)
{
    if (!endless || fd != preflight.output)
        return syscall(SYS_read, fd, bytes, length);
    memset(bytes, 'x', length);
    return (ssize_t)length;
}

static char folder[64], binary[80];
static int state_fd;
static size_t fd_count;

/* What came of it. */
static unsigned done_count;
static char refusal[512];

static void on_done(void *owner, const char *why)
{
    assert_ptr_equal(owner, &done_count);
    assert_int_equal(preflight.pid, 0); /* another one may be started from here */
    done_count++;
    (void)snprintf(refusal, sizeof refusal, "%s", why ? why : "passed");
}

static int set_up(void **state)
{
    (void)state;
    done_count = 0;
    endless = false;
    (void)strcpy(folder, "/tmp/process_preflight.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(binary, sizeof binary, "%s/baton", folder);
    loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    fd_count = fds_open();
    state_fd = memfd_create("state", MFD_CLOEXEC);
    return loop ? fd_write_all(state_fd, STATE, strlen(STATE)) : -1;
}

static int tear_down(void **state)
{
    (void)state;
    state_fd = fd_close(state_fd);
    (void)unlink(binary);
    return rmdir(folder) == 0 && fds_open() == fd_count ? 0 : -1;
}

/* The binary on disk is this script from now on: of the shell's, unless it says otherwise. */
static void install(const char *script)
{
    CLEANUP_FD int fd = open(binary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);

    if (script[0] != '#')
        assert_int_equal(fd_write_all(fd, "#!/bin/sh\n", 10), 0);
    assert_int_equal(fd_write_all(fd, script, strlen(script)), 0);
}

static void start(double timeout)
{
    struct reason reason = {""};
    int r = preflight_start(
        &preflight, loop, binary, state_fd, NONCE, timeout, on_done, &done_count, &reason);

    if (r < 0)
        fail_msg("%s", reason.text);
    assert_true(preflight.pid > 0);
}

static void wait_until_done(void)
{
    while (done_count == 0) {
        (void)ev_run(loop, EVRUN_ONCE);
        assert_true(preflight.said.length < 64 * 1024);
    }
    assert_int_equal(done_count, 1);
}

static void assert_outcome(const char *script, const char *expected)
{
    done_count = 0;
    install(script);
    start(0);
    wait_until_done();
    assert_string_equal(refusal, expected);
}

static void test_outcomes(void **state)
{
    static const char not_baton[] = "the binary on disk is not a Baton that can take over";

    (void)state;
    assert_outcome("echo baton-preflight " NONCE, "passed");
    assert_outcome("echo a warning >&2; echo baton-preflight " NONCE "; echo more", "passed");
    assert_outcome("", not_baton);
    assert_outcome("echo baton-preflight", not_baton);
    assert_outcome("echo baton-preflight 0123456789abcdef", not_baton);
    assert_outcome("echo baton-preflight " NONCE "0", not_baton);
    assert_outcome(
        "echo baton-preflight " NONCE "; exit 1", "the check failed: baton-preflight " NONCE);
    assert_outcome("echo a; echo b >&2; echo; exit 2", "the check failed: a;b");
    assert_outcome("exit 3", "the binary on disk failed with status 3 and said nothing");
    assert_outcome("kill -KILL $$", "the binary on disk was killed by SIGKILL while it checked");
}

/* Its last words may come with its end. */
static void test_late_output(void **state)
{
    (void)state;
    install("echo baton-preflight " NONCE);
    start(0);
    ev_io_stop(loop, &preflight.io);
    wait_until_done();
    assert_string_equal(refusal, "passed");
}

/* However much it says, it is not blocked, and what is kept of it has an end. */
static void test_much_output(void **state)
{
    (void)state;
    assert_outcome("head -c 1000000 /dev/zero | tr '\\0' x; exit 1", refusal);
    assert_memory_equal(refusal, "the check failed: xxx", strlen("the check failed: xxx"));
    assert_true(strlen(refusal) > 400);
}

/* It finds the state at fd 3, wherever that was here: there, too. */
static void test_state(void **state)
{
    static const char script[] = "test \"$*\" = 'check --state 3' && "
                                 "test \"$(cat /proc/self/fd/3)\" = '" STATE "' && "
                                 "echo baton-preflight " NONCE;
    (void)state;
    assert_outcome(script, "passed");
    int other = state_fd;
    state_fd = dup3(other, PREFLIGHT_FD, O_CLOEXEC);
    fd_close(other);
    assert_outcome(script, "passed");
    state_fd = fcntl(PREFLIGHT_FD, F_DUPFD_CLOEXEC, PREFLIGHT_FD + 1);
    assert_int_equal(dup3(STDIN_FILENO, PREFLIGHT_FD, O_CLOEXEC), PREFLIGHT_FD);
}

/* A shell would set its own signal mask. */
#define PERL "#!/usr/bin/perl\n"

/* The supervisor's signal mask and what it ignores are not the child's. */
static void test_signals(void **state)
{
    unsigned long long blocked, ignored;
    sigset_t all, former;

    (void)state;
    sigfillset(&all);
    (void)signal(SIGPIPE, SIG_IGN);
    assert_int_equal(sigprocmask(SIG_SETMASK, &all, &former), 0);
    install(PERL "open F, '/proc/self/status'; print grep /Sig(Blk|Ign)/, <F>; exit 1");
    start(0);
    assert_int_equal(sigprocmask(SIG_SETMASK, &former, NULL), 0);
    (void)signal(SIGPIPE, SIG_DFL);
    wait_until_done();
    assert_int_equal(
        sscanf(refusal, "the check failed: SigBlk:%llx;SigIgn:%llx", &blocked, &ignored), 2);
    assert_int_equal(blocked, 0);
    assert_int_equal(ignored >> (SIGPIPE - 1) & 1, 0);
}

/* And of its pipes, the child has what it prints to. */
static void test_fds(void **state)
{
    (void)state;
    assert_outcome(PERL "opendir D, '/proc/self/fd';"
                        "print join ' ', sort grep { readlink(\"/proc/self/fd/$_\") =~ /^pipe/ }"
                        "grep { $_ > 0 } readdir D; exit 1",
        "the check failed: 1 2");
}

/* It is read piece by piece, and the time runs. */
static void test_endless_output(void **state)
{
    (void)state;
    endless = true;
    install("echo; kill -STOP $$");
    start(0.05);
    wait_until_done();
    assert_string_equal(refusal, "the binary on disk did not answer within StartTimeout=");
}

/* One that neither ends nor answers; and whatever it has started. */
static void test_timeout(void **state)
{
    static const char *const scripts[] = {"kill -STOP $$", "kill -STOP $$ & wait",
        "trap '' TERM; cat /dev/zero", "echo baton-preflight " NONCE "; kill -STOP $$"};

    (void)state;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        done_count = 0;
        install(scripts[i]);
        start(0.05);
        pid_t leader = preflight.pid;
        wait_until_done();
        assert_string_equal(refusal, "the binary on disk did not answer within StartTimeout=");
        assert_int_equal(kill(leader, 0), -1);
        assert_false(ev_is_active(&preflight.timer));
    }
}

static void test_not_executable(void **state)
{
    struct reason reason = {""};

    (void)state;
    assert_int_equal(preflight_start(&preflight, loop, binary, state_fd, NONCE, 1, on_done,
                         &done_count, &reason),
        -ENOENT);
    assert_non_null(strstr(reason.text, "/baton cannot be run: No such file or directory"));
    install("");
    assert_int_equal(chmod(binary, 0600), 0);
    assert_int_equal(preflight_start(&preflight, loop, binary, state_fd, NONCE, 1, on_done,
                         &done_count, &reason),
        -EACCES);
    assert_int_equal(done_count, 0);
}

static void test_cancel(void **state)
{
    (void)state;
    preflight_cancel(&(struct preflight){0}); /* none is running */
    install("kill -STOP $$");
    start(0.001);
    pid_t leader = preflight.pid;
    preflight_cancel(&preflight);
    assert_int_equal(preflight.pid, 0);
    (void)waitid(P_PID, (id_t)leader, &(siginfo_t){0}, WEXITED | WNOWAIT); /* it is dead */
    while (kill(leader, 0) == 0)
        (void)ev_run(loop, EVRUN_NOWAIT); /* until libev has reaped it */
    assert_int_equal(done_count, 0);
    preflight_cancel(&preflight);
}

static void test_nonce(void **state)
{
    char first[33], second[33];

    (void)state;
    preflight_nonce(first);
    preflight_nonce(second);
    assert_int_equal(strlen(first), 32);
    assert_int_equal(strspn(first, "0123456789abcdef"), 32);
    assert_string_not_equal(first, second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_outcomes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_late_output, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_much_output, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_signals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_endless_output, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_timeout, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_executable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
        cmocka_unit_test(test_nonce),
    };

    closefrom(PREFLIGHT_FD); /* what whoever runs the test has left open: test_fds() */
    (void)dup3(STDIN_FILENO, PREFLIGHT_FD, O_CLOEXEC); /* not for the loop: test_state() */
    (void)alarm(60);                                   /* for an event that never comes */
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
