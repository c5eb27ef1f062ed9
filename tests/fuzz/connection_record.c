/*
 * A message of the inbox: whatever is accepted is the same bytes when it is written again, and its
 * spans lie in the message.
 */
#include <stdlib.h>
#include <string.h>

#include "connection/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool lies_in(struct span span, const uint8_t *data, size_t size)
{
    const uint8_t *at = (const uint8_t *)span.at;

    return at >= data && span.length <= size && at + span.length <= data + size;
}

static void check(const struct record *record, const uint8_t *data, size_t size)
{
    require(lies_in(record->listener, data, size));
    require(lies_in(record->received, data, size));
    require(lies_in(record->unsent, data, size));
    require(record->part_count <= ANSWER_PARTS_MAX + 1);
    require(record_fd_count(record) == (record->file || record->with_backend ? 2u : 1u));
    require(lies_in(record->backend.upstream, data, size));
    require(lies_in(record->backend.server, data, size));
    require(lies_in(record->backend.trailer, data, size));
    require(lies_in(record->backend.pending, data, size));
    require(lies_in(record->backend.unsent, data, size));
    for (size_t i = 0; i < record->part_count; i++)
        if (record->parts[i].kind == PART_BYTES)
            require(record->parts[i].offset + record->parts[i].length <= record->unsent.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct record record;
    CLEANUP_BUFFER struct buffer again = {0};
    struct span rest = {(const char *)data, size};
    struct record_fds fds;
    int count = record_open(&rest, &fds);

    if (count < 0)
        return 0;
    size_t head = size - rest.length;
    require(record_begin(&again) == 0);
    for (int i = 0; i < count && record_next(&rest, &record) == 0; i++) {
        check(&record, data, size);
        require(record_append(&again, &record) == 0);
    }
    /* But for the number of records and their fds, which are of those written. */
    require(again.length <= size);
    require(memcmp(again.bytes, data, 6) == 0);
    require(memcmp(again.bytes + head, data + head, again.length - head) == 0);
    return 0;
}
