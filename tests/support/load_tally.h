#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "load_histogram.h"

/* How a request, or a connection, can fail. */
enum failure {
    FAILURE_CONNECT_REFUSED, /* ECONNREFUSED */
    FAILURE_CONNECT_FAILED,  /* any other error of connect(2) */
    FAILURE_RESET,        /* ECONNRESET or EPIPE with an answer, or the server's close, awaited */
    FAILURE_CLOSED_EARLY, /* the end of the stream before the end of the answer */
    FAILURE_TIMEOUT,
    FAILURE_BAD_RESPONSE, /* malformed, or of a wrong length, or bytes nobody asked for */
    FAILURE_WRONG_BYTES,  /* content of the right length, but other bytes; another echo or event */
    FAILURE_BAD_STATUS,
    FAILURE_KINDS,
};

#define STATUS_END 600

/*
 * What happened to one group of clients. Every request ends in exactly one of three ways: a
 * response, unanswered (a failure), or unprocessed; tally_balances() holds the counters to it.
 */
struct tally {
    uint64_t requests;
    uint64_t
        responses; /* whole and well-formed answers, be their status and content right or not */
    uint64_t unanswered;  /* requests that failed without such an answer */
    uint64_t unprocessed; /* pipelined behind an answer that announced the end of the connection:
                             the server never took them (RFC 9112 §9.3.2), so they are no failure */
    uint64_t echoes; /* of the responses: what came back through a tunnel; they have no status */
    uint64_t events; /* of streams of them */
    uint64_t failures[FAILURE_KINDS];
    uint64_t statuses[STATUS_END];
    uint64_t connections_opened;
    uint64_t closed_requested; /* connections that ended because the client said "close" */
    uint64_t closed_announced; /* ... because the server did, with a whole answer */
    uint64_t closed_idle;      /* ... because the server closed while nothing was asked */
    uint64_t bytes;            /* received, heads included */
    struct histogram latency;  /* microseconds, of the responses */
};

const char *failure_name(enum failure failure);
void tally_merge(struct tally *sum, const struct tally *other);
uint64_t tally_failed(const struct tally *tally);
/* True once no request is in progress, unless a request was counted twice or lost. */
bool tally_balances(const struct tally *tally);
/* The members of a JSON object, without its braces. */
void tally_print(const struct tally *tally, double seconds, FILE *stream);
