#include "base/buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buffer_clear(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}

int buffer_reserve(struct buffer *buffer, size_t more)
{
    size_t needed, capacity = buffer->capacity ? buffer->capacity : 256;

    if (__builtin_add_overflow(buffer->length, more, &needed) || needed > SIZE_MAX / 2)
        return -ENOMEM;
    if (needed <= buffer->capacity)
        return 0;
    while (capacity < needed)
        capacity *= 2;
    char *bytes = realloc(buffer->bytes, capacity);
    if (!bytes)
        return -ENOMEM;
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 0;
}

int buffer_append(struct buffer *buffer, struct span bytes)
{
    int r = buffer_reserve(buffer, bytes.length);

    if (r < 0)
        return r;
    if (bytes.length > 0)
        memcpy(buffer->bytes + buffer->length, bytes.at, bytes.length);
    buffer->length += bytes.length;
    return 0;
}

int buffer_append_string(struct buffer *buffer, const char *string)
{
    return buffer_append(buffer, span_of(string));
}

int buffer_printf(struct buffer *buffer, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) /* more than INT_MAX */
        return -ENOMEM;
    int r = buffer_reserve(buffer, (size_t)length + 1);
    if (r < 0)
        return r;
    va_start(arguments, format);
    (void)vsnprintf(buffer->bytes + buffer->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    buffer->length += (size_t)length;
    return 0;
}

const char *buffer_string(struct buffer *buffer)
{
    if (buffer_reserve(buffer, 1) < 0)
        return NULL;
    buffer->bytes[buffer->length] = '\0';
    return buffer->bytes;
}
