#include "load_tally.h"

#include <inttypes.h>

static const char *const failure_names[FAILURE_KINDS] = {
    [FAILURE_CONNECT_REFUSED] = "connect_refused",
    [FAILURE_CONNECT_FAILED] = "connect_failed",
    [FAILURE_RESET] = "reset",
    [FAILURE_CLOSED_EARLY] = "closed_early",
    [FAILURE_TIMEOUT] = "timeouts",
    [FAILURE_BAD_RESPONSE] = "bad_response",
    [FAILURE_WRONG_BYTES] = "wrong_bytes",
    [FAILURE_BAD_STATUS] = "bad_status",
};

const char *failure_name(enum failure failure)
{
    return failure_names[failure];
}

void tally_merge(struct tally *sum, const struct tally *other)
{
    sum->requests += other->requests;
    sum->responses += other->responses;
    sum->unanswered += other->unanswered;
    sum->unprocessed += other->unprocessed;
    for (int i = 0; i < FAILURE_KINDS; i++)
        sum->failures[i] += other->failures[i];
    for (int i = 0; i < STATUS_END; i++)
        sum->statuses[i] += other->statuses[i];
    sum->echoes += other->echoes;
    sum->events += other->events;
    sum->connections_opened += other->connections_opened;
    sum->closed_requested += other->closed_requested;
    sum->closed_announced += other->closed_announced;
    sum->closed_idle += other->closed_idle;
    sum->bytes += other->bytes;
    histogram_merge(&sum->latency, &other->latency);
}

uint64_t tally_failed(const struct tally *tally)
{
    uint64_t failed = 0;

    for (int i = 0; i < FAILURE_KINDS; i++)
        failed += tally->failures[i];
    return failed;
}

bool tally_balances(const struct tally *tally)
{
    uint64_t counted = 0;

    for (int i = 0; i < STATUS_END; i++)
        counted += tally->statuses[i];
    return tally->requests == tally->responses + tally->unanswered + tally->unprocessed &&
           tally->responses == counted + tally->echoes &&
           tally->responses == tally->latency.count && tally->unanswered <= tally_failed(tally);
}

static void print_statuses(const struct tally *tally, FILE *stream)
{
    const char *separator = "";

    fprintf(stream, "\"status\":{");
    for (int i = 0; i < STATUS_END; i++) {
        if (tally->statuses[i] == 0)
            continue;
        fprintf(stream, "%s\"%d\":%" PRIu64, separator, i, tally->statuses[i]);
        separator = ",";
    }
    fprintf(stream, "}");
}

static void print_failures(const struct tally *tally, FILE *stream)
{
    fprintf(stream, "\"failures\":{");
    for (int i = 0; i < FAILURE_KINDS; i++)
        fprintf(
            stream, "%s\"%s\":%" PRIu64, i > 0 ? "," : "", failure_names[i], tally->failures[i]);
    fprintf(stream, "}");
}

static void print_latency(const struct histogram *latency, FILE *stream)
{
    static const struct {
        const char *name;
        unsigned permille;
    } percentiles[] = {{"p50", 500}, {"p90", 900}, {"p99", 990}, {"p99.9", 999}};
    double mean = latency->count > 0 ? (double)latency->sum / (double)latency->count : 0;

    fprintf(stream, "\"latency\":{");
    for (unsigned i = 0; i < sizeof percentiles / sizeof *percentiles; i++)
        fprintf(stream, "\"%s\":%" PRIu64 ",", percentiles[i].name,
            histogram_percentile(latency, percentiles[i].permille));
    fprintf(stream, "\"max\":%" PRIu64 ",\"mean\":%.1f}", latency->max, mean);
}

void tally_print(const struct tally *tally, double seconds, FILE *stream)
{
    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
        {"requests", tally->requests},
        {"responses", tally->responses},
        {"unanswered", tally->unanswered},
        {"unprocessed", tally->unprocessed},
        {"echoes", tally->echoes},
        {"events", tally->events},
        {"failed", tally_failed(tally)},
        {"closed", tally->closed_idle},
        {"connections_opened", tally->connections_opened},
        {"closed_requested", tally->closed_requested},
        {"closed_announced", tally->closed_announced},
        {"closed_idle", tally->closed_idle},
        {"bytes", tally->bytes},
    };

    for (unsigned i = 0; i < sizeof counters / sizeof *counters; i++)
        fprintf(stream, "\"%s\":%" PRIu64 ",", counters[i].name, counters[i].value);
    print_failures(tally, stream);
    fprintf(stream, ",");
    print_statuses(tally, stream);
    fprintf(stream, ",");
    print_latency(&tally->latency, stream);
    fprintf(stream, ",\"requests_per_second\":%.1f",
        seconds > 0 ? (double)tally->responses / seconds : 0.0);
}
