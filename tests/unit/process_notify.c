#include "process/notify.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/address.h"
#include "base/clock.h"
#include "base/fd.h"

static int manager = -1; /* systemd's end */

static int set_up(void **state)
{
    struct address address;
    char name[64];

    (void)state;
    (void)snprintf(name, sizeof name, "unix:@baton-test-notify-%d", (int)getpid());
    (void)setenv("NOTIFY_SOCKET", name + strlen("unix:"), 1);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return address_parse(name, &address, NULL) < 0 ? -1
                                                   : bind(manager, &address.any, address.length);
}

static int tear_down(void **state)
{
    (void)state;
    manager = fd_close(manager);
    return unsetenv("NOTIFY_SOCKET");
}

/* What was told last, and nothing else. */
static const char *told(void)
{
    static char text[512];
    char more;
    ssize_t n = recv(manager, text, sizeof text - 1, 0);

    assert_true(n > 0);
    text[n] = '\0';
    assert_int_equal(recv(manager, &more, 1, 0), -1);
    return text;
}

static void test_messages(void **state)
{
    (void)state;
    notify_ready("Serving generation 1: 100%");
    assert_string_equal(told(), "READY=1\nSTATUS=Serving generation 1: 100%");
    notify_stopping("Stopping");
    assert_string_equal(told(), "STOPPING=1\nSTATUS=Stopping");
    notify_status("%s");
    assert_string_equal(told(), "STATUS=%s");
    notify_watchdog();
    assert_string_equal(told(), "WATCHDOG=1");
    notify_extend(15000000);
    assert_string_equal(told(), "EXTEND_TIMEOUT_USEC=15000000");
}

/* sd_notify(3): systemd takes only a time that is right. */
static void test_reloading(void **state)
{
    uint64_t before = clock_monotonic_usec(), said;

    (void)state;
    notify_reloading();
    uint64_t after = clock_monotonic_usec();
    const char *text = told();
    assert_int_equal(sscanf(text, "RELOADING=1\nMONOTONIC_USEC=%" SCNu64 "\n", &said), 1);
    assert_in_range(said, before, after);
    assert_non_null(strstr(text, "\nSTATUS=Reloading"));
}

static void test_without_manager(void **state)
{
    (void)state;
    (void)unsetenv("NOTIFY_SOCKET");
    notify_ready("");
    notify_reloading();
    notify_stopping("");
    notify_status("");
    notify_watchdog();
    notify_extend(1);
    assert_int_equal(recv(manager, &(char){0}, 1, 0), -1);
    (void)setenv("NOTIFY_SOCKET", "/nowhere/notify", 1);
    notify_ready("");
}

static void test_watchdog(void **state)
{
    char pid[16];

    (void)state;
    assert_int_equal(notify_watchdog_usec(), 0);
    (void)setenv("WATCHDOG_USEC", "30000000", 1);
    assert_int_equal(notify_watchdog_usec(), 30000000);
    (void)setenv("WATCHDOG_PID", "1", 1); /* meant for another process */
    assert_int_equal(notify_watchdog_usec(), 0);
    (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
    (void)setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(notify_watchdog_usec(), 30000000); /* and it is there for the next image */
    (void)setenv("WATCHDOG_USEC", "soon", 1);
    assert_int_equal(notify_watchdog_usec(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_messages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reloading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_manager, set_up, tear_down),
        cmocka_unit_test(test_watchdog),
    };

    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
