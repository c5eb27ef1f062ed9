#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

/* A satisfiable byte range: @length > 0 bytes from @offset. */
struct range {
    uint64_t offset, length;
};

enum {
    RANGE_PARTIAL,       /* 206 with *count ranges, at least one */
    RANGE_WHOLE,         /* ignore the field: not bytes, malformed, or more ranges than allowed */
    RANGE_UNSATISFIABLE, /* 416 */
};

/*
 * Reads a Range field (RFC 9110 §14.1.2, §14.2) against a representation of @size bytes. @ranges
 * holds *count entries at the call, and *count is how many were written after it. Ranges that
 * overlap or touch the one before are merged, as §14.2 allows against an attack by many ranges;
 * order is otherwise kept. Returns one of the above.
 */
int range_parse(struct span value, uint64_t size, struct range *ranges, size_t *count);
