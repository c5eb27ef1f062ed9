#pragma once

#include <stddef.h>

#include "base/span.h"

/*
 * A growing byte buffer. All zero is an empty one that holds no memory.
 */
struct buffer {
    char *bytes;
    size_t length, capacity;
};

/* Frees the memory; the buffer is empty and may be used again. */
void buffer_clear(struct buffer *buffer);
#define CLEANUP_BUFFER __attribute__((cleanup(buffer_clear)))

/* Makes room for @more bytes past the length. Returns 0 or -ENOMEM. */
int buffer_reserve(struct buffer *buffer, size_t more);
/* Each appends and returns 0, or -ENOMEM with the buffer as it was. */
int buffer_append(struct buffer *buffer, struct span bytes);
int buffer_append_string(struct buffer *buffer, const char *string);
int buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The content as a NUL-terminated string (the NUL is not counted); NULL when memory ran out. */
const char *buffer_string(struct buffer *buffer);

static inline struct span buffer_span(const struct buffer *buffer)
{
    return (struct span){buffer->bytes, buffer->length};
}
