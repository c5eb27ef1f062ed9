#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/buffer.h"
#include "base/error.h"
#include "load_answer.h"
#include "load_dial.h"
#include "load_expectation.h"
#include "load_quantity.h"
#include "load_tally.h"
#include "load_tunnel.h"

enum group_kind {
    GROUP_KEEPALIVE, /* one request after the other on one connection */
    GROUP_CONNECT,   /* a connection for each request */
    GROUP_SLOWHEAD,  /* the request head arrives in pieces */
    GROUP_DOWNLOAD,  /* the answer is read slowly */
    GROUP_PIPELINE,  /* several requests at once */
    GROUP_IDLE,      /* one request, silence, and one request at the end of the run */
    GROUP_SLOW,      /* the answer comes slowly */
    GROUP_UPLOAD,    /* the request has a body */
    GROUP_EVENTS,    /* the answer is a stream of events, and has no end */
    GROUP_WEBSOCKET, /* an upgrade, and then messages that are sent back */
    GROUP_RAW,       /* no HTTP: bytes that are sent back */
    GROUP_KINDS,
};

#define GROUP_DEPTH_MAX 256

/* Clients of one kind: what they do, and what happened to them. */
struct group {
    const char *text; /* as given: KIND:COUNT[:key=value,...] */
    enum group_kind kind;
    unsigned clients;
    bool to_head; /* method=HEAD */
    unsigned status;
    struct range think_usec;
    struct range piece, gap_usec; /* slowhead, upload: bytes of a piece (0: all at once), and the
                                     time between two */
    struct range size;            /* upload: of the body; websocket, raw: of a message */
    bool chunked;                 /* upload: the body is */
    uint64_t rate;                /* download: bytes per second, 0: as fast as they come */
    uint64_t receive_buffer;      /* SO_RCVBUF, 0: the system's default */
    unsigned depth;               /* requests written at once, 1 but for pipelines */
    struct address target;        /* length 0: that of all */

    /* From group_prepare(): */
    struct buffer requests;           /* the bytes of @depth requests... */
    size_t ends[GROUP_DEPTH_MAX + 1]; /* ... where request n is from ends[n] to ends[n + 1] */
    struct expectation *expectations;
    unsigned expectation_count; /* 1: the same for all, else @depth */
    struct phrases phrases;     /* websocket, raw */
    struct dialer dialer;       /* from run_init() */

    char *path, *expect, *file; /* templates: "{n}" is the place in the pipeline, from 0 */
    bool has_hash;
    uint64_t hash;
    struct tally tally;
};

const char *group_kind_name(enum group_kind kind);
/* Reads the text, which must outlive the group. Returns 0, -EINVAL with the reason, or -ENOMEM. */
int group_parse(const char *text, struct group *ret, struct reason *reason);
/*
 * Writes the requests, reads the files. @path and @expect_file (NULL: anything) hold where the
 * group has none of its own. Returns 0 or -errno with the reason.
 */
int group_prepare(struct group *group, const char *host, const char *path, const char *expect_file,
    struct reason *reason);
void group_clear(struct group *group);

/* Whether a whole answer is what the group expects; else *ret_failure and the reason say what is
 * wrong with it. */
bool group_judge(const struct group *group, const struct answer *answer,
    const struct comparison *comparison, enum failure *ret_failure, struct reason *reason);

static inline const struct expectation *group_expectation(const struct group *group, unsigned n)
{
    return &group->expectations[n % group->expectation_count];
}
