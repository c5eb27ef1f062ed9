#include "load_request.h"

#include <inttypes.h>
#include <string.h>

#include "fnv.h"
#include "http/chunked.h"
#include "load_group.h"
#include "load_random.h"
#include "websocket.h"

#define CHUNK_MAX 16384

int request_append_template(struct buffer *out, const char *template, unsigned n)
{
    for (const char *mark; (mark = strstr(template, "{n}")); template = mark + 3) {
        int r = buffer_append(out, (struct span){template, (size_t)(mark - template)});
        if (r == 0)
            r = buffer_printf(out, "%u", n);
        if (r < 0)
            return r;
    }
    return buffer_append_string(out, template);
}

static const char *fields_of(const struct group *group)
{
    switch (group->kind) {
    case GROUP_CONNECT:
        return "Connection: close\r\n";
    case GROUP_WEBSOCKET:
        return "Connection: Upgrade\r\nUpgrade: websocket\r\n"
               "Sec-WebSocket-Key: " WEBSOCKET_KEY "\r\nSec-WebSocket-Version: 13\r\n";
    case GROUP_EVENTS:
        return "Accept: text/event-stream\r\n";
    default:
        return "";
    }
}

int request_append(
    struct buffer *out, const struct group *group, const char *host, const char *path, unsigned n)
{
    int r = buffer_append_string(out, group->to_head ? "HEAD " : "GET ");

    if (r == 0)
        r = request_append_template(out, path, n);
    if (r == 0)
        r = buffer_printf(out, " HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, fields_of(group));
    return r;
}

/* Bytes that differ wherever two of them are mistaken for each other. */
static int make_body(struct buffer *out, uint64_t length)
{
    uint64_t random = 1;
    int r = buffer_reserve(out, length + 8);

    for (; r == 0 && out->length < length; out->length += 8) {
        uint64_t word = random_next(&random);
        memcpy(out->bytes + out->length, &word, 8);
    }
    out->length = length;
    return r;
}

static int append_chunks(struct buffer *out, struct span body)
{
    uint64_t random = 1;
    int r = 0;

    while (body.length > 0 && r == 0) {
        size_t length = random_between(&random, (struct range){1, CHUNK_MAX});
        if (length > body.length)
            length = body.length;
        r = chunked_append_size(out, length);
        if (r == 0)
            r = buffer_append(out, (struct span){body.at, length});
        if (r == 0)
            r = buffer_append_string(out, "\r\n");
        body = (struct span){body.at + length, body.length - length};
    }
    if (r == 0)
        r = buffer_append_string(out, "0\r\n\r\n");
    return r;
}

int request_append_upload(struct buffer *out, const struct group *group, const char *host,
    const char *path, uint64_t *ret_hash)
{
    CLEANUP_BUFFER struct buffer body = {0};
    int r = make_body(&body, group->size.low);

    *ret_hash = r == 0 ? fnv_add(FNV_OFFSET, buffer_span(&body)) : 0;
    if (r == 0)
        r = buffer_printf(out, "POST %s HTTP/1.1\r\nHost: %s\r\n", path, host);
    if (r == 0 && group->chunked)
        r = buffer_append_string(out, "Transfer-Encoding: chunked\r\n\r\n");
    else if (r == 0)
        r = buffer_printf(out, "Content-Length: %" PRIu64 "\r\n\r\n", group->size.low);
    if (r == 0)
        r = group->chunked ? append_chunks(out, buffer_span(&body))
                           : buffer_append(out, buffer_span(&body));
    return r;
}
