#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

/* What a test writes to stderr goes through a pipe, and stderr is what it was before the asserts.
 */
static int saved = -1, reading = -1;

static void redirect(void)
{
    int pipe_fds[2];

    assert_int_equal(pipe(pipe_fds), 0);
    saved = dup(STDERR_FILENO);
    assert_true(saved >= 0);
    assert_int_equal(dup2(pipe_fds[1], STDERR_FILENO), STDERR_FILENO);
    fd_close(pipe_fds[1]);
    reading = pipe_fds[0];
}

/* What was written since; the caller frees it. */
static char *written(void)
{
    char *text;
    size_t length;

    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    saved = fd_close(saved);
    assert_int_equal(fd_read_all(reading, SIZE_MAX, &text, &length), 0);
    reading = fd_close(reading);
    assert_int_equal(strlen(text), length);
    return text;
}

static void assert_written(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void assert_written(const char *format, ...)
{
    char expected[512], *text = written();
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(expected, sizeof expected, format, arguments);
    va_end(arguments);
    assert_string_equal(text, expected);
    free(text);
}

static int set_up(void **state)
{
    (void)state;
    (void)unsetenv("JOURNAL_STREAM");
    log_open();
    log_identify("baton", 0, 0);
    log_set_level(LOG_INFO);
    return 0;
}

static void test_lines(void **state)
{
    (void)state;
    redirect();
    log_info("one %d", 1);
    log_error("%s", "two");
    log_identify("supervisor", 3, 0);
    log_explained(LOG_WARNING, "00112233445566778899aabbccddeeff", "%s", "three");
    log_identify("worker", 3, 2);
    log_notice("four");
    log_line("GET / 200");
    assert_written("baton[%1$d]: one 1\nbaton[%1$d]: two\nbaton[%1$d]: three\n"
                   "baton[%1$d] worker 3.2: four\nGET / 200\n",
        (int)getpid());
}

static int evaluated;

static int evaluate(void)
{
    return ++evaluated;
}

static void test_level(void **state)
{
    (void)state;
    redirect();
    log_debug("not written, and not worked out: %d", evaluate());
    log_set_level(LOG_WARNING);
    log_notice("not written");
    log_info("not written");
    log_warning("warning");
    log_line("a line of the access log is not a message of a level");
    log_set_level(LOG_DEBUG);
    log_debug("debug %d", evaluate());
    assert_written("baton[%1$d]: warning\na line of the access log is not a message of a level\n"
                   "baton[%1$d]: debug 1\n",
        (int)getpid());
    assert_true(log_enabled(LOG_DEBUG));
    log_set_level(LOG_ERR);
    assert_true(log_enabled(LOG_ERR));
    assert_false(log_enabled(LOG_WARNING));
}

/* A message is cut, and is one line all the same; a line of the access log is whole. */
static void test_length(void **state)
{
    char much[5000];

    (void)state;
    memset(much, 'x', sizeof much - 1);
    much[sizeof much - 1] = '\0';
    redirect();
    log_identify("worker", UINT32_MAX, UINT32_MAX);
    log_info("%s", much);
    log_line(much);
    char *text = written(), *second = strchr(text, '\n');
    assert_non_null(second);
    assert_in_range(second - text, 2000, 2300);
    assert_int_equal(strlen(second + 1), sizeof much);
    free(text);
}

/* JOURNAL_STREAM, systemd.exec(5), with a device and an inode that are so far from stderr's. */
static void set_stream(unsigned device_off, unsigned inode_off)
{
    char stream[64];
    struct stat status;

    assert_int_equal(fstat(STDERR_FILENO, &status), 0);
    (void)snprintf(stream, sizeof stream, "%llu:%llu",
        (unsigned long long)status.st_dev + device_off,
        (unsigned long long)status.st_ino + inode_off);
    (void)setenv("JOURNAL_STREAM", stream, 1);
    log_open();
    (void)unsetenv("JOURNAL_STREAM");
}

/* Only while stderr is still what the variable names. */
static void test_journal_stream(void **state)
{
    static const char *const others[] = {"", "1:1", "nonsense", "1", ":", "-1:-1"};
    size_t lines = 0;

    (void)state;
    redirect();
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        (void)setenv("JOURNAL_STREAM", others[i], 1);
        log_open();
        log_info("%s", others[i]);
    }
    set_stream(1, 0);
    log_info("another device");
    set_stream(0, 1);
    log_info("another inode");
    char *text = written();
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, sizeof others / sizeof *others + 2);
    free(text);
}

/* The journal's library, as far as it is called: what would have been sent, one field a line. */
static char sent[512];

int sd_journal_send_with_location(
    const char *file, const char *line, const char *function, const char *format, ...)
{
    size_t used = 0;
    va_list arguments;

    assert_non_null(file);
    assert_non_null(line);
    assert_non_null(function);
    va_start(arguments, format);
    for (const char *field = format; field; field = va_arg(arguments, const char *)) {
        const char *percent = strchr(field, '%');
        used += (size_t)snprintf(
            sent + used, sizeof sent - used, "%.*s", (int)(percent - field), field);
        if (percent[1] == 's')
            used += (size_t)snprintf(
                sent + used, sizeof sent - used, "%s\n", va_arg(arguments, const char *));
        else
            used +=
                (size_t)snprintf(sent + used, sizeof sent - used, "%d\n", va_arg(arguments, int));
        assert_true(used < sizeof sent);
    }
    va_end(arguments);
    return 0;
}

static void test_journal(void **state)
{
    (void)state;
    set_stream(0, 0);
    log_warning("%d%%", 50);
    assert_string_equal(sent, "MESSAGE=50%\nPRIORITY=4\nBATON_ROLE=baton\nBATON_GENERATION=0\n");
    log_identify("worker", 7, 2);
    log_error("a message");
    assert_string_equal(sent, "MESSAGE=a message\nPRIORITY=3\nBATON_ROLE=worker\n"
                              "BATON_GENERATION=7\nBATON_WORKER=2\n");
    log_explained(LOG_NOTICE, "00112233445566778899aabbccddeeff", "number %d", 3);
    assert_string_equal(sent, "MESSAGE=number 3\nPRIORITY=5\nBATON_ROLE=worker\n"
                              "BATON_GENERATION=7\nBATON_WORKER=2\n"
                              "MESSAGE_ID=00112233445566778899aabbccddeeff\n");
    log_identify("supervisor", 8, 0);
    log_explained(LOG_ERR, "ffeeddccbbaa99887766554433221100", "%s", "why");
    assert_string_equal(sent, "MESSAGE=why\nPRIORITY=3\nBATON_ROLE=supervisor\n"
                              "BATON_GENERATION=8\nMESSAGE_ID=ffeeddccbbaa99887766554433221100\n");
    log_identify("worker", 7, 2);
    log_set_level(LOG_ERR);
    log_explained(LOG_NOTICE, "00112233445566778899aabbccddeeff", "not sent");
    log_line("100% of a line");
    assert_string_equal(sent, "MESSAGE=100% of a line\nPRIORITY=6\nBATON_ROLE=worker\n"
                              "BATON_GENERATION=7\nBATON_WORKER=2\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_lines, set_up),
        cmocka_unit_test_setup(test_level, set_up),
        cmocka_unit_test_setup(test_length, set_up),
        cmocka_unit_test_setup(test_journal_stream, set_up),
        cmocka_unit_test_setup(test_journal, set_up),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
