#include "process/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"

#define HEADER "baton-state"

void state_init(struct state *state)
{
    *state = (struct state){.board = -1, .control = -1, .inbox_read = -1, .inbox_write = -1};
}

void state_clear(struct state *state)
{
    free(state->binary);
    free(state->ours);
    free(state->nonce);
    free(state->workers);
    config_sources_clear(&state->current);
    config_sources_clear(&state->candidate);
    state_init(state);
}

int state_add_worker(struct state *state, const struct state_worker *worker)
{
    struct state_worker *workers =
        reallocarray(state->workers, state->worker_count + 1, sizeof *workers);

    if (!workers)
        return -ENOMEM;
    state->workers = workers;
    state->workers[state->worker_count++] = *worker;
    return 0;
}

static int format_text(struct buffer *out, const char *key, const char *value)
{
    int r = buffer_printf(out, "%s=", key);

    for (const char *at = value; *at && r == 0; at++) {
        if (*at == '\n')
            r = buffer_append(out, SPAN("\\n"));
        else if (*at == '\\')
            r = buffer_append(out, SPAN("\\\\"));
        else
            r = buffer_append(out, (struct span){at, 1});
    }
    return r < 0 ? r : buffer_append(out, SPAN("\n"));
}

static int format_sources(
    struct buffer *out, const char *kind, const struct config_sources *sources)
{
    char name[32], text[32];
    int r = 0;

    (void)snprintf(name, sizeof name, "%s-name", kind);
    (void)snprintf(text, sizeof text, "%s-text", kind);
    for (size_t i = 0; i < sources->count && r == 0; i++) {
        r = format_text(out, name, sources->items[i].name);
        if (r == 0)
            r = format_text(out, text, sources->items[i].text);
    }
    return r;
}

static int format_worker(struct buffer *out, const struct state_worker *worker)
{
    return buffer_printf(out, "worker=%d %u %u %u %d %d %" PRIu64 "\n", (int)worker->pid,
        worker->generation, worker->number, worker->slot, worker->channel, worker->retiring,
        worker->deadline_usec);
}

int state_format(const struct state *state, struct buffer *text)
{
    int r = buffer_printf(text, HEADER "=%d\n", STATE_VERSION);

    if (r == 0)
        r = format_text(text, "binary", state->binary);
    if (r == 0)
        r = format_text(text, "ours", state->ours);
    if (r == 0)
        r = format_text(text, "nonce", state->nonce);
    if (r == 0)
        r = buffer_printf(text,
            "board=%d\ncontrol=%d\ninbox-read=%d\ninbox-write=%d\ngeneration=%u\nlast-generation=%"
            "u\nasked=%" PRIu64 "\nagain=%d\n",
            state->board, state->control, state->inbox_read, state->inbox_write, state->generation,
            state->last_generation, state->asked_usec, state->again);
    for (size_t i = 0; i < state->worker_count && r == 0; i++)
        r = format_worker(text, &state->workers[i]);
    for (size_t i = 0; i < state->connection_count && r == 0; i++)
        r = buffer_printf(
            text, "connection=%d %d\n", state->connections[i].fd, state->connections[i].role);
    if (r == 0)
        r = format_sources(text, "current", &state->current);
    if (r == 0)
        r = format_sources(text, "candidate", &state->candidate);
    return r;
}

/* Whether format_text() can have written it. */
static bool is_text(struct span value)
{
    for (size_t i = 0; i < value.length; i++) {
        if (value.at[i] == '\\' && (++i == value.length || !strchr("n\\", value.at[i])))
            return false;
        if (value.at[i] == '\0')
            return false;
    }
    return true;
}

static int parse_text(struct span value, char **ret)
{
    if (!is_text(value))
        return -EINVAL;
    char *text = malloc(value.length + 1), *out = text;
    if (!text)
        return -ENOMEM;
    for (size_t i = 0; i < value.length; i++) {
        bool escaped = value.at[i] == '\\';
        i += escaped;
        *out++ = escaped && value.at[i] == 'n' ? '\n' : value.at[i];
    }
    *out = '\0';
    free(*ret);
    *ret = text;
    return 0;
}

static int parse_number(struct span value, uint64_t maximum, uint64_t *ret)
{
    int r = span_to_u64(value, ret);

    return r < 0 || *ret > maximum ? -EINVAL : 0;
}

static int parse_unsigned(struct span value, unsigned *ret)
{
    uint64_t number;
    int r = parse_number(value, UINT32_MAX, &number);

    if (r == 0)
        *ret = (unsigned)number;
    return r;
}

static int parse_fd(struct span value, int *ret)
{
    uint64_t number;

    if (span_equal(value, SPAN("-1"))) {
        *ret = -1;
        return 0;
    }
    int r = parse_number(value, INT32_MAX, &number);
    if (r == 0 && number < 3) /* the standard streams are never ours */
        r = -EINVAL;
    if (r == 0)
        *ret = (int)number;
    return r;
}

static int parse_worker(struct span value, struct state *state)
{
    struct state_worker worker = {0};
    uint64_t numbers[7];

    for (size_t i = 0; i < 7; i++) {
        struct span word = span_cut(&value, ' ');
        if (!word.at || span_to_u64(word, &numbers[i]) < 0)
            return -EINVAL;
    }
    if (value.at || numbers[0] < 1 || numbers[0] > INT32_MAX || numbers[1] > UINT32_MAX ||
        numbers[2] < 1 || numbers[2] > STATE_WORKERS_MAX || numbers[3] < 1 ||
        numbers[3] > STATE_WORKERS_MAX || numbers[4] < 3 || numbers[4] > INT32_MAX ||
        numbers[5] > 1 || state->worker_count >= STATE_WORKERS_MAX)
        return -EINVAL;
    worker.pid = (pid_t)numbers[0];
    worker.generation = (unsigned)numbers[1];
    worker.number = (unsigned)numbers[2];
    worker.slot = (unsigned)numbers[3];
    worker.channel = (int)numbers[4];
    worker.retiring = numbers[5] == 1;
    worker.deadline_usec = numbers[6];
    return state_add_worker(state, &worker);
}

