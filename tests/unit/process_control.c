#include "process/control.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/fd.h"
#include "fds.h"

static struct ev_loop *loop;
static struct control control;
static char folder[64], path[80];
static size_t fd_count;

/* Who asked, and what. */
static struct control_connection *asked[64];
static unsigned asked_count;
static char last_request[CONTROL_REQUEST_MAX];
static void (*then)(struct control_connection *connection);

static void on_asked(void *owner, struct control_connection *connection, const char *request)
{
    assert_ptr_equal(owner, &asked_count);
    (void)snprintf(last_request, sizeof last_request, "%s", request);
    asked[asked_count++] = connection;
    if (then)
        then(connection);
}

static void answer_at_once(struct control_connection *connection)
{
    control_answer(connection, 1, "done");
}

static int set_up(void **state)
{
    int fd;

    (void)state;
    asked_count = 0;
    then = NULL;
    fd_count = fds_open();
    (void)strcpy(folder, "/tmp/process_control.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof path, "%s/control.sock", folder);
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!loop || control_listen(path, &fd, NULL) < 0)
        return -1;
    control_init(&control, loop, fd, on_asked, &asked_count);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    control_destroy(&control);
    ev_loop_destroy(loop);
    (void)unlink(path);
    return rmdir(folder) == 0 && fds_open() == fd_count ? 0 : -1;
}

/* `baton`, in another process; what control_ask() came to is read from it when it has ended. */
struct client {
    pid_t pid;
    int said;
};

static struct client ask(const char *request, uid_t user)
{
    int said[2];

