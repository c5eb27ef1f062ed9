#pragma once

#include <stdint.h>

/*
 * What is counted. Names and meanings are a contract (baton(8), METRICS); numbers are too, because
 * a generation of another build writes into the same board: append only, and never reuse a number.
 */
enum counter {
    COUNTER_ACCEPTED = 0, /* connections taken from a listening socket */
    COUNTER_ADOPTED = 1,  /* connections taken over from another worker */
    COUNTER_REQUESTS = 2, /* request heads received whole */
    COUNTER_BYTES_RECEIVED = 3,
    COUNTER_BYTES_SENT = 4,
    COUNTER_ANSWERS_1XX = 5,
    COUNTER_ANSWERS_2XX = 6,
    COUNTER_ANSWERS_3XX = 7,
    COUNTER_ANSWERS_4XX = 8,
    COUNTER_ANSWERS_5XX = 9,
    COUNTER_ACCEPT_PAUSED_FDS = 10,  /* times accepting paused: out of fds or memory */
    COUNTER_ACCEPT_PAUSED_FULL = 11, /* times accepting paused: MaxConnections= reached */
    COUNTER_LOG_LOST = 12,           /* access log lines that could not be written */

    /* Why a connection ended: each ends with exactly one. */
    COUNTER_END_CLIENT = 16,    /* the client closed it between requests */
    COUNTER_END_ASKED = 17,     /* after an answer, as the client or HTTP/1.0 asked */
    COUNTER_END_ANNOUNCED = 18, /* after an answer with Connection: close of ours */
    COUNTER_END_REFUSED = 19,   /* after a 4xx that cannot keep the connection */
    COUNTER_END_IDLE = 20,      /* IdleTimeout= */
    COUNTER_END_HEADER = 21,    /* HeaderTimeout= */
    COUNTER_END_BODY = 22,      /* BodyTimeout= */
    COUNTER_END_SEND = 23,      /* SendTimeout= */
    COUNTER_END_ABANDONED = 24, /* the client left in the middle of a request or an answer */
    COUNTER_END_FAILED = 25,    /* an error of ours: a file that shrank, no memory */
    COUNTER_END_STOPPED = 26,   /* idle when the server stopped */
    COUNTER_END_CUT = 27,       /* unfinished when DrainTimeout= ran out */
    COUNTER_END_CRASHED = 28,   /* its worker died */
    COUNTER_END_MOVED = 29,     /* handed to another worker: not an end for the client */
    COUNTER_END_TUNNEL = 30,    /* a tunnel, which either side ended */

    COUNTER_MOVED_IDLE = 32, /* moved connections by what they were doing */
    COUNTER_MOVED_HEAD = 33,
    COUNTER_MOVED_BODY = 34,
    COUNTER_MOVED_REPLY = 35,
    COUNTER_MOVED_LINGER = 36,
    COUNTER_MOVE_REFUSED = 37,  /* records an adopting worker dropped as malformed */
    COUNTER_MOVE_UNFIT = 38,    /* connections that could not be moved, and drained instead */
    COUNTER_MOVE_FULL = 39,     /* times a retiring worker waited for room in the inbox */
    COUNTER_MOVED_WAITING = 40, /* for a backend */
    COUNTER_MOVED_EXCHANGE = 41,
    COUNTER_MOVED_TUNNEL = 42,
    COUNTER_MOVED_PROXY = 43, /* before the end of a PROXY header */

    COUNTER_TUNNELS = 48,           /* tunnels begun */
    COUNTER_RETRIES = 49,           /* requests sent to a backend once more */
    COUNTER_HELD = 50,              /* requests and tunnels that had to wait for a backend */
    COUNTER_BACKEND_DIALS = 51,     /* connections to backends begun */
    COUNTER_BACKEND_REUSES = 52,    /* requests on a connection that was there already */
    COUNTER_BACKEND_UNREACHED = 53, /* connections that could not be made */
    COUNTER_BACKEND_FAILURES = 54,  /* requests that a backend took and did not answer */

    COUNTER_MAX = 64,
};

struct counters {
    uint64_t values[COUNTER_MAX];
};

struct counter_info {
    enum counter counter;
    const char *name;   /* of the Prometheus metric, without "baton_" and "_total" */
    const char *labels; /* "" or `name="value"` */
    const char *help;
};

/*
 * Every counter in use, but COUNTER_END_MOVED: those of moves by state add up to it. Those of one
 * name stand beside each other; ends with a NULL name.
 */
extern const struct counter_info counter_table[];

/* Connections open now: what came minus what ended. */
uint64_t counters_open(const struct counters *counters);
/* Connections that ended, moves not counted. */
uint64_t counters_ended(const struct counters *counters);
/* Moves of every kind. */
uint64_t counters_moved(const struct counters *counters);
void counters_add(struct counters *to, const struct counters *from);
