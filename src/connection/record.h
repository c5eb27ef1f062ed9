#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/span.h"
#include "connection/answer.h"
#include "connection/download.h"
#include "http/chunked.h"

/*
 * A connection written down, to travel to another worker beside its fds. Plain values in the
 * machine's own byte order: both ends are processes of one machine, but maybe of different builds,
 * so it carries a version, and the reader checks every field as it would a stranger's bytes.
 *
 * A message is a head, and then records one behind the other. The head says of each record how many
 * of the message's fds are its: the client's, and then the file's or the backend's.
 */

/* Of the layout below. A build reads RECORD_VERSION_OLDEST to RECORD_VERSION and writes the latter.
 */
#ifndef RECORD_VERSION /* a test builds one that differs */
#define RECORD_VERSION 2
#endif
#define RECORD_VERSION_OLDEST RECORD_VERSION

#define RECORD_MESSAGE_MAX (4u << 20)
#define RECORD_FDS_MAX 250 /* the kernel takes up to 253 in a message (unix(7)) */
#define RECORD_NAME_MAX 512
#define RECORD_USEC_MAX (INT64_MAX / 16) /* 18,000 years, and far from where sums overflow */

/* What it was doing; numbers are part of the format. */
enum record_kind {
    RECORD_IDLE = 1,
    RECORD_HEAD = 2,
    RECORD_BODY = 3,
    RECORD_REPLY = 4,
    RECORD_LINGER = 5,
    RECORD_WAITING = 6, /* for a backend, with a complete head: it is asked for anew */
    RECORD_EXCHANGE = 7,
    RECORD_TUNNEL = 8, /* without a backend's fd: it waits for one */
    RECORD_PROXY = 9,  /* before the end of a PROXY header */
};

/* WAITING, EXCHANGE, TUNNEL: what is to be known of the backend's side. */
struct record_backend {
    struct span upstream, server; /* their names */
    int64_t deadline_usec;        /* left of the waiting, or of the backend's time; -1: none */
    unsigned attempts;            /* that failed */
    bool reused;                  /* the connection has served other requests */
    /* EXCHANGE: the request ... */
    bool whole, replayable, broken;
    struct span trailer; /* what came of its trailer section */
    /* ... and the response. */
    enum download_state state;
    enum response_framing framing;
    enum forward_body body;
    bool keep_alive;
    uint64_t left;
    struct chunked chunked;
    struct span pending;
    /* TUNNEL */
    bool client_ended, backend_ended, client_told, backend_told;
    /* EXCHANGE, TUNNEL: what is unsent to the backend; record->unsent is so to the client, as it is
     * in WAITING, of the answers before. */
    struct span unsent;
};

struct record {
    enum record_kind kind;
    bool close, linger, admin, file;
    bool with_backend; /* its fd travels, too */
    uint16_t status;
    uint16_t reason; /* enum counter: COUNTER_END_..., 0: none yet */
    struct sockaddr_in6 peer;
    uint64_t requests, head_sent, sent;
    int64_t taken;         /* of sent, what the client had when the deadline was armed */
    int64_t deadline_usec; /* left; -1: none */
    uint64_t began_usec;   /* since the head was complete */
    struct span listener;  /* its name */
    /* HEAD, BODY, REPLY: bytes from the start of the current head on. */
    struct span received;
    uint32_t head_length; /* BODY, REPLY: of the complete head */
    uint32_t body;        /* BODY, REPLY: where in received what follows begins */
    uint64_t body_left, body_read;
    struct chunked chunked;
    /* REPLY: what is left of the answer. */
    struct part parts[ANSWER_PARTS_MAX + 1];
    size_t part_count;
    struct span unsent; /* the memory that PART_BYTES parts lie in, one behind the other */
    struct record_backend backend;
};

/* Begins a message in the empty @message. Returns 0 or -ENOMEM. */
int record_begin(struct buffer *message);
/* Appends a record. Returns 0, or with the message as it was: -EMSGSIZE (no room in it), -ENOMEM.
 */
int record_append(struct buffer *message, const struct record *record);

/* How many fds each record of a message takes. */
struct record_fds {
    uint8_t counts[RECORD_FDS_MAX];
};

/* Reads the head of a message. Returns how many records follow, or -EINVAL (none of this version).
 */
int record_open(struct span *message, struct record_fds *ret_fds);
/*
 * Cuts the next record off and checks it; its spans point into the message. Returns 0, or -EINVAL:
 * this one is none; where its lengths do not fit each other, the others behind it cannot be found
 * either, and the message is cut to nothing.
 */
int record_next(struct span *message, struct record *ret);
/* How many fds a record takes. */
size_t record_fd_count(const struct record *record);
