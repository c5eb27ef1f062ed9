#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "connection/output.h"

/*
 * Answers that wait for the next one. A client that pipelines (RFC 9112 §9.3.2) has sent several
 * requests before it reads; their answers leave in one send(2). A worker has one of these: it is
 * empty again before the event is over, and so nothing in it outlives the connection's turn.
 */
struct held {
    struct buffer bytes;
};

/* How much may be held back; what is larger is worth a send(2) of its own. */
#define HELD_MAX (32 * 1024)

void held_destroy(struct held *held);
static inline bool held_is_empty(const struct held *held)
{
    return held->bytes.length == 0;
}

/*
 * Puts what is held in front of @output, a view whose first part is bytes, and takes a copy of all
 * of its bytes. *ret_before is how much was held. False when memory ran out: @output is useless.
 */
bool held_join(struct held *held, struct output *output, uint64_t *ret_before);
/*
 * Sends to @fd what is held; *sent grows by what went out. Returns as output_send(); unless it is
 * OUTPUT_DONE, the rest is held still.
 */
int held_send(struct held *held, int fd, uint64_t *sent);
void held_drop(struct held *held);
