/*
 * A chunked body, whole and in pieces: both must yield the same data, end at the same byte, or
 * both be refused.
 *
 * The first byte seeds the pieces, the rest is the body.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "http/chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    bool bad, done;
    size_t consumed;
    struct buffer data;
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
    size_t consumed, length;
    const char *data;

    require(bytes);
    memcpy(bytes, piece.at, piece.length);
    outcome->bad =
        chunked_read(chunked, bytes, piece.length, &consumed, &data, &length) == CHUNKED_BAD;
    if (outcome->bad) {
        consumed = 0;
    } else {
        require(consumed > 0 && consumed <= piece.length && length <= consumed);
        require(!data || (data >= bytes && data + length <= bytes + consumed));
        require(buffer_append(&outcome->data, (struct span){data, length}) == 0);
    }
    outcome->done = chunked->state == CHUNKED_DONE;
    free(bytes);
    return consumed;
}

static void read_body(struct outcome *outcome, struct span body, uint32_t random)
{
    struct chunked chunked = {0};

    outcome->bad = outcome->done = false;
    outcome->consumed = outcome->data.length = 0;
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
    }
    buffer_clear(&whole.data);
    buffer_clear(&pieces.data);
    return 0;
}
