#include "observe/counter.h"

#include <stddef.h>

#define END(number, reason)                                                                        \
    {                                                                                              \
        number, "connections_ended", "reason=\"" reason "\"", END_HELP                             \
    }
#define MOVED(number, state)                                                                       \
    {                                                                                              \
        number, "connections_moved", "state=\"" state "\"", MOVED_HELP                             \
    }
#define ANSWERS(number, class)                                                                     \
    {                                                                                              \
        number, "answers", "class=\"" class "\"", "Answers sent."                                  \
    }
#define END_HELP "Connections ended, by reason."
#define MOVED_HELP "Connections handed to another worker, by what they were doing."

const struct counter_info counter_table[] = {
    {COUNTER_ACCEPTED, "connections_accepted", "", "Connections accepted."},
    {COUNTER_ADOPTED, "connections_adopted", "", "Connections taken over from another worker."},
    {COUNTER_REQUESTS, "requests", "", "Request heads received."},
    {COUNTER_BYTES_RECEIVED, "received_bytes", "", "Bytes received from clients."},
    {COUNTER_BYTES_SENT, "sent_bytes", "", "Bytes sent to clients."},
    ANSWERS(COUNTER_ANSWERS_1XX, "1xx"),
    ANSWERS(COUNTER_ANSWERS_2XX, "2xx"),
    ANSWERS(COUNTER_ANSWERS_3XX, "3xx"),
    ANSWERS(COUNTER_ANSWERS_4XX, "4xx"),
    ANSWERS(COUNTER_ANSWERS_5XX, "5xx"),
    {COUNTER_ACCEPT_PAUSED_FDS, "accept_pauses", "cause=\"resources\"",
        "Times a worker stopped accepting for a while."},
    {COUNTER_ACCEPT_PAUSED_FULL, "accept_pauses", "cause=\"max_connections\"",
        "Times a worker stopped accepting for a while."},
    {COUNTER_LOG_LOST, "access_log_lost", "", "Access log lines that could not be written."},
    END(COUNTER_END_CLIENT, "client_closed"),
    END(COUNTER_END_ASKED, "client_asked"),
    END(COUNTER_END_ANNOUNCED, "announced"),
    END(COUNTER_END_REFUSED, "request_refused"),
    END(COUNTER_END_IDLE, "idle_timeout"),
    END(COUNTER_END_HEADER, "header_timeout"),
    END(COUNTER_END_BODY, "body_timeout"),
    END(COUNTER_END_SEND, "send_timeout"),
    END(COUNTER_END_ABANDONED, "client_abandoned"),
    END(COUNTER_END_FAILED, "error"),
    END(COUNTER_END_STOPPED, "stopped_idle"),
    END(COUNTER_END_CUT, "drain_cut"),
    END(COUNTER_END_CRASHED, "worker_died"),
    END(COUNTER_END_TUNNEL, "tunnel_closed"),
    MOVED(COUNTER_MOVED_IDLE, "idle"),
    MOVED(COUNTER_MOVED_HEAD, "head"),
    MOVED(COUNTER_MOVED_BODY, "body"),
    MOVED(COUNTER_MOVED_REPLY, "reply"),
    MOVED(COUNTER_MOVED_LINGER, "linger"),
    MOVED(COUNTER_MOVED_WAITING, "waiting"),
    MOVED(COUNTER_MOVED_EXCHANGE, "exchange"),
    MOVED(COUNTER_MOVED_TUNNEL, "tunnel"),
    MOVED(COUNTER_MOVED_PROXY, "proxy_header"),
    {COUNTER_MOVE_REFUSED, "moves_refused", "", "Moved connections dropped as malformed."},
    {COUNTER_MOVE_UNFIT, "moves_unfit", "", "Connections that could not move and drained."},
    {COUNTER_MOVE_FULL, "moves_delayed", "", "Times a worker waited for room in the inbox."},
    {COUNTER_TUNNELS, "tunnels", "", "Tunnels begun."},
    {COUNTER_RETRIES, "retries", "", "Requests sent to a backend once more."},
    {COUNTER_HELD, "held", "", "Requests and tunnels that waited for a backend."},
    {COUNTER_BACKEND_DIALS, "backend_dials", "", "Connections to backends begun."},
    {COUNTER_BACKEND_REUSES, "backend_reuses", "", "Requests on a backend's kept connection."},
    {COUNTER_BACKEND_UNREACHED, "backend_unreached", "", "Connections that could not be made."},
    {COUNTER_BACKEND_FAILURES, "backend_failures", "", "Requests that a backend did not answer."},
    {0, NULL, NULL, NULL},
};

static uint64_t sum(const struct counters *counters, enum counter first, enum counter last)
{
    uint64_t total = 0;

    for (unsigned i = first; i <= last; i++)
        total += counters->values[i];
    return total;
}

uint64_t counters_open(const struct counters *counters)
{
    uint64_t came = counters->values[COUNTER_ACCEPTED] + counters->values[COUNTER_ADOPTED];
    uint64_t went = sum(counters, COUNTER_END_CLIENT, COUNTER_END_TUNNEL);

    /* Another process may be counting while we read: never below zero. */
    return came > went ? came - went : 0;
}

uint64_t counters_ended(const struct counters *counters)
{
    return sum(counters, COUNTER_END_CLIENT, COUNTER_END_TUNNEL) - counters_moved(counters);
}

uint64_t counters_moved(const struct counters *counters)
{
    return counters->values[COUNTER_END_MOVED];
}

void counters_add(struct counters *to, const struct counters *from)
{
    for (size_t i = 0; i < COUNTER_MAX; i++)
        to->values[i] += from->values[i];
}