    assert_int_equal(pipe2(said, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        CLEANUP_BUFFER struct buffer line = {0};
        struct reason reason = {""};
        char *text = NULL;
        int r = user == 0 || setuid(user) == 0 ? control_ask(path, request, &text, &reason) : 1000;
        (void)buffer_printf(&line, "%d:%s", r, r < 0 ? reason.text : text);
        _exit(fd_write_all(said[1], line.bytes, line.length) < 0);
    }
    fd_close(said[1]);
    return (struct client){pid, said[0]};
}

static void on_said(struct ev_loop *in, ev_io *io, int events)
{
    (void)events;
    ev_io_stop(in, io);
    ev_break(in, EVBREAK_ALL);
}

/* Serves until the client has its outcome, which the caller frees. */
static char *outcome_of(struct client client)
{
    char *text = NULL;
    size_t length;
    ev_io said;

    ev_io_init(&said, on_said, client.said, EV_READ);
    ev_io_start(loop, &said);
    (void)ev_run(loop, 0);
    assert_int_equal(fd_read_all(client.said, SIZE_MAX, &text, &length), 0);
    fd_close(client.said);
    assert_int_equal(waitpid(client.pid, NULL, 0), client.pid);
    return text;
}

static void assert_outcome(struct client client, const char *expected)
{
    char *text = outcome_of(client);

    assert_string_equal(text, expected);
    free(text);
}

static void assert_failure(struct client client, int error, const char *part)
{
    char *text = outcome_of(client);

    assert_int_equal(atoi(text), error);
    assert_non_null(strstr(text, part));
    free(text);
}

static void run_until_asked(unsigned count)
{
    while (asked_count < count)
        (void)ev_run(loop, EVRUN_ONCE);
    assert_int_equal(asked_count, count);
}

static void test_answers(void **state)
{
    struct client first = ask("reload", 0);

    (void)state;
    run_until_asked(1);
    assert_string_equal(last_request, "reload");
    struct client second = ask("status json", 0);
    run_until_asked(2);
    assert_string_equal(last_request, "status json");
    assert_int_equal(control.connection_count, 2);
    control_answer(asked[1], 0, "not now:\nfor a reason\n");
    assert_outcome(second, "1:not now:\nfor a reason\n");
    control_answer(asked[0], 1, ""); /* however long it took */
    assert_outcome(first, "0:");
    assert_int_equal(control.connection_count, 0);
    then = answer_at_once;
    first = ask("stop", 0);
    run_until_asked(3);
    assert_outcome(first, "0:done");
}

/* In as many messages as it takes. */
static void test_long_answer(void **state)
{
    CLEANUP_BUFFER struct buffer text = {0};
    struct client client = ask("status", 0);

    (void)state;
    for (int i = 0; i < 60000; i++)
        assert_int_equal(buffer_printf(&text, "line %d\n", i), 0);
    run_until_asked(1);
    control_answer(asked[0], 1, buffer_string(&text));
    char *answer = outcome_of(client);
    assert_memory_equal(answer, "0:", 2);
    assert_string_equal(answer + 2, buffer_string(&text));
    free(answer);
}

/* Nobody waits for one that left, whether that is known already or not. */
static void test_client_that_left(void **state)
{
    struct client client = ask("reload", 0);

    (void)state;
    run_until_asked(1);
    assert_int_equal(kill(client.pid, SIGKILL), 0);
    assert_outcome(client, "");
    while (control.connection_count > 0)
        (void)ev_run(loop, EVRUN_ONCE);
    client = ask("reload", 0);
    run_until_asked(2);
    assert_int_equal(kill(client.pid, SIGKILL), 0);
    assert_int_equal(waitpid(client.pid, NULL, 0), client.pid);
    fd_close(client.said);
    control_answer(asked[1], 1, "done"); /* without SIGPIPE */
    assert_int_equal(control.connection_count, 0);
}

static void test_requests_that_are_none(void **state)
{
    char request[CONTROL_REQUEST_MAX + 200] = {0};

    (void)state;
    memset(request, 'x', CONTROL_REQUEST_MAX - 1);
    struct client client = ask(request, 0);
    run_until_asked(1);
    assert_string_equal(last_request, request);
    control_answer(asked[0], 1, "");
    assert_outcome(client, "0:");
    for (size_t length = CONTROL_REQUEST_MAX; length < sizeof request; length += 60) {
        memset(request, 'x', length);
        client = ask(request, 0);
        while (control.connection_count == 0)
            (void)ev_run(loop, EVRUN_ONCE);
        while (control.connection_count > 0)
            (void)ev_run(loop, EVRUN_ONCE);
        assert_outcome(client, "1:the request is too long");
    }
    assert_int_equal(asked_count, 1);
}

static int connect_to_it(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    (void)strcpy(address.sun_path, path);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Whoever is too many is turned away, and the others are not kept waiting for it. */
static void test_too_many(void **state)
{
    int fds[100], turned_away = 0;

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        fds[i] = connect_to_it();
        (void)ev_run(loop, EVRUN_NOWAIT);
    }
    unsigned most = control.connection_count;
    assert_in_range(most, 10, 64); /* STATE_CONNECTIONS_MAX */
    for (size_t i = 0; i < 100; i++)
        turned_away += recv(fds[i], &(char){0}, 1, MSG_DONTWAIT) == 0;
    assert_int_equal(turned_away, 100 - most);
    for (size_t i = 0; i < 100; i++)
        fd_close(fds[i]);
    while (control.connection_count > 0)
        (void)ev_run(loop, EVRUN_ONCE);
    struct client client = ask("status", 0);
    then = answer_at_once;
    run_until_asked(1);
    assert_outcome(client, "0:done");
}

static void test_nobody_there(void **state)
{
    (void)state;
    fd_close(control_release(&control));
    assert_failure(ask("status", 0), -ECONNREFUSED, "no server answers on the control socket");
    assert_int_equal(unlink(path), 0);
    assert_failure(ask("status", 0), -ENOENT, path);
}

static void test_server_that_went_away(void **state)
{
    struct client client = ask("reload", 0);

    (void)state;
    run_until_asked(1);
    control_abandon(&control);
    assert_failure(client, -ECONNRESET, "the server went away before it answered");
    assert_int_equal(access(path, F_OK), 0); /* the file is not a forked child's */
}

/* What answers there is no Baton, or is in the middle of its end. */
static void test_strange_servers(void **state)
{
    static const struct {
        const char *answer;
        int times, error;
    } rows[] = {{"ok", 1, -ECONNRESET}, {"", 0, -ECONNRESET}, {"okay\nwhat", 1, -ECONNRESET},
        {"ok\n0123456789abcdef", 70000, -EMSGSIZE}};

    (void)state;
    CLEANUP_FD int fd = control_release(&control);
    assert_int_equal(fd_set_nonblock(fd, false), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct client client = ask("status", 0);
        CLEANUP_FD int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        assert_int_equal(recv(connection, &(char){0}, 1, 0), 1);
        for (int j = 0; j < rows[i].times; j++)
            (void)send(connection, rows[i].answer, strlen(rows[i].answer), MSG_NOSIGNAL);
        connection = fd_close(connection);
        assert_failure(client, rows[i].error, rows[i].error == -EMSGSIZE ? "cannot read" : "went");
    }
}

/* A succession: who waits for an answer gets it from the next image. */
static void test_succession(void **state)
{
    struct client client = ask("reload", 0);

    (void)state;
    run_until_asked(1);
    int connection = control_release_connection(asked[0]), listening = control_release(&control);
    assert_int_equal(control.connection_count, 0);
    assert_true(fcntl(listening, F_GETFD) >= 0);
    assert_int_equal(control_release(&control), -1);
    control_init(&control, loop, listening, on_asked, &asked_count);
    struct control_connection *adopted = control_adopt(&control, connection);
    assert_non_null(adopted);
    assert_int_equal(control.connection_count, 1);
    control_answer(adopted, 1, "reloaded");
    assert_outcome(client, "0:reloaded");
    then = answer_at_once;
    client = ask("status", 0);
    run_until_asked(2);
    assert_outcome(client, "0:done");
}

static void test_destroy(void **state)
{
    struct client client = ask("reload", 0);

    (void)state;
    run_until_asked(1);
    control_destroy(&control);
    assert_failure(client, -ECONNRESET, "went away");
    assert_int_equal(access(path, F_OK), -1);
    /* There may be none at all. */
    control_init(&control, loop, -1, on_asked, &asked_count);
    assert_int_equal(control_release(&control), -1);
    control_destroy(&control);
}

static void test_listen(void **state)
{
    struct reason reason = {""};
    struct stat status;
    int fd = -1;

    (void)state;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode, S_IFSOCK | 0600);
    assert_int_equal(fcntl(control.io.fd, F_GETFD), FD_CLOEXEC);
    assert_true(fcntl(control.io.fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(control_listen(path, &fd, &reason), -EADDRINUSE);
    assert_non_null(strstr(reason.text, "another server answers"));
    fd_close(control_release(&control)); /* as one that was killed: the file stays */
    mode_t mask = umask(0123);
    assert_int_equal(control_listen(path, &fd, &reason), 0);
    assert_int_equal(umask(mask), 0123);
    control_init(&control, loop, fd, on_asked, &asked_count);
    assert_int_equal(fd, control.io.fd);
}

/* A file that is in the way is only removed if it is a socket that nobody listens on. */
static void test_listen_elsewhere(void **state)
{
    static const char *const bad[] = {"", "control.sock", "@abstract", "/nowhere/control.sock"};
    char text[200];
    struct reason reason = {""};
    struct stat status;
    int fd = -1;

    (void)state;
    control_destroy(&control);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    fd_close(file);
    assert_int_equal(control_listen(path, &fd, &reason), -EADDRINUSE);
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISREG(status.st_mode));
    (void)snprintf(text, sizeof text, "%s/link", folder);
    assert_int_equal(symlink(path, text), 0);
    assert_int_equal(control_listen(text, &fd, &reason), -EADDRINUSE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(control_listen(path, &fd, &reason), 0);
    fd = fd_close(fd);
    assert_int_equal(control_listen(text, &fd, &reason), -EADDRINUSE); /* a link is no socket */
    assert_int_equal(lstat(text, &status), 0);
    assert_int_equal(unlink(text), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_true(control_listen(bad[i], &fd, &reason) < 0);
    memset(text, '/', 108);
    text[108] = '\0';
    assert_int_equal(control_listen(text, &fd, &reason), -EINVAL);
    assert_non_null(strstr(reason.text, "longer than 107 bytes"));
    assert_int_equal(fd, -1);
}

/* unix(7): the mode of the file keeps others out; where it does not, SO_PEERCRED does. */
static void test_strangers(void **state)
{
    enum { NOBODY = 65534 };

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(folder, 0755), 0);
    assert_failure(ask("status", NOBODY), -EACCES, "Permission denied");
    assert_int_equal(chmod(path, 0666), 0);
    struct client client = ask("status", NOBODY);
    struct client root = ask("status", 0);
    then = answer_at_once;
    assert_outcome(root, "0:done");
    char *text = outcome_of(client);
    assert_true(atoi(text) < 0);
    free(text);
    assert_int_equal(asked_count, 1);
}

static void test_path(void **state)
{
    static const struct {
        const char *option, *configured, *runtime, *session, *path;
    } rows[] = {
        {"/o", "/c", "/r", "/s", "/o"},
        {NULL, "/c", "/r", "/s", "/c"},
        {NULL, NULL, "/run/x", "/s", "/run/x/control.sock"},
        {NULL, NULL, "/run/x:/run/y", "/s", "/run/x/control.sock"},
        {NULL, NULL, "", "/s", NULL},
        {NULL, NULL, NULL, "/s", NULL},
    };
    char text[PATH_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct config config = {.control_socket = (char *)rows[i].configured};
        if (rows[i].runtime)
            (void)setenv("RUNTIME_DIRECTORY", rows[i].runtime, 1);
        else
            (void)unsetenv("RUNTIME_DIRECTORY");
        (void)setenv("XDG_RUNTIME_DIR", rows[i].session, 1);
        const char *expected = rows[i].path;
        if (!expected)
            expected = geteuid() == 0 ? "/run/baton/control.sock" : "/s/baton/control.sock";
        assert_ptr_equal(control_path(rows[i].option, &config, text), text);
        assert_string_equal(text, expected);
        if (!rows[i].configured)
            assert_string_equal(control_path(rows[i].option, NULL, text), expected);
    }
    (void)unsetenv("XDG_RUNTIME_DIR");
    if (geteuid() != 0)
        assert_null(control_path(NULL, NULL, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_client_that_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_requests_that_are_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_server_that_went_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_strange_servers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_succession, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_destroy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listen_elsewhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_strangers, set_up, tear_down),
        cmocka_unit_test(test_path),
    };

    (void)alarm(60); /* for an event that never comes */
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
