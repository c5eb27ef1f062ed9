#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/span.h"

/*
 * An answer that is made piece by piece: numbers that say where in the content they stand (lines of
 * 8 bytes, "0000010\n" at 16), or events without end. No fd and no loop.
 */
struct stream {
    bool events;
    enum { STREAM_CHUNKED, STREAM_LENGTH, STREAM_CLOSE } framing;
    uint64_t size, at;    /* of the content, in bytes; events: so many were made */
    uint64_t pieces;      /* that the content comes in */
    uint64_t period_usec; /* between two pieces; 0: as fast as they are taken */
};

/*
 * Sets out to answer with what @query asks for: size=BYTES (65536), pieces=N (1),
 * ms=MILLISECONDS (0) for all of it, framing=chunked|length|close. False: that cannot be.
 */
bool stream_begin(struct stream *stream, bool events, struct span query);
/* Each appends and returns 0 or -ENOMEM. */
int stream_append_head(const struct stream *stream, struct buffer *out);
int stream_append_piece(struct stream *stream, struct buffer *out);
bool stream_is_over(const struct stream *stream);
