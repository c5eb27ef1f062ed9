#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/span.h"

/*
 * Bytes on their way to one socket. What it takes at once is never copied; the rest is kept, and
 * whoever makes the bytes stops until it has gone: so a flow holds no more than one piece of what
 * was read, and an idle one holds nothing. All zero is an empty one.
 */
struct flow {
    char *bytes;
    size_t start, length; /* what is unsent: length bytes from start on */
};

enum {
    FLOW_DONE,
    FLOW_BLOCKED, /* the socket is full: wait until it is writable, and flush */
};

/*
 * Sends the spans behind what is unsent; *sent grows by the bytes that went out. The spans may be
 * changed. Returns one of the above, or -errno of the socket, or -ENOMEM: then bytes are lost.
 */
int flow_send(struct flow *flow, int fd, struct iovec *spans, int count, uint64_t *sent);
/* The same for one span. */
int flow_send_span(struct flow *flow, int fd, struct span bytes, uint64_t *sent);
/* Sends what is unsent. */
int flow_flush(struct flow *flow, int fd, uint64_t *sent);
/* Keeps a copy of @bytes to be sent later. Returns 0 or -ENOMEM. */
int flow_keep(struct flow *flow, struct span bytes);
void flow_clear(struct flow *flow);

static inline bool flow_is_empty(const struct flow *flow)
{
    return flow->length == 0;
}

static inline struct span flow_span(const struct flow *flow)
{
    return (struct span){flow->bytes ? flow->bytes + flow->start : NULL, flow->length};
}
