#include "observe/report.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "observe/backends.h"

static const char *const state_names[] = {
    [BOARD_FREE] = "free",
    [BOARD_STARTING] = "starting",
    [BOARD_CURRENT] = "current",
    [BOARD_RETIRING] = "retiring",
};

/* Written by another process, perhaps of another build: read once, and not trusted as an index. */
static uint32_t state_of(const struct board_slot *slot)
{
    return __atomic_load_n(&slot->state, __ATOMIC_RELAXED);
}

static const char *state_name(uint32_t state)
{
    return state <= BOARD_RETIRING ? state_names[state] : "unknown";
}

struct gauges {
    unsigned workers[BOARD_RETIRING + 1];
    uint64_t open[BOARD_RETIRING + 1];
};

static void measure(const struct board *board, struct gauges *ret)
{
    *ret = (struct gauges){0};
    for (unsigned i = 1; i < BOARD_SLOTS; i++) {
        const struct board_slot *slot = &board->slots[i];
        uint32_t state = state_of(slot);
        if (state == BOARD_FREE || state > BOARD_RETIRING)
            continue;
        ret->workers[state]++;
        ret->open[state] += counters_open(&slot->counters);
    }
}

static int add_metric(struct buffer *out, const char *name, const char *type, const char *help)
{
    return buffer_printf(out, "# HELP baton_%s %s\n# TYPE baton_%s %s\n", name, help, name, type);
}

static int add_counters(const struct counters *sums, struct buffer *out)
{
    const char *previous = "";
    int r = 0;

    for (const struct counter_info *info = counter_table; info->name && r == 0; info++) {
        if (strcmp(info->name, previous) != 0)
            r = buffer_printf(out, "# HELP baton_%s_total %s\n# TYPE baton_%s_total counter\n",
                info->name, info->help, info->name);
        previous = info->name;
        const char *open = info->labels[0] ? "{" : "", *close = info->labels[0] ? "}" : "";
        if (r == 0)
            r = buffer_printf(out, "baton_%s_total%s%s%s %" PRIu64 "\n", info->name, open,
                info->labels, close, sums->values[info->counter]);
    }
    return r;
}

static int add_gauges(const struct board *board, struct buffer *out)
{
    struct gauges gauges;
    int r;

    measure(board, &gauges);
    r = add_metric(out, "workers", "gauge", "Worker processes, by state.");
    for (unsigned i = BOARD_STARTING; i <= BOARD_RETIRING && r == 0; i++)
        r = buffer_printf(
            out, "baton_workers{state=\"%s\"} %u\n", state_names[i], gauges.workers[i]);
    if (r == 0)
        r = add_metric(out, "connections", "gauge", "Open connections, by their worker's state.");
    for (unsigned i = BOARD_STARTING; i <= BOARD_RETIRING && r == 0; i++)
        r = buffer_printf(
            out, "baton_connections{state=\"%s\"} %" PRIu64 "\n", state_names[i], gauges.open[i]);
    return r;
}

int report_prometheus(const struct board *board, struct buffer *out)
{
    const struct board_head *head = board->head;
    struct counters sums;

    board_sum(board, &sums);
    int r = add_counters(&sums, out);
    if (r == 0)
        r = add_gauges(board, out);
    if (r == 0)
        r = add_metric(out, "generation", "gauge", "Number of the current generation.");
    if (r == 0)
        r = buffer_printf(out, "baton_generation %u\n", head->generation);
    if (r == 0)
        r = add_metric(out, "reloads_total", "counter", "Reloads, by outcome.");
    if (r == 0)
        r = buffer_printf(out,
            "baton_reloads_total{outcome=\"done\"} %u\nbaton_reloads_total{outcome=\"refused\"} "
            "%u\n",
            head->reloads, head->reloads_refused);
    if (r == 0)
        r = add_metric(out, "worker_crashes_total", "counter", "Workers that died unasked.");
    if (r == 0)
        r = buffer_printf(out, "baton_worker_crashes_total %u\n", head->worker_crashes);
    if (r == 0)
        r = add_metric(out, "start_time_seconds", "gauge", "When the server first started.");
    if (r == 0)
        r = buffer_printf(out, "baton_start_time_seconds %" PRIu64 ".%06" PRIu64 "\n",
            head->started_usec / 1000000, head->started_usec % 1000000);
    if (r == 0)
        r = backends_prometheus(board, out);
    return r;
}

