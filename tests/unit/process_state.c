#include "process/state.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

/* All that a state must have. */
#define LEAST                                                                                      \
    "baton-state=2\nbinary=/usr/sbin/baton\nours=\nnonce=\nboard=10\ninbox-read=11\n"              \
    "inbox-write=12\n"

static struct state state;
static struct reason reason;

static int set_up(void **unused)
{
    (void)unused;
    state_init(&state);
    reason.text[0] = '\0';
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    state_clear(&state);
    return 0;
}

static char *copy(const char *text)
{
    char *string = strdup(text);

    assert_non_null(string);
    return string;
}

/* Every field is another one than after state_init(). */
static void fill(struct state *full)
{
    struct state_worker workers[] = {{100, 7, 1, 1, 20, false, UINT64_MAX},
        {INT32_MAX, UINT32_MAX, STATE_WORKERS_MAX, STATE_WORKERS_MAX, INT32_MAX, true, 123456789}};

    full->binary = copy("/opt/back\\slash/new\nline/\\n");
    full->ours = copy("0110");
    full->nonce = copy("0123456789abcdef0123456789abcdef");
    full->board = 10;
    full->control = 13;
    full->inbox_read = 11;
    full->inbox_write = 12;
    full->generation = 7;
    full->last_generation = UINT32_MAX;
    full->again = true;
    full->asked_usec = UINT64_MAX;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(state_add_worker(full, &workers[i]), 0);
    for (int i = 0; i < STATE_CONNECTIONS_MAX; i++)
        full->connections[full->connection_count++] =
            (struct state_connection){30 + i, (enum state_role)(i % 3)};
    assert_int_equal(
        config_sources_add(&full->current, "/etc/baton/baton.conf", "[Server]\n\n"), 0);
    assert_int_equal(config_sources_add(&full->current, "a\nname\\", "\\\\text\\n\n"), 0);
    assert_int_equal(config_sources_add(&full->candidate, "command line", ""), 0);
}

static void assert_sources(const struct config_sources *a, const struct config_sources *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        assert_string_equal(a->items[i].name, b->items[i].name);
        assert_string_equal(a->items[i].text, b->items[i].text);
    }
}

static void assert_states(const struct state *a, const struct state *b)
{
    assert_string_equal(a->binary, b->binary);
    assert_string_equal(a->ours, b->ours);
    assert_string_equal(a->nonce, b->nonce);
    assert_int_equal(a->board, b->board);
    assert_int_equal(a->control, b->control);
    assert_int_equal(a->inbox_read, b->inbox_read);
    assert_int_equal(a->inbox_write, b->inbox_write);
    assert_int_equal(a->generation, b->generation);
    assert_int_equal(a->last_generation, b->last_generation);
    assert_int_equal(a->again, b->again);
    assert_int_equal(a->asked_usec, b->asked_usec);
    assert_int_equal(a->worker_count, b->worker_count);
    for (size_t i = 0; i < a->worker_count; i++) {
        assert_int_equal(a->workers[i].pid, b->workers[i].pid);
        assert_int_equal(a->workers[i].generation, b->workers[i].generation);
        assert_int_equal(a->workers[i].number, b->workers[i].number);
        assert_int_equal(a->workers[i].slot, b->workers[i].slot);
        assert_int_equal(a->workers[i].channel, b->workers[i].channel);
        assert_int_equal(a->workers[i].retiring, b->workers[i].retiring);
        assert_int_equal(a->workers[i].deadline_usec, b->workers[i].deadline_usec);
    }
    assert_int_equal(a->connection_count, b->connection_count);
    for (size_t i = 0; i < a->connection_count; i++) {
        assert_int_equal(a->connections[i].fd, b->connections[i].fd);
        assert_int_equal(a->connections[i].role, b->connections[i].role);
    }
    assert_sources(&a->current, &b->current);
    assert_sources(&a->candidate, &b->candidate);
}

