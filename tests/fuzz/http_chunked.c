/*
 * A chunked body, whole and in pieces: both must yield the same data and trailers, end at the same
 * byte, or both be refused. What of the trailers may be sent on is a trailer section again, which
 * sent on once more stays as it is.
 *
 * The first byte seeds the pieces, the rest is the body.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "http/chunked.h"
#include "http/forward.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    bool bad, done;
    size_t consumed;
    struct buffer data, trailers;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Each piece has memory of its own, so that reading over its end is seen. */
static size_t read_piece(struct outcome *outcome, struct chunked *chunked, struct span piece)
{
    char *bytes = malloc(piece.length);
    struct chunked_run run;
    size_t consumed;

    require(bytes);
    memcpy(bytes, piece.at, piece.length);
    outcome->bad = chunked_read(chunked, bytes, piece.length, &consumed, &run) == CHUNKED_BAD;
    if (outcome->bad) {
        require(consumed == 0 && !run.at);
    } else {
        struct buffer *out = run.trailer ? &outcome->trailers : &outcome->data;
        require(consumed > 0 && consumed <= piece.length);
        require(run.at ? run.at >= bytes && run.at + run.length <= bytes + consumed
                       : run.length == 0 && !run.trailer);
        require(run.trailer || !run.at || outcome->trailers.length == 0);
        require(buffer_append(out, (struct span){run.at, run.length}) == 0);
    }
    outcome->done = chunked->state == CHUNKED_DONE;
    free(bytes);
    return consumed;
}

static void read_body(struct outcome *outcome, struct span body, uint32_t random)
{
    struct chunked chunked = {0};

    outcome->bad = outcome->done = false;
    outcome->consumed = outcome->data.length = outcome->trailers.length = 0;
    while (!outcome->bad && !outcome->done && outcome->consumed < body.length) {
        size_t length = body.length - outcome->consumed;
        if (random > 0) {
            random = random * 1664525 + 1013904223;
            size_t piece = 1 + (random >> 16) % 9;
            length = piece < length ? piece : length;
        }
        outcome->consumed +=
            read_piece(outcome, &chunked, (struct span){body.at + outcome->consumed, length});
    }
}

static void check_trailers(struct span section)
{
    CLEANUP_BUFFER struct buffer once = {0}, twice = {0}, body = {0};
    struct outcome again = {0};

    require(section.length <= CHUNKED_OVERHEAD_MAX * 2);
    require(forward_trailers(section, &once) == 0);
    require(forward_trailers(buffer_span(&once), &twice) == 0);
    require(span_equal(buffer_span(&once), buffer_span(&twice)));
    if (once.length > CHUNKED_OVERHEAD_MAX / 2)
        return;
    require(chunked_append_size(&body, 0) == 0);
    require(buffer_append(&body, buffer_span(&once)) == 0);
    require(buffer_append(&body, SPAN("\r\n")) == 0);
    read_body(&again, buffer_span(&body), 0);
    require(again.done && again.consumed == body.length);
    require(span_equal(buffer_span(&again.trailers), buffer_span(&once)));
    buffer_clear(&again.trailers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole = {0}, pieces = {0};

    if (size == 0)
        return 0;
    struct span body = {(const char *)data + 1, size - 1};
    read_body(&whole, body, 0);
    read_body(&pieces, body, 1 + data[0]);
    require(whole.bad == pieces.bad && whole.done == pieces.done);
    require(!(whole.bad && whole.done));
    if (!whole.bad) {
        require(whole.consumed == pieces.consumed);
        require(span_equal(buffer_span(&whole.data), buffer_span(&pieces.data)));
        require(span_equal(buffer_span(&whole.trailers), buffer_span(&pieces.trailers)));
    }
    if (whole.done)
        check_trailers(buffer_span(&whole.trailers));
    buffer_clear(&whole.data);
    buffer_clear(&whole.trailers);
    buffer_clear(&pieces.data);
    buffer_clear(&pieces.trailers);
    return 0;
}
