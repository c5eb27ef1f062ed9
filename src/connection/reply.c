#include "connection/reply.h"

#include <inttypes.h>
#include <string.h>

#include "http/status.h"

static bool has_body(unsigned status)
{
    return status >= 200 && status != 204 && status != 304;
}

static int append_head(
    struct server *server, const struct request *request, bool close, struct buffer *out)
{
    const struct answer *answer = &server->answer;
    int r = buffer_printf(out, "HTTP/1.1 %u %s\r\nDate: %s\r\n", answer->status,
        status_phrase(answer->status), server_date(server));

    if (r == 0 && has_body(answer->status))
        r = buffer_printf(out, "Content-Length: %" PRIu64 "\r\n", answer_length(answer));
    if (r == 0 && close)
        r = buffer_append(out, SPAN("Connection: close\r\n"));
    else if (r == 0 && request->minor == 0) /* RFC 9112 §9.3: HTTP/1.0 wants to be told */
        r = buffer_append(out, SPAN("Connection: keep-alive\r\n"));
    if (r == 0)
        r = buffer_append(out, buffer_span(&answer->fields));
    if (r == 0)
        r = buffer_append(out, SPAN("\r\n"));
    return r;
}

static uint64_t compose(struct server *server, const struct request *request, bool close,
    struct part *parts, struct output *ret)
{
    struct answer *answer = &server->answer;
    size_t before = answer->bytes.length;

    if (answer->failed || append_head(server, request, close, &answer->bytes) < 0)
        return 0;
    uint64_t head = answer->bytes.length - before;
    bool body = has_body(answer->status) && request->method != METHOD_HEAD;
    size_t count = body ? answer->part_count : 0;
    parts[0] = (struct part){PART_BYTES, before, head};
    memcpy(parts + 1, answer->parts, count * sizeof *parts);
    *ret = (struct output){
        .parts = parts, .count = count + 1, .bytes = answer->bytes.bytes, .file = answer->file};
    return head;
}

uint64_t reply_compose(struct server *server, const struct request *request, bool close,
    struct part *parts, struct output *ret)
{
    uint64_t head = compose(server, request, close, parts, ret);

    if (head == 0) {
        answer_reset(&server->answer);
        answer_text(&server->answer, 500);
        head = compose(server, request, close, parts, ret);
    }
    if (head == 0) /* no memory even for that: nothing is sent, and the connection ends */
        *ret = (struct output){.parts = parts, .count = 0, .file = -1};
    return head;
}

void reply_log_access(struct server *server, const struct sockaddr_in6 *peer,
    const struct reading *reading, unsigned status, uint64_t body_bytes)
{
    const struct request *request = &reading->request;
    char host[ADDRESS_TEXT_MAX];
    struct address address = {.ipv6 = *peer, .length = sizeof *peer};
    double duration = ev_now(server->loop) - reading->began;
    struct access_entry entry = {
        .peer = address_format_host(&address, host),
        .method = request->method_text,
        .target = request->target,
        .host = request->host,
        .referrer = request_field(request, "referer"),
        .agent = request_field(request, "user-agent"),
        .minor = request->minor,
        .partial = request->head_length == 0,
        .status = status,
        .body_bytes = body_bytes,
        .duration_usec = duration > 0 ? (uint64_t)(duration * 1e6) : 0,
        .time = (time_t)ev_now(server->loop),
    };
    int lost = access_log_add(server->access_log, &entry);

    server->counters->values[COUNTER_LOG_LOST] += (unsigned)lost;
}
