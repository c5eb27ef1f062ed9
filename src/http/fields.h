#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/span.h"
#include "http/field_kind.h"

/*
 * The fields of a head (RFC 9110 §5, RFC 9112 §5), whether of a request or of a response.
 */
struct field {
    struct span name, value; /* the value without spaces at its ends */
    enum field_kind kind;
};

/* The value of the first field of that name (lower case); at = NULL where there is none. */
struct span fields_find(const struct field *fields, size_t count, const char *name);
/* How many fields of that name there are. */
size_t fields_count(const struct field *fields, size_t count, const char *name);

/* The same by their kind, which costs less: for kinds that only one name has. */
struct span fields_find_kind(const struct field *fields, size_t count, enum field_kind kind);
size_t fields_count_kind(const struct field *fields, size_t count, enum field_kind kind);

/*
 * Walks the comma-separated elements of all fields of a name or a kind as one list (RFC 9110
 * §5.6.1): begins as {.name = "accept"} or {.kind = FIELD_CONNECTION} and returns false at the end.
 * Elements are trimmed, and empty ones are delivered too. Not for lists whose elements may be
 * quoted.
 */
struct list_walk {
    const char *name; /* NULL: by the kind */
    enum field_kind kind;
    size_t index;
    struct span rest;
};
bool fields_list_next(
    const struct field *fields, size_t count, struct list_walk *walk, struct span *ret);

/* What the Connection fields say (RFC 9110 §7.6.1, RFC 9112 §9.3). */
struct connection_options {
    bool close, keep_alive, upgrade;
};
struct connection_options fields_connection_options(const struct field *fields, size_t count);

/* How llhttp's reports become fields. */

/* A span may come in several pieces, which lie side by side in the buffer. */
void field_extend(struct span *span, const char *at, size_t length);
/* Name and value are there. */
void field_complete(struct field *field);

/* Moves *cursor over @text, a literal, if that is what stands there. */
static inline bool fields_skip(const char **cursor, const char *end, struct span text)
{
    if ((size_t)(end - *cursor) < text.length || memcmp(*cursor, text.at, text.length) != 0)
        return false;
    *cursor += text.length;
    return true;
}

/*
 * What stands from @cursor, behind the line that begins the head, to @end must be, byte for byte,
 * the fields we have with exactly what the grammar puts between them, and the empty line. Whatever
 * a version of llhttp tolerates or skips shows here. Returns NULL, or a literal: what is wrong.
 */
const char *fields_check_shape(
    const struct field *fields, size_t count, const char *cursor, const char *end);
