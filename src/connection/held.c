#include "connection/held.h"

#include <string.h>

void held_destroy(struct held *held)
{
    buffer_clear(&held->bytes);
}

bool held_join(struct held *held, struct output *output, uint64_t *ret_before)
{
    struct buffer *bytes = &held->bytes;
    size_t before = bytes->length;

    for (size_t i = 0; i < output->count; i++) {
        struct part *part = &output->parts[i];
        if (part->kind != PART_BYTES)
            continue;
        size_t offset = bytes->length;
        if (buffer_append(bytes, (struct span){output->bytes + part->offset, part->length}) < 0)
            return false;
        part->offset = offset;
    }
    output->parts[0].offset = 0;
    output->parts[0].length += before;
    output->bytes = bytes->bytes;
    *ret_before = before;
    return true;
}

int held_send(struct held *held, int fd, uint64_t *sent)
{
    struct buffer *bytes = &held->bytes;
    struct part part = {PART_BYTES, 0, bytes->length};
    struct output output = {.parts = &part, .count = 1, .bytes = bytes->bytes, .file = -1};
    int r = output_send(&output, fd, sent);

    bytes->length = r == OUTPUT_DONE ? 0 : part.length;
    if (bytes->length > 0)
        memmove(bytes->bytes, bytes->bytes + part.offset, bytes->length);
    return r;
}

void held_drop(struct held *held)
{
    held->bytes.length = 0;
}
