#pragma once

#include "base/buffer.h"
#include "http/chunked.h"
#include "http/response.h"

/*
 * What a worker needs while it passes a piece of somebody's bytes on, and nobody between two
 * events: there is one for all of its connections.
 */

#define PIECE_SIZE 65536 /* what is received in one call, and the most that a flow keeps of it */

struct workspace {
    char piece[PIECE_SIZE];
    struct buffer head; /* of a message, made anew */
    struct buffer body; /* a piece of a body in new chunks */
    struct response response;
};

/*
 * Appends what chunked_read() found to a body that is made anew: data as a chunk to @out, a piece
 * of the trailer section to @trailer, until it is complete. Return 0 or -ENOMEM.
 */
int workspace_add_run(const struct chunked_run *run, struct buffer *trailer, struct buffer *out);
/* The end of the body, with the fields of the trailer section that may be sent on. */
int workspace_add_last_chunk(struct buffer *trailer, struct buffer *out);