static int parse_connection(struct span value, struct state *state)
{
    struct state_connection *connection = &state->connections[state->connection_count];
    uint64_t role = 0;

    if (state->connection_count == STATE_CONNECTIONS_MAX)
        return -EINVAL;
    int r = parse_fd(span_cut(&value, ' '), &connection->fd);
    if (r == 0)
        r = value.at && connection->fd >= 0 ? parse_number(value, STATE_QUEUED, &role) : -EINVAL;
    if (r < 0)
        return r;
    connection->role = (enum state_role)role;
    state->connection_count++;
    return 0;
}

static int parse_flag(struct span value, bool *ret)
{
    uint64_t number;
    int r = parse_number(value, 1, &number);

    if (r == 0)
        *ret = number == 1;
    return r;
}

/* A -name line and the -text line after it are one source. */
static int parse_source_name(struct span value, struct config_sources *sources)
{
    char *name = NULL;
    int r = parse_text(value, &name);

    if (r == 0)
        r = config_sources_add(sources, name, "");
    free(name);
    return r;
}

static int parse_source_text(struct span value, struct config_sources *sources)
{
    if (sources->count == 0)
        return -EINVAL;
    return parse_text(value, &sources->items[sources->count - 1].text);
}

static int parse_line(struct span key, struct span value, struct state *state)
{
    if (span_equal(key, SPAN("binary")))
        return parse_text(value, &state->binary);
    if (span_equal(key, SPAN("ours")))
        return parse_text(value, &state->ours);
    if (span_equal(key, SPAN("nonce")))
        return parse_text(value, &state->nonce);
    if (span_equal(key, SPAN("board")))
        return parse_fd(value, &state->board);
    if (span_equal(key, SPAN("control")))
        return parse_fd(value, &state->control);
    if (span_equal(key, SPAN("inbox-read")))
        return parse_fd(value, &state->inbox_read);
    if (span_equal(key, SPAN("inbox-write")))
        return parse_fd(value, &state->inbox_write);
    if (span_equal(key, SPAN("generation")))
        return parse_unsigned(value, &state->generation);
    if (span_equal(key, SPAN("last-generation")))
        return parse_unsigned(value, &state->last_generation);
    if (span_equal(key, SPAN("asked")))
        return parse_number(value, UINT64_MAX, &state->asked_usec);
    if (span_equal(key, SPAN("worker")))
        return parse_worker(value, state);
    if (span_equal(key, SPAN("again")))
        return parse_flag(value, &state->again);
    if (span_equal(key, SPAN("connection")))
        return parse_connection(value, state);
    if (span_equal(key, SPAN("current-name")))
        return parse_source_name(value, &state->current);
    if (span_equal(key, SPAN("current-text")))
        return parse_source_text(value, &state->current);
    if (span_equal(key, SPAN("candidate-name")))
        return parse_source_name(value, &state->candidate);
    if (span_equal(key, SPAN("candidate-text")))
        return parse_source_text(value, &state->candidate);
    return -EINVAL;
}

static int parse_version(struct span line, struct reason *reason)
{
    struct span rest = line, key = span_cut(&rest, '=');
    uint64_t version;

    if (!span_equal(key, SPAN(HEADER)) || !rest.at || span_to_u64(rest, &version) < 0)
        return reason_set(reason, -EINVAL, "the state passed on is none of Baton's");
    if (version != STATE_VERSION)
        return reason_set(reason, -EPROTONOSUPPORT,
            "the state passed on has format version %" PRIu64 "; this build reads version %d",
            version, STATE_VERSION);
    return 0;
}

int state_parse(struct span text, struct state *state, struct reason *reason)
{
    int r = parse_version(span_cut(&text, '\n'), reason);

    while (r == 0 && text.length > 0) {
        struct span value = span_cut(&text, '\n'), key = span_cut(&value, '=');
        r = value.at ? parse_line(key, value, state) : -EINVAL;
        if (r < 0)
            return reason_set(reason, r,
                "the state passed on has a line this build cannot read: %.*s",
                (int)(key.length < 40 ? key.length : 40), key.at);
    }
    if (r == 0 && (!state->binary || !state->ours || !state->nonce || state->board < 0 ||
                      state->inbox_read < 0 || state->inbox_write < 0))
        r = reason_set(reason, -EINVAL, "the state passed on is incomplete");
    return r;
}

int state_save(const struct state *state, int *ret_fd)
{
    CLEANUP_BUFFER struct buffer text = {0};
    CLEANUP_FD int fd = memfd_create("baton-state", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : state_format(state, &text);

    if (r == 0)
        r = fd_write_all(fd, text.bytes, text.length);
    if (r < 0)
        return r;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int state_load(int fd, struct state *state, struct reason *reason)
{
    char *text;
    size_t length;

    if (lseek(fd, 0, SEEK_SET) < 0)
        return reason_set(reason, -errno, "the state passed on cannot be read: %m");
    int r = fd_read_all(fd, STATE_SIZE_MAX, &text, &length);
    if (r < 0)
        return reason_set(reason, r, "the state passed on cannot be read: %s", strerror(-r));
    r = state_parse((struct span){text, length}, state, reason);
    free(text);
    return r;
}
