#include "connection/flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/send.h"

void flow_clear(struct flow *flow)
{
    free(flow->bytes);
    *flow = (struct flow){0};
}

int flow_keep(struct flow *flow, struct span bytes)
{
    if (bytes.length == 0)
        return 0;
    char *longer = malloc(flow->length + bytes.length);
    if (!longer)
        return -ENOMEM;
    if (flow->length > 0)
        memcpy(longer, flow->bytes + flow->start, flow->length);
    memcpy(longer + flow->length, bytes.at, bytes.length);
    free(flow->bytes);
    flow->bytes = longer;
    flow->start = 0;
    flow->length += bytes.length;
    return 0;
}

/* Takes @sent bytes off the spans; returns how many spans have gone whole. */
static int advance(struct iovec *spans, int count, size_t sent)
{
    int gone = 0;

    while (gone < count && sent >= spans[gone].iov_len)
        sent -= spans[gone++].iov_len;
    if (gone < count) {
        spans[gone].iov_base = (char *)spans[gone].iov_base + sent;
        spans[gone].iov_len -= sent;
    }
    return gone;
}

static int keep_all(struct flow *flow, const struct iovec *spans, int count)
{
    int r = 0;

    for (int i = 0; i < count && r == 0; i++)
        r = flow_keep(flow, (struct span){spans[i].iov_base, spans[i].iov_len});
    return r < 0 ? r : FLOW_BLOCKED;
}

int flow_send(struct flow *flow, int fd, struct iovec *spans, int count, uint64_t *sent)
{
    if (flow->length > 0)
        return keep_all(flow, spans, count);
    for (;;) {
        ssize_t n = send_spans(fd, spans, (size_t)count, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return -errno;
        if (n < 0)
            return keep_all(flow, spans, count);
        *sent += (uint64_t)n;
        int gone = advance(spans, count, (size_t)n);
        spans += gone;
        count -= gone;
        if (count == 0)
            return FLOW_DONE;
    }
}

int flow_send_span(struct flow *flow, int fd, struct span bytes, uint64_t *sent)
{
    struct iovec span = {(char *)bytes.at, bytes.length};

    return bytes.length > 0   ? flow_send(flow, fd, &span, 1, sent)
           : flow->length > 0 ? FLOW_BLOCKED
                              : FLOW_DONE;
}

int flow_flush(struct flow *flow, int fd, uint64_t *sent)
{
    while (flow->length > 0) {
        ssize_t n = send(fd, flow->bytes + flow->start, flow->length, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? FLOW_BLOCKED : -errno;
        *sent += (uint64_t)n;
        flow->start += (size_t)n;
        flow->length -= (size_t)n;
    }
    flow_clear(flow);
    return FLOW_DONE;
}
