#include "load_events.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_LENGTH 4096

enum { LINE_ID, LINE_DATA, LINE_EMPTY, LINES };

static int read_line(struct events *events, struct span line, struct reason *reason)
{
    char expected[64] = "";

    if (line.length > 0 && line.at[0] == ':')
        return 0;
    if (events->line == LINE_ID)
        (void)snprintf(expected, sizeof expected, "id: %" PRIu64, events->count + 1);
    if (events->line == LINE_DATA)
        (void)snprintf(expected, sizeof expected, "data: event %" PRIu64, events->count + 1);
    if (!span_equal(line, span_of(expected)))
        return reason_set(reason, -EILSEQ, "'%.*s' after %" PRIu64 " events, instead of '%s'",
            line.length > 64 ? 64 : (int)line.length, line.at, events->count, expected);
    if (++events->line == LINES) {
        events->line = 0;
        events->count++;
    }
    return 0;
}

int events_feed(struct events *events, struct span bytes, struct reason *reason)
{
    int r = 0;

    while (bytes.length > 0 && r == 0) {
        const char *end = memchr(bytes.at, '\n', bytes.length);
        struct span piece = {bytes.at, end ? (size_t)(end - bytes.at) : bytes.length};
        size_t taken = piece.length + (end ? 1 : 0);
        bytes = (struct span){bytes.at + taken, bytes.length - taken};
        r = buffer_append(&events->begun, piece);
        if (r == 0 && events->begun.length > LINE_MAX_LENGTH)
            r = reason_set(
                reason, -EILSEQ, "an endless line after %" PRIu64 " events", events->count);
        if (r == 0 && end) {
            r = read_line(events, buffer_span(&events->begun), reason);
            events->begun.length = 0;
        }
    }
    return r;
}

void events_clear(struct events *events)
{
    buffer_clear(&events->begun);
    *events = (struct events){0};
}