static int add_json_workers(const struct board *board, struct buffer *out)
{
    const char *separator = "";
    int r = 0;

    for (unsigned i = 1; i < BOARD_SLOTS && r == 0; i++) {
        const struct board_slot *slot = &board->slots[i];
        uint32_t state = state_of(slot);
        if (state == BOARD_FREE)
            continue;
        r = buffer_printf(out,
            "%s{\"pid\":%d,\"generation\":%u,\"worker\":%u,\"state\":\"%s\",\"connections\":"
            "%" PRIu64 ",\"requests\":%" PRIu64 "}",
            separator, slot->pid, slot->generation, slot->worker, state_name(state),
            counters_open(&slot->counters), slot->counters.values[COUNTER_REQUESTS]);
        separator = ",";
    }
    return r;
}

int report_json(const struct board *board, struct buffer *out)
{
    const struct board_head *head = board->head;
    struct counters sums;

    board_sum(board, &sums);
    int r = buffer_printf(out,
        "{\"version\":\"" BATON_VERSION "\",\"generation\":%u,\"stopping\":%s,\"reloads\":%u,"
        "\"reloads_refused\":%u,\"worker_crashes\":%u,\"connections\":%" PRIu64
        ",\"requests\":%" PRIu64 ",\"workers\":[",
        head->generation, head->stopping ? "true" : "false", head->reloads, head->reloads_refused,
        head->worker_crashes, counters_open(&sums), sums.values[COUNTER_REQUESTS]);
    if (r == 0)
        r = add_json_workers(board, out);
    if (r == 0)
        r = buffer_append(out, SPAN("]"));
    if (r == 0)
        r = backends_json(board, out);
    if (r == 0)
        r = buffer_append(out, SPAN("}\n"));
    return r;
}

static int add_text_workers(const struct board *board, struct buffer *out)
{
    int r = buffer_printf(out, "%10s %10s %7s %-9s %12s %12s\n", "PID", "GENERATION", "WORKER",
        "STATE", "CONNECTIONS", "REQUESTS");

    for (unsigned i = 1; i < BOARD_SLOTS && r == 0; i++) {
        const struct board_slot *slot = &board->slots[i];
        uint32_t state = state_of(slot);
        if (state == BOARD_FREE)
            continue;
        r = buffer_printf(out, "%10d %10u %7u %-9s %12" PRIu64 " %12" PRIu64 "\n", slot->pid,
            slot->generation, slot->worker, state_name(state), counters_open(&slot->counters),
            slot->counters.values[COUNTER_REQUESTS]);
    }
    return r;
}

int report_text(const struct board *board, struct buffer *out)
{
    const struct board_head *head = board->head;
    time_t started = (time_t)(head->started_usec / 1000000);
    struct counters sums;
    char since[64] = "";
    struct tm local;

    board_sum(board, &sums);
    if (localtime_r(&started, &local))
        (void)strftime(since, sizeof since, "%F %T %Z", &local);
    int r = report_line(board, out);
    if (r == 0)
        r = buffer_printf(out,
            "\nBaton " BATON_VERSION ", serving since %s\n"
            "%u reloads done, %u refused; %u workers crashed\n"
            "%" PRIu64 " connections accepted, %" PRIu64 " open; %" PRIu64 " requests\n\n",
            since, head->reloads, head->reloads_refused, head->worker_crashes,
            sums.values[COUNTER_ACCEPTED], counters_open(&sums), sums.values[COUNTER_REQUESTS]);
    if (r == 0)
        r = add_text_workers(board, out);
    if (r == 0)
        r = backends_text(board, out);
    return r;
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

int report_line(const struct board *board, struct buffer *out)
{
    struct gauges gauges;

    measure(board, &gauges);
    unsigned workers = gauges.workers[BOARD_CURRENT];
    int r = buffer_printf(out, "%s generation %u: %u worker%s, %" PRIu64 " connection%s",
        board->head->stopping ? "Stopping" : "Serving", board->head->generation, workers,
        plural(workers), gauges.open[BOARD_CURRENT], plural(gauges.open[BOARD_CURRENT]));
    workers = gauges.workers[BOARD_RETIRING];
    if (r == 0 && workers > 0)
        r = buffer_printf(out, "; draining: %u worker%s, %" PRIu64 " connection%s", workers,
            plural(workers), gauges.open[BOARD_RETIRING], plural(gauges.open[BOARD_RETIRING]));
    return r;
}
