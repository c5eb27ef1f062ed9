#include "connection/answer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "http/status.h"

/* The memory each buffer keeps from one request to the next; one rare large answer gives its own
 * back. */
#define KEPT_MAX (64 * 1024)
/* Room that nearly every value fits in, so that it is formatted once. */
#define VALUE_ROOM 128

void answer_init(struct answer *answer)
{
    *answer = (struct answer){.file = -1};
}

static void empty(struct buffer *buffer)
{
    if (buffer->capacity > KEPT_MAX)
        buffer_clear(buffer);
    buffer->length = 0;
}

static void close_file(struct answer *answer)
{
    if (!answer->lent)
        (void)fd_close(answer->file);
    answer->file = -1;
    answer->lent = false;
}

void answer_reset(struct answer *answer)
{
    empty(&answer->fields);
    empty(&answer->bytes);
    answer->status = 0;
    answer->part_count = 0; /* the parts themselves stay as they are: 3 KiB not to be cleared */
    close_file(answer);
    answer->failed = false;
}

void answer_destroy(struct answer *answer)
{
    answer_reset(answer);
    buffer_clear(&answer->fields);
    buffer_clear(&answer->bytes);
}

static int __attribute__((format(printf, 2, 0)))
append_format(struct buffer *out, const char *format, va_list arguments)
{
    va_list again;

    va_copy(again, arguments);
    int r = buffer_reserve(out, VALUE_ROOM);
    size_t room = out->capacity - out->length;
    int length = r < 0 ? r : vsnprintf(out->bytes + out->length, room, format, arguments);
    if (length >= 0 && (size_t)length >= room) {
        r = buffer_reserve(out, (size_t)length + 1);
        if (r == 0)
            (void)vsnprintf(out->bytes + out->length, (size_t)length + 1, format, again);
    }
    va_end(again);
    if (r < 0 || length < 0)
        return r < 0 ? r : -EINVAL;
    out->length += (size_t)length;
    return 0;
}

static int __attribute__((format(printf, 2, 0)))
append_value(struct buffer *out, const char *format, va_list arguments)
{
    size_t start = out->length;
    int r;

    if (strcmp(format, "%s") == 0) /* most fields: a copy costs a tenth of vsnprintf() */
        r = buffer_append_string(out, va_arg(arguments, const char *));
    else
        r = append_format(out, format, arguments);
    if (r < 0)
        return r;
    /* RFC 9110 §5.5: what would end the field early lets a stranger write the rest of the head. */
    const char *value = out->bytes + start;
    size_t length = out->length - start;
    if (length > 0 &&
        (memchr(value, '\r', length) || memchr(value, '\n', length) || memchr(value, '\0', length)))
        return -EINVAL;
    return 0;
}

void answer_field(struct answer *answer, const char *name, const char *format, ...)
{
    struct buffer *fields = &answer->fields;
    size_t start = fields->length;
    va_list arguments;

    va_start(arguments, format);
    if (buffer_append_string(fields, name) < 0 || buffer_append(fields, SPAN(": ")) < 0 ||
        append_value(fields, format, arguments) < 0 || buffer_append(fields, SPAN("\r\n")) < 0) {
        fields->length = start;
        answer->failed = true;
    }
    va_end(arguments);
}

void answer_fields(struct answer *answer, struct span lines)
{
    if (buffer_append(&answer->fields, lines) < 0)
        answer->failed = true;
}

/* Whether @part goes on where the last one ends. */
static bool continues(const struct answer *answer, const struct part *part)
{
    if (answer->part_count == 0)
        return false;
    const struct part *last = &answer->parts[answer->part_count - 1];
    return last->kind == part->kind && last->offset + last->length == part->offset;
}

static void add_part(struct answer *answer, struct part part)
{
    if (part.length == 0)
        return;
    if (continues(answer, &part))
        answer->parts[answer->part_count - 1].length += part.length;
    else if (answer->part_count < ANSWER_PARTS_MAX)
        answer->parts[answer->part_count++] = part;
    else
        answer->failed = true;
}

void answer_bytes(struct answer *answer, struct span bytes)
{
    size_t offset = answer->bytes.length;

    if (buffer_append(&answer->bytes, bytes) < 0)
        answer->failed = true;
    else
        add_part(answer, (struct part){PART_BYTES, offset, bytes.length});
}

void answer_file(struct answer *answer, int fd)
{
    close_file(answer);
    answer->file = fd;
}

void answer_lend_file(struct answer *answer, int fd)
{
    answer_file(answer, fd);
    answer->lent = true;
}

void answer_file_part(struct answer *answer, uint64_t offset, uint64_t length)
{
    add_part(answer, (struct part){PART_FILE, offset, length});
}

uint64_t answer_length(const struct answer *answer)
{
    uint64_t length = 0;

    for (size_t i = 0; i < answer->part_count; i++)
        length += answer->parts[i].length;
    return length;
}

void answer_text(struct answer *answer, unsigned status)
{
    char text[128]; /* the longest registered phrase has 31 characters */

    answer_reset(answer);
    answer->status = status;
    answer_field(answer, "Content-Type", "text/plain; charset=utf-8");
    (void)snprintf(text, sizeof text, "%u %s\n", status, status_phrase(status));
    answer_bytes(answer, span_of(text));
}
