#include "observe/backends.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/timespan.h"
#include "observe/pauses.h"

/* ---- a worker's entries ---- */

void backends_init(struct backends *backends, const struct board *board, unsigned slot)
{
    *backends = (struct backends){.board = board, .slot = slot};
}

/* As much of it as there is room for, with no byte that a terminal or a reader of UTF-8 minds. */
static void copy_printable(char *to, size_t size, const char *from)
{
    for (size_t length = 0; *from; from++) {
        unsigned char c = (unsigned char)*from;
        size_t needed = c >= 0x20 && c < 0x7f ? 1 : 4;
        if (length + needed >= size)
            return;
        if (needed == 1)
            to[length] = *from;
        else
            (void)snprintf(to + length, size - length, "\\x%02x", c);
        length += needed;
    }
}

/* Readers look no further than the last one that was ever taken. */
static void raise_used(struct board_head *head, uint32_t used)
{
    uint32_t now = __atomic_load_n(&head->backends, __ATOMIC_RELAXED);

    while (now < used && !__atomic_compare_exchange_n(&head->backends, &now, used, false,
                             __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
        /* another worker was first: @now is what it wrote */
    }
}

static struct board_backend *take(const struct board *board, unsigned slot)
{
    for (uint32_t i = 0; i < BOARD_BACKENDS; i++) {
        uint32_t nobody = 0;
        if (!__atomic_compare_exchange_n(
                &board->backends[i].slot, &nobody, slot, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            continue;
        raise_used(board->head, i + 1);
        return &board->backends[i];
    }
    return NULL;
}

struct board_backend *backends_add(
    struct backends *backends, const char *upstream, const char *server)
{
    static struct board_backend unread;
    struct board_backend *backend = NULL;

    if (backends && backends->board && backends->slot > 0)
        backend = take(backends->board, backends->slot);
    if (backends)
        backends->count++;
    if (!backend)
        return &unread;
    backend->number = backends->count;
    copy_printable(backend->upstream, sizeof backend->upstream, upstream);
    copy_printable(backend->server, sizeof backend->server, server);
    return backend;
}

/* ---- what all of them say ---- */

static size_t used(const struct board *board)
{
    uint32_t count = __atomic_load_n(&board->head->backends, __ATOMIC_ACQUIRE);

    return count < BOARD_BACKENDS ? count : BOARD_BACKENDS;
}

uint64_t backends_waiting(const struct board *board, const char *upstream)
{
    uint64_t waiting = 0;

    for (size_t i = 0; i < used(board); i++) {
        const struct board_backend *backend = &board->backends[i];
        if (__atomic_load_n(&backend->slot, __ATOMIC_RELAXED) != 0 &&
            strncmp(backend->upstream, upstream, sizeof backend->upstream) == 0)
            waiting += backend->waiting;
    }
    return waiting;
}

/* The states of the board, and what only a reader can say: it depends on the time. */
enum { STATE_AVOIDED = BOARD_BACKEND_UNRESOLVED + 1, STATE_UNKNOWN, STATES };

static const char *const state_words[STATES] = {
    [BOARD_BACKEND_UP] = "up",
    [BOARD_BACKEND_UNREACHABLE] = "unreachable",
    [BOARD_BACKEND_DOWN] = "down",
    [BOARD_BACKEND_UNRESOLVED] = "unresolved",
    [STATE_AVOIDED] = "avoided",
    [STATE_UNKNOWN] = "unknown", /* a later build may know more */
};

/* A server, or an upstream, over all workers of the current generation. */
struct summary {
    uint32_t number;
    struct span upstream, server;
    unsigned workers, states[STATES];
    uint64_t waiting, lent, idle, requests, failures;
};

struct summaries {
    struct summary *items;
    size_t count;
    uint64_t now_usec;
};

static void summaries_clear(struct summaries *summaries)
{
    free(summaries->items);
}

#define CLEANUP_SUMMARIES __attribute__((cleanup(summaries_clear)))

static unsigned state_of(const struct board_backend *backend, uint64_t now_usec)
{
    uint32_t state = __atomic_load_n(&backend->state, __ATOMIC_RELAXED);

    if (state == BOARD_BACKEND_UP && backend->avoided_until_usec > now_usec)
        return STATE_AVOIDED;
    return state <= BOARD_BACKEND_UNRESOLVED ? state : STATE_UNKNOWN;
}

/* Of a worker that serves now, or did last where all are stopping. */
static bool is_current(const struct board *board, const struct board_backend *backend)
{
    uint32_t number = __atomic_load_n(&backend->slot, __ATOMIC_ACQUIRE);

    if (number == 0 || number >= BOARD_SLOTS)
        return false;
    const struct board_slot *slot = &board->slots[number];
    return slot->generation == board->head->generation &&
           (slot->state == BOARD_CURRENT || slot->state == BOARD_RETIRING);
}

static struct summary *find(struct summaries *summaries, const struct board_backend *backend)
{
    for (size_t i = 0; i < summaries->count; i++)
        if (summaries->items[i].number == backend->number)
            return &summaries->items[i];
    struct summary *summary = &summaries->items[summaries->count++];
    *summary = (struct summary){
        .number = backend->number,
        .upstream = {backend->upstream, strnlen(backend->upstream, sizeof backend->upstream)},
        .server = {backend->server, strnlen(backend->server, sizeof backend->server)},
    };
    return summary;
}

static void add(struct summary *summary, const struct board_backend *backend, uint64_t now_usec)
{
    summary->workers++;
    summary->states[state_of(backend, now_usec)]++;
    summary->waiting += backend->waiting;
    summary->lent += backend->lent;
    summary->idle += backend->idle;
    summary->requests += backend->requests;
    summary->failures += backend->failures;
}

static int compare_numbers(const void *a, const void *b)
{
    const struct summary *x = a, *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

/* In the order of the configuration: an upstream, and then its servers. */
static int summarize(const struct board *board, struct summaries *ret)
{
    size_t count = used(board);

    *ret = (struct summaries){.now_usec = clock_monotonic_usec()};
    ret->items = calloc(count + 1, sizeof *ret->items);
    if (!ret->items)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (is_current(board, &board->backends[i]))
            add(find(ret, &board->backends[i]), &board->backends[i], ret->now_usec);
    qsort(ret->items, ret->count, sizeof *ret->items, compare_numbers);
    return 0;
}

static bool is_upstream(const struct summary *summary)
{
    return summary->server.length == 0;
}

static const char *state_word(const struct summary *summary)
{
    for (unsigned i = 0; i < STATES; i++)
        if (summary->states[i] == summary->workers)
            return state_words[i];
    return summary->states[BOARD_BACKEND_UP] > 0 ? "partly" : "down";
}

/* Its pause; NULL: it is not paused. */
static const struct board_pause *pause_of(
    const struct board *board, const struct summaries *summaries, const struct summary *summary)
{
    char name[sizeof((struct board_pause *)0)->upstream];

    (void)snprintf(name, sizeof name, "%.*s", (int)summary->upstream.length, summary->upstream.at);
    return pauses_find(board, name, summaries->now_usec);
}

/* In quotes, as both JSON and Prometheus' format want it; what is on the board is ASCII. */
static int add_quoted(struct buffer *out, struct span text)
{
    int r = buffer_append(out, SPAN("\""));

    for (size_t i = 0; i < text.length && r == 0; i++) {
        char c = text.at[i];
        if (c == '"' || c == '\\')
            r = buffer_append(out, SPAN("\\"));
        if (c < ' ' || c > '~') /* somebody wrote past its end */
            c = '?';
        if (r == 0)
            r = buffer_append(out, (struct span){&c, 1});
    }
    return r < 0 ? r : buffer_append(out, SPAN("\""));
}

/* ---- Prometheus ---- */

static int add_help(struct buffer *out, const char *name, const char *help)
{
    return buffer_printf(out, "# HELP baton_%s %s\n# TYPE baton_%s gauge\n", name, help, name);
}

/* The name and its labels, of which @more is the last: `,name="value"`, or "". */
static int add_sample(
    struct buffer *out, const char *name, const struct summary *summary, const char *more)
{
    int r = buffer_printf(out, "baton_%s{upstream=", name);

    if (r == 0)
        r = add_quoted(out, summary->upstream);
    if (r == 0 && !is_upstream(summary))
        r = buffer_append(out, SPAN(",server="));
    if (r == 0 && !is_upstream(summary))
        r = add_quoted(out, summary->server);
    return r < 0 ? r : buffer_printf(out, "%s} ", more);
}

static int add_number(struct buffer *out, const char *name, const struct summary *summary,
    const char *more, uint64_t value)
{
    int r = add_sample(out, name, summary, more);

    return r < 0 ? r : buffer_printf(out, "%" PRIu64 "\n", value);
}

static int add_up(struct buffer *out, const struct summary *summary)
{
    int r = add_sample(out, "backend_up", summary, "");

    return r < 0 ? r
                 : buffer_printf(out, "%.3g\n",
                       (double)summary->states[BOARD_BACKEND_UP] / (double)summary->workers);
}

static int add_servers_up(struct buffer *out, const struct summaries *summaries)
{
    int r = add_help(out, "backend_up", "Share of the workers for which the server is up.");

    for (size_t i = 0; i < summaries->count && r == 0; i++)
        if (!is_upstream(&summaries->items[i]))
            r = add_up(out, &summaries->items[i]);
    return r;
}

static int add_connections(struct buffer *out, const struct summaries *summaries)
{
    int r = add_help(out, "backend_connections", "Open connections to the server.");

    for (size_t i = 0; i < summaries->count && r == 0; i++) {
        const struct summary *summary = &summaries->items[i];
        if (is_upstream(summary))
            continue;
        r = add_number(out, "backend_connections", summary, ",state=\"lent\"", summary->lent);
        if (r == 0)
            r = add_number(out, "backend_connections", summary, ",state=\"idle\"", summary->idle);
    }
    return r;
}

static int add_waiting(struct buffer *out, const struct summaries *summaries)
{
    int r = add_help(out, "upstream_waiting", "Requests and tunnels that wait for a backend.");

    for (size_t i = 0; i < summaries->count && r == 0; i++)
        if (is_upstream(&summaries->items[i]))
            r = add_number(
                out, "upstream_waiting", &summaries->items[i], "", summaries->items[i].waiting);
    return r;
}

static int add_paused(
    const struct board *board, struct buffer *out, const struct summaries *summaries)
{
    int r = add_help(out, "upstream_paused", "Whether the upstream is paused.");

    for (size_t i = 0; i < summaries->count && r == 0; i++) {
        const struct summary *summary = &summaries->items[i];
        if (is_upstream(summary))
            r = add_number(
                out, "upstream_paused", summary, "", pause_of(board, summaries, summary) != NULL);
    }
    return r;
}

int backends_prometheus(const struct board *board, struct buffer *out)
{
    CLEANUP_SUMMARIES struct summaries summaries;
    int r = summarize(board, &summaries);

    if (r < 0 || summaries.count == 0)
        return r;
    r = add_servers_up(out, &summaries);
    if (r == 0)
        r = add_connections(out, &summaries);
    if (r == 0)
        r = add_waiting(out, &summaries);
    if (r == 0)
        r = add_paused(board, out, &summaries);
    return r;
}

/* ---- JSON ---- */

static int add_json_server(struct buffer *out, const struct summary *summary)
{
    int r = buffer_append(out, SPAN("{\"server\":"));

    if (r == 0)
        r = add_quoted(out, summary->server);
    return r < 0 ? r
                 : buffer_printf(out,
                       ",\"state\":\"%s\",\"connections\":%" PRIu64 ",\"idle\":%" PRIu64
                       ",\"requests\":%" PRIu64 ",\"failures\":%" PRIu64 "}",
                       state_word(summary), summary->lent, summary->idle, summary->requests,
                       summary->failures);
}

/* Whether the summary there is of one of its servers: they follow it. */
static bool is_server_of(
    const struct summary *upstream, const struct summaries *summaries, size_t at)
{
    return at < summaries->count && !is_upstream(&summaries->items[at]) &&
           span_equal(summaries->items[at].upstream, upstream->upstream);
}

/* With its servers. */
static int add_json_upstream(
    const struct board *board, struct buffer *out, const struct summaries *summaries, size_t at)
{
    const struct summary *upstream = &summaries->items[at];
    const char *separator = "";
    int r = buffer_append(out, SPAN("{\"name\":"));

    if (r == 0)
        r = add_quoted(out, upstream->upstream);
    if (r == 0)
        r = buffer_printf(out, ",\"paused\":%s,\"waiting\":%" PRIu64 ",\"servers\":[",
            pause_of(board, summaries, upstream) ? "true" : "false", upstream->waiting);
    while (is_server_of(upstream, summaries, ++at) && r == 0) {
        r = buffer_append_string(out, separator);
        if (r == 0)
            r = add_json_server(out, &summaries->items[at]);
        separator = ",";
    }
    return r < 0 ? r : buffer_append(out, SPAN("]}"));
}

int backends_json(const struct board *board, struct buffer *out)
{
    CLEANUP_SUMMARIES struct summaries summaries;
    const char *separator = ",\"upstreams\":[";
    int r = summarize(board, &summaries);

    if (r < 0 || summaries.count == 0)
        return r;
    for (size_t i = 0; i < summaries.count && r == 0; i++) {
        if (!is_upstream(&summaries.items[i]))
            continue;
        r = buffer_append_string(out, separator);
        if (r == 0)
            r = add_json_upstream(board, out, &summaries, i);
        separator = ",";
    }
    return r < 0 ? r : buffer_append(out, SPAN("]"));
}

/* ---- for people ---- */

struct widths {
    int upstream, server;
};

static struct widths measure(const struct summaries *summaries)
{
    struct widths widths = {sizeof "UPSTREAM" - 1, sizeof "SERVER" - 1};

    for (size_t i = 0; i < summaries->count; i++) {
        int upstream = (int)summaries->items[i].upstream.length;
        int server = (int)summaries->items[i].server.length;
        widths.upstream = upstream > widths.upstream ? upstream : widths.upstream;
        widths.server = server > widths.server ? server : widths.server;
    }
    return widths;
}

static int add_row(struct buffer *out, struct widths widths, const struct summary *summary)
{
    return buffer_printf(out,
        "%-*.*s  %-*.*s  %-11s %12" PRIu64 " %6" PRIu64 " %12" PRIu64 " %9" PRIu64 "\n",
        widths.upstream, (int)summary->upstream.length, summary->upstream.at, widths.server,
        (int)summary->server.length, summary->server.at, state_word(summary), summary->lent,
        summary->idle, summary->requests, summary->failures);
}

static int add_table(struct buffer *out, const struct summaries *summaries)
{
    struct widths widths = measure(summaries);
    int r =
        buffer_printf(out, "\n%-*s  %-*s  %-11s %12s %6s %12s %9s\n", widths.upstream, "UPSTREAM",
            widths.server, "SERVER", "STATE", "CONNECTIONS", "IDLE", "REQUESTS", "FAILURES");

    for (size_t i = 0; i < summaries->count && r == 0; i++)
        if (!is_upstream(&summaries->items[i]))
            r = add_row(out, widths, &summaries->items[i]);
    return r;
}

/* That it is paused, and how many wait; nothing where neither is so. */
static int add_remark(const struct board *board, struct buffer *out,
    const struct summaries *summaries, const struct summary *summary)
{
    const struct board_pause *pause = pause_of(board, summaries, summary);
    char left[TIMESPAN_TEXT_MAX];
    int r;

    if (!pause && summary->waiting == 0)
        return 0;
    r = buffer_printf(out, "%.*s", (int)summary->upstream.length, summary->upstream.at);
    if (r == 0 && pause)
        r = buffer_printf(out, " is paused, for %s at the most",
            timespan_format(timespan_round(pause->until_usec - summaries->now_usec), left));
    return r < 0 ? r
                 : buffer_printf(out, ": %" PRIu64 " request%s\n", summary->waiting,
                       summary->waiting == 1 ? " waits" : "s wait");
}

int backends_text(const struct board *board, struct buffer *out)
{
    CLEANUP_SUMMARIES struct summaries summaries;
    int r = summarize(board, &summaries);

    if (r < 0 || summaries.count == 0)
        return r;
    r = add_table(out, &summaries);
    for (size_t i = 0; i < summaries.count && r == 0; i++)
        if (is_upstream(&summaries.items[i]))
            r = add_remark(board, out, &summaries, &summaries.items[i]);
    return r;
}
