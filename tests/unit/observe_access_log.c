#include "observe/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/log.h"

/* What would go to the log. */
static char logged[512];

void log_line(const char *line)
{
    (void)strcat(strcat(logged, line), "|");
}

static char folder[64], path[80], old_path[80];
static struct access_log access_log;

static int set_up(void **state)
{
    (void)state;
    (void)strcpy(folder, "/tmp/observe_access_log.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof path, "%s/log", folder);
    (void)snprintf(old_path, sizeof old_path, "%s/log.1", folder);
    logged[0] = '\0';
    return access_log_open(&access_log, ACCESS_COMBINED, path, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    access_log_close(&access_log);
    (void)unlink(path);
    (void)unlink(old_path);
    return rmdir(folder);
}

static const char *content_of(const char *name)
{
    static char *text;
    CLEANUP_FD int fd = open(name, O_RDONLY | O_CLOEXEC);
    size_t length;

    free(text);
    text = NULL;
    assert_int_equal(fd_read_all(fd, SIZE_MAX, &text, &length), 0);
    return text;
}

#define COMBINED                                                                                   \
    "192.0.2.1 - - [14/Nov/2023:17:13:20 -0500] \"GET /a?b HTTP/1.1\" 200 1234 "                   \
    "\"http://x/\" \"curl/8\"\n"

static struct access_entry entry(void)
{
    return (struct access_entry){
        .peer = "192.0.2.1",
        .method = SPAN("GET"),
        .target = SPAN("/a?b"),
        .host = SPAN("example.com"),
        .referrer = SPAN("http://x/"),
        .agent = SPAN("curl/8"),
        .minor = 1,
        .status = 200,
        .body_bytes = 1234,
        .duration_usec = 567,
        .time = 1700000000,
    };
}

static int add(void)
{
    struct access_entry wanted = entry();

    return access_log_add(&access_log, &wanted);
}

static void test_combined(void **state)
{
    struct access_entry refused = {.peer = "::1", .status = 400, .time = 1700000000};

    (void)state;
    assert_int_equal(add(), 0);
    assert_int_equal(access_log_add(&access_log, &refused), 0);
    assert_string_equal(content_of(path), ""); /* gathered */
    assert_int_equal(access_log_flush(&access_log), 0);
    assert_string_equal(
        content_of(path), COMBINED "::1 - - [14/Nov/2023:17:13:20 -0500] \"\" 400 0 \"-\" \"-\"\n");
    assert_int_equal(access_log_flush(&access_log), 0);
    assert_int_equal(add(), 0);
    assert_int_equal(access_log_flush(&access_log), 0);
    assert_non_null(strstr(content_of(path), "\"-\" \"-\"\n" COMBINED));
    assert_null(strstr(content_of(path), "HTTP/1.0"));
    struct access_entry older = entry();
    older.minor = 0;
    assert_int_equal(access_log_add(&access_log, &older), 0);
    assert_int_equal(access_log_flush(&access_log), 0);
    assert_non_null(strstr(content_of(path), "\"GET /a?b HTTP/1.0\""));
}

static void test_json(void **state)
{
    struct access_entry refused = {.peer = "::1", .status = 400};

    (void)state;
    access_log.format = ACCESS_JSON;
    assert_int_equal(add(), 0);
    assert_int_equal(access_log_add(&access_log, &refused), 0);
    assert_int_equal(access_log_flush(&access_log), 0);
    assert_string_equal(content_of(path),
        "{\"time\":\"2023-11-14T22:13:20Z\",\"peer\":\"192.0.2.1\",\"method\":\"GET\","
        "\"target\":\"/a?b\",\"host\":\"example.com\",\"protocol\":\"HTTP/1.1\",\"status\":200,"
        "\"bytes\":1234,\"duration_usec\":567,\"referrer\":\"http://x/\",\"agent\":\"curl/8\"}\n"
        "{\"time\":\"1970-01-01T00:00:00Z\",\"peer\":\"::1\",\"method\":\"\",\"target\":\"\","
        "\"host\":\"\",\"protocol\":\"HTTP/1.0\",\"status\":400,\"bytes\":0,\"duration_usec\":0,"
        "\"referrer\":\"\",\"agent\":\"\"}\n");
}

/* Every byte, in every field that a client chooses: none of them can end the field or the line. */
static void test_escapes(void **state)
{
    char all[256];
    struct span bytes = {all, sizeof all};
    struct access_entry hostile = {.peer = "::1",
        .method = bytes,
        .target = bytes,
        .host = bytes,
        .referrer = bytes,
        .agent = bytes};

    (void)state;
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)i;
    for (int json = 0; json < 2; json++) {
        size_t quotes = 0, lines = 0;
        access_log.format = json ? ACCESS_JSON : ACCESS_COMBINED;
        assert_int_equal(ftruncate(access_log.fd, 0), 0);
        assert_int_equal(access_log_add(&access_log, &hostile), 0);
        assert_int_equal(access_log_flush(&access_log), 0);
        const char *text = content_of(path);
        for (const char *at = text; *at; at++) {
            quotes += *at == '"';
            lines += *at == '\n';
            assert_true(*at == '\n' || (*at >= 0x20 && *at < 0x7f));
        }
        assert_int_equal(lines, 1);
        assert_int_equal(quotes, json ? 38 : 6);
        assert_non_null(strstr(text, json ? "\\u0000\\u0001" : "\\x00\\x01"));
        assert_non_null(strstr(text, json ? "!\\u0022#" : "!\\x22#"));
        assert_non_null(strstr(text, json ? "[\\u005c]" : "[\\x5c]"));
        assert_non_null(strstr(text, json ? "~\\u007f\\u0080" : "~\\x7f\\x80"));
        assert_non_null(strstr(text, json ? "\\u00ff" : "\\xff"));
    }
}

static void test_flushes_when_many_have_come(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(add(), 0);
    assert_true(strlen(content_of(path)) > 0);
    assert_true(access_log.lines.capacity < 128 * 1024);
    assert_int_equal(access_log_flush(&access_log), 0);
    const char *text = content_of(path);
    assert_int_equal(strlen(text), 1000 * strlen(COMBINED));
    for (int i = 0; i < 1000; i++, text += strlen(COMBINED))
        assert_memory_equal(text, COMBINED, strlen(COMBINED));
}

/* Several workers write to one file. */
static void test_shared(void **state)
{
    struct access_log other;
    struct access_entry wanted = entry();

    (void)state;
    assert_int_equal(access_log_open(&other, ACCESS_COMBINED, path, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(add(), 0);
        assert_int_equal(access_log_add(&other, &wanted), 0);
        assert_int_equal(access_log_flush(&access_log), 0);
        assert_int_equal(access_log_flush(&other), 0);
    }
    access_log_close(&other);
    assert_string_equal(content_of(path), COMBINED COMBINED COMBINED COMBINED);
}

static void test_open(void **state)
{
    struct access_log none;
    struct reason reason = {""};
    struct stat status;
    mode_t mask = umask(0);

    (void)state;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(access_log_reopen(&access_log, NULL), 0);
    (void)umask(mask);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    assert_int_equal(fcntl(access_log.fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(access_log_open(&none, ACCESS_JSON, "/nowhere/log", &reason), -ENOENT);
    assert_string_equal(
        reason.text, "cannot open the access log /nowhere/log: No such file or directory");
    access_log_close(&none); /* half-built is enough */
}

static void test_reopen(void **state)
{
    (void)state;
    assert_int_equal(add(), 0);
    assert_int_equal(access_log_flush(&access_log), 0);
    assert_int_equal(add(), 0);
    int fd = access_log.fd;
    assert_int_equal(rename(path, old_path), 0);
    assert_int_equal(access_log_reopen(&access_log, NULL), 0);
    assert_true(access_log.fd == fd || fcntl(fd, F_GETFD) < 0);
    assert_int_equal(access_log_flush(&access_log), 0);
    assert_string_equal(content_of(old_path), COMBINED);
    assert_string_equal(content_of(path), COMBINED);
}

static void test_reopen_fails(void **state)
{
    struct reason reason = {""};

    (void)state;
    assert_int_equal(add(), 0);
    assert_int_equal(rename(path, old_path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(access_log_reopen(&access_log, &reason), -EISDIR);
    assert_non_null(strstr(reason.text, path));
    assert_int_equal(access_log_flush(&access_log), 0); /* the old file goes on */
    assert_string_equal(content_of(old_path), COMBINED);
    assert_int_equal(rmdir(path), 0);
}

/* Whole lines are counted: one that was cut short is lost, too. */
static void test_lost(void **state)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), lost = 0, pipe_fds[2];

    (void)state;
    fd_close(access_log.fd);
    access_log.fd = full;
    for (int i = 0; i < 3; i++)
        assert_int_equal(add(), 0);
    assert_int_equal(access_log_flush(&access_log), 3);
    assert_int_equal(access_log_flush(&access_log), 0); /* they are counted once */
    for (int i = 0; i < 1000; i++)
        lost += add();
    assert_int_equal(lost + access_log_flush(&access_log), 1000);

    /* A pipe of one page takes so many bytes and no more. */
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    int room = fcntl(pipe_fds[1], F_SETPIPE_SZ, 4096);
    assert_true(room >= 4096);
    fd_close(full);
    access_log.fd = pipe_fds[1];
    int lines = 2 * room / (int)strlen(COMBINED);
    for (int i = 0; i < lines; i++)
        assert_int_equal(add(), 0);
    assert_int_equal(access_log_flush(&access_log), lines - room / (int)strlen(COMBINED));
    fd_close(pipe_fds[0]);
}

/* A line for which there is no memory leaves nothing of itself behind. */
static void test_no_memory(void **state)
{
    struct access_entry huge = entry();

    (void)state;
    huge.agent.length = SIZE_MAX / 11; /* escaped, it may be 6 times as long */
    for (int json = 0; json < 2; json++) {
        access_log.format = json ? ACCESS_JSON : ACCESS_COMBINED;
        assert_int_equal(access_log_add(&access_log, &huge), 1);
        assert_int_equal(access_log.lines.length, 0);
    }
}

static void test_to_the_log(void **state)
{
    struct access_log to_log;
    struct access_entry line = {.peer = "::1", .status = 400};

    (void)state;
    assert_int_equal(access_log_open(&to_log, ACCESS_COMBINED, NULL, NULL), 0);
    assert_int_equal(access_log_reopen(&to_log, NULL), 0);
    assert_int_equal(access_log_add(&to_log, &line), 0);
    line.status = 408;
    assert_int_equal(access_log_add(&to_log, &line), 0);
    assert_string_equal(logged, "");
    assert_int_equal(access_log_flush(&to_log), 0);
    assert_string_equal(logged, "::1 - - [31/Dec/1969:19:00:00 -0500] \"\" 400 0 \"-\" \"-\"|"
                                "::1 - - [31/Dec/1969:19:00:00 -0500] \"\" 408 0 \"-\" \"-\"|");
    logged[0] = '\0';
    assert_int_equal(access_log_add(&to_log, &line), 0);
    access_log_close(&to_log); /* what has gathered is written */
    assert_int_equal(logged[0], ':');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_combined, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_escapes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flushes_when_many_have_come, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reopen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reopen_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_to_the_log, set_up, tear_down),
    };

    (void)setenv("TZ", "EST5", 1);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
