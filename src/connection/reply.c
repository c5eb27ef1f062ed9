#include "connection/reply.h"

#include <string.h>

#include "http/status.h"

/* What a head takes beside the answer's fields; the longest registered phrase has 31 bytes. */
#define HEAD_ROOM 256

static bool has_body(unsigned status)
{
    return status >= 200 && status != 204 && status != 304;
}

static char *put(char *at, struct span bytes)
{
    return bytes.length > 0 ? mempcpy(at, bytes.at, bytes.length) : at;
}

static char *put_number(char *at, uint64_t number)
{
    char digits[20], *first = digits + sizeof digits;

    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return mempcpy(at, first, (size_t)(digits + sizeof digits - first));
}

/* Without printf(3), which would take longer than everything else that is done for an answer. */
static int append_head(
    struct server *server, const struct request *request, bool close, struct buffer *out)
{
    const struct answer *answer = &server->answer;
    int r = buffer_reserve(out, HEAD_ROOM + answer->fields.length);

    if (r < 0)
        return r;
    char *at = put(out->bytes + out->length, SPAN("HTTP/1.1 "));
    at = put_number(at, answer->status);
    at = put(at, SPAN(" "));
    at = put(at, span_of(status_phrase(answer->status)));
    at = put(at, SPAN("\r\nDate: "));
    at = put(at, (struct span){server_date(server), DATE_TEXT_MAX - 1});
    at = put(at, SPAN("\r\n"));
    if (has_body(answer->status)) {
        at = put(at, SPAN("Content-Length: "));
        at = put_number(at, answer_length(answer));
        at = put(at, SPAN("\r\n"));
    }
    if (close)
        at = put(at, SPAN("Connection: close\r\n"));
    else if (request->minor == 0) /* RFC 9112 §9.3: HTTP/1.0 wants to be told */
        at = put(at, SPAN("Connection: keep-alive\r\n"));
    at = put(at, buffer_span(&answer->fields));
    at = put(at, SPAN("\r\n"));
    out->length = (size_t)(at - out->bytes);
    return 0;
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
        .parts = parts,
        .count = count + 1,
        .bytes = answer->bytes.bytes,
        .file = answer->file,
        .lent = answer->lent,
    };
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