static void test_there_and_back(void **unused)
{
    CLEANUP_STATE struct state read_state;
    CLEANUP_BUFFER struct buffer text = {0};

    (void)unused;
    fill(&state);
    state_init(&read_state);
    assert_int_equal(state_format(&state, &text), 0);
    assert_int_equal(state_parse(buffer_span(&text), &read_state, &reason), 0);
    assert_states(&state, &read_state);
}

static void test_memfd(void **unused)
{
    CLEANUP_STATE struct state read_state;
    int fd = -1;

    (void)unused;
    fill(&state);
    state_init(&read_state);
    assert_int_equal(state_save(&state, &fd), 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    for (int i = 0; i < 2; i++) { /* from the beginning, whoever has read before */
        state_clear(&read_state);
        assert_int_equal(state_load(fd, &read_state, &reason), 0);
        assert_states(&state, &read_state);
    }
    fd_close(fd);
    assert_int_equal(state_load(fd, &read_state, &reason), -EBADF);
    assert_non_null(strstr(reason.text, "cannot be read"));
}

/* It is the contract with other builds. */
static void test_text(void **unused)
{
    (void)unused;
    static const char text[] =
        LEAST "control=13\ngeneration=7\nlast-generation=8\nasked=99\nagain=1\n"
              "worker=100 7 1 2 20 0 5\nconnection=30 2\n"
              "current-name=f\ncurrent-text=a\\nb\\\\\n"
              "candidate-name=g\ncandidate-text=\n";
    assert_int_equal(state_parse(SPAN(text), &state, &reason), 0);
    assert_string_equal(state.binary, "/usr/sbin/baton");
    assert_int_equal(state.board, 10);
    assert_int_equal(state.inbox_write, 12);
    assert_int_equal(state.control, 13);
    assert_int_equal(state.generation, 7);
    assert_int_equal(state.last_generation, 8);
    assert_int_equal(state.asked_usec, 99);
    assert_true(state.again);
    assert_int_equal(state.workers[0].slot, 2);
    assert_int_equal(state.workers[0].deadline_usec, 5);
    assert_int_equal(state.connections[0].role, STATE_QUEUED);
    assert_string_equal(state.current.items[0].text, "a\nb\\");
    assert_string_equal(state.candidate.items[0].name, "g");
}

static void test_least(void **unused)
{
    (void)unused;
    assert_int_equal(state_parse(SPAN(LEAST), &state, &reason), 0);
    assert_int_equal(state.control, -1);
    assert_int_equal(state.worker_count, 0);
    assert_int_equal(state.connection_count, 0);
    assert_int_equal(state.candidate.count, 0);
    assert_int_equal(state.generation, 0);
    state_clear(&state);
    /* The last line may lack its end. */
    assert_int_equal(state_parse((struct span){LEAST, strlen(LEAST) - 1}, &state, &reason), 0);
}

/* Without any one of its lines it is incomplete. */
static void test_incomplete(void **unused)
{
    static const char *const lines[] = {
        "binary=/b\n", "ours=\n", "nonce=\n", "board=10\n", "inbox-read=11\n", "inbox-write=12\n"};

    (void)unused;
    for (size_t missing = 0; missing < 6; missing++) {
        CLEANUP_BUFFER struct buffer text = {0};
        assert_int_equal(buffer_append_string(&text, "baton-state=2\n"), 0);
        for (size_t i = 0; i < 6; i++)
            if (i != missing)
                assert_int_equal(buffer_append_string(&text, lines[i]), 0);
        assert_int_equal(state_parse(buffer_span(&text), &state, &reason), -EINVAL);
        assert_string_equal(reason.text, "the state passed on is incomplete");
        state_clear(&state);
    }
}

static void test_version(void **unused)
{
    static const struct {
        const char *text;
        int result;
        const char *why;
    } rows[] = {
        {"", -EINVAL, "none of Baton's"},
        {"\n", -EINVAL, "none of Baton's"},
        {"baton-state\n", -EINVAL, "none of Baton's"},
        {"baton-state=\n", -EINVAL, "none of Baton's"},
        {"baton-state=one\n", -EINVAL, "none of Baton's"},
        {"baton-states=1\n", -EINVAL, "none of Baton's"},
        {"binary=/b\nbaton-state=2\n", -EINVAL, "none of Baton's"},
        {"baton-state=0\n", -EPROTONOSUPPORT, "version 0; this build reads version 2"},
        {"baton-state=3\nwhat is this?\n", -EPROTONOSUPPORT, "version 3"},
        {"baton-state=2", -EINVAL, "incomplete"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(state_parse(span_of(rows[i].text), &state, &reason), rows[i].result);
        assert_non_null(strstr(reason.text, rows[i].why));
    }
}

static void test_bad_lines(void **unused)
{
    static const char *const lines[] = {"", "what", "what=1", "binary", "=", "Binary=/b",
        "nonce=\\", "nonce=\\x", "nonce=a\\", "board=", "board=x", "board=-2", "board=2",
        "board=2147483648", "control=1", "control= 13", "inbox-read=0", "generation=-1",
        "generation=4294967296", "last-generation=", "asked=18446744073709551616", "again=2",
        "again=yes", "worker=", "worker=100 7 1 2 20 0", "worker=100 7 1 2 20 0 5 6",
        "worker=100 7 1 2 20 0 5 ", "worker=100  7 1 2 20 0 5", "worker=0 7 1 2 20 0 5",
        "worker=-1 7 1 2 20 0 5", "worker=2147483648 7 1 2 20 0 5",
        "worker=100 4294967296 1 2 20 0 5", "worker=100 7 0 2 20 0 5", "worker=100 7 1024 2 20 0 5",
        "worker=100 7 1 0 20 0 5", "worker=100 7 1 1024 20 0 5", "worker=100 7 1 2 2 0 5",
        "worker=100 7 1 2 2147483648 0 5", "worker=100 7 1 2 20 2 5", "worker=100 7 1 2 20 0 -1",
        "connection=", "connection=30", "connection=30 ", "connection=30 3", "connection=-1 0",
        "connection=2 0", "connection=30 0 0", "current-text=no name", "candidate-text=no name",
        "candidate-name=\\"};

    (void)unused;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CLEANUP_BUFFER struct buffer text = {0};
        assert_int_equal(buffer_printf(&text, LEAST "%s\n", lines[i]), 0);
        if (state_parse(buffer_span(&text), &state, &reason) != -EINVAL)
            fail_msg("'%s' was read", lines[i]);
        assert_non_null(strstr(reason.text, "has a line this build cannot read"));
        state_clear(&state);
    }
    /* A backslash is the last byte there is. */
    char *end = malloc(strlen(LEAST "nonce=\\"));
    assert_non_null(end);
    struct span text = {
        memcpy(end, LEAST "nonce=\\", strlen(LEAST "nonce=\\")), strlen(LEAST "nonce=\\")};
    assert_int_equal(state_parse(text, &state, &reason), -EINVAL);
    free(end);
    state_clear(&state);
    assert_int_equal(state_parse(SPAN(LEAST "nonce=a\0b\n"), &state, &reason), -EINVAL);
    state_clear(&state);
    assert_int_equal(state_parse(SPAN(LEAST "nonce=a\\\0b\n"), &state, &reason), -EINVAL);
}

static void test_too_many(void **unused)
{
    (void)unused;
    for (int workers = 0; workers < 2; workers++) {
        CLEANUP_BUFFER struct buffer text = {0};
        const char *line = workers ? "worker=100 7 1 2 20 0 5\n" : "connection=30 0\n";
        int most = workers ? STATE_WORKERS_MAX : STATE_CONNECTIONS_MAX;
        assert_int_equal(buffer_append_string(&text, LEAST), 0);
        for (int i = 0; i < most; i++)
            assert_int_equal(buffer_append_string(&text, line), 0);
        assert_int_equal(state_parse(buffer_span(&text), &state, &reason), 0);
        state_clear(&state);
        assert_int_equal(buffer_append_string(&text, line), 0);
        assert_int_equal(state_parse(buffer_span(&text), &state, &reason), -EINVAL);
        state_clear(&state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memfd, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_least, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_incomplete, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_version, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
