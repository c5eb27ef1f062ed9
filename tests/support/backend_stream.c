#include "backend_stream.h"

#include <inttypes.h>

#include "base/clock.h"
#include "http/chunked.h"
#include "load_quantity.h"

static bool set_framing(struct stream *stream, struct span value)
{
    stream->framing = span_equal(value, SPAN("length"))  ? STREAM_LENGTH
                      : span_equal(value, SPAN("close")) ? STREAM_CLOSE
                                                         : STREAM_CHUNKED;
    return stream->framing != STREAM_CHUNKED || span_equal(value, SPAN("chunked"));
}

static bool set(struct stream *stream, struct span name, struct span value, uint64_t *msec)
{
    if (span_equal(name, SPAN("size")))
        return quantity_size(value, &stream->size) == 0;
    if (span_equal(name, SPAN("pieces")))
        return quantity_size(value, &stream->pieces) == 0 && stream->pieces > 0;
    if (span_equal(name, SPAN("ms")))
        return span_to_u64(value, msec) == 0;
    return span_equal(name, SPAN("framing")) && set_framing(stream, value);
}

bool stream_begin(struct stream *stream, bool events, struct span query)
{
    uint64_t msec = events ? 20 : 0;

    *stream = (struct stream){.events = events, .size = 65536, .pieces = 1};
    while (query.length > 0) {
        struct span value = span_cut(&query, '&'), name = span_cut(&value, '=');
        if (!set(stream, name, value, &msec))
            return false;
    }
    stream->period_usec = msec * USEC_PER_MSEC / stream->pieces;
    return true;
}

int stream_append_head(const struct stream *stream, struct buffer *out)
{
    const char *type = stream->events ? "text/event-stream" : "text/plain";
    int r = buffer_printf(out, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n", type);

    if (r < 0)
        return r;
    if (stream->framing == STREAM_LENGTH && !stream->events)
        return buffer_printf(out, "Content-Length: %" PRIu64 "\r\n\r\n", stream->size);
    return buffer_append_string(out, stream->framing == STREAM_CLOSE
                                         ? "Connection: close\r\n\r\n"
                                         : "Transfer-Encoding: chunked\r\n\r\n");
}

static int append_event(struct stream *stream, struct buffer *content)
{
    uint64_t number = ++stream->at;

    return buffer_printf(content, "id: %" PRIu64 "\ndata: event %" PRIu64 "\n\n", number, number);
}

/* All numbers up to @size, made once. Returns 0 or -ENOMEM. */
static int numbers_up_to(uint64_t size, struct span *ret)
{
    static struct buffer numbers;
    int r = 0;

    while (numbers.length < size && r == 0)
        r = buffer_printf(&numbers, "%07zx\n", numbers.length & 0xfffffff);
    *ret = buffer_span(&numbers);
    return r;
}

static int append_numbers(struct stream *stream, struct buffer *content)
{
    uint64_t piece = (stream->size + stream->pieces - 1) / stream->pieces;
    uint64_t left = stream->size - stream->at, length = piece < left ? piece : left;
    struct span numbers;
    int r = numbers_up_to(stream->size, &numbers);

    if (r == 0)
        r = buffer_append(content, (struct span){numbers.at + stream->at, length});
    stream->at += length;
    return r;
}

bool stream_is_over(const struct stream *stream)
{
    return !stream->events && stream->at >= stream->size;
}

int stream_append_piece(struct stream *stream, struct buffer *out)
{
    CLEANUP_BUFFER struct buffer content = {0};
    bool chunked = stream->framing == STREAM_CHUNKED;
    int r = stream->events ? append_event(stream, &content) : append_numbers(stream, &content);

    if (r == 0 && chunked && content.length > 0)
        r = chunked_append_size(out, content.length);
    if (r == 0)
        r = buffer_append(out, buffer_span(&content));
    if (r == 0 && chunked && content.length > 0)
        r = buffer_append_string(out, "\r\n");
    if (r == 0 && chunked && stream_is_over(stream))
        r = buffer_append_string(out, "0\r\n\r\n");
    return r;
}
