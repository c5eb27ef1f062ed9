#pragma once

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/span.h"

/*
 * A stream of server-sent events (WHATWG HTML §9.2) whose events are numbered from 1: "id: 7",
 * "data: event 7", an empty line. Lines end in LF; comments are read over. All zero is the
 * beginning.
 */
struct events {
    uint64_t count;      /* that were whole */
    unsigned line;       /* of the next one */
    struct buffer begun; /* a line whose end has not arrived */
};

/* Reads what comes next of it. Returns 0, -EILSEQ (a gap, a repetition, or something else: @reason
 * says what), or -ENOMEM. */
int events_feed(struct events *events, struct span bytes, struct reason *reason);
void events_clear(struct events *events);
