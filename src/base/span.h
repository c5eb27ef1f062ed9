#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A span: bytes that somebody else owns. Not terminated. Valid as long as the buffer it points
 * into.
 */
struct span {
    const char *at;
    size_t length;
};

/* A span over a string literal. */
#define SPAN(literal) ((struct span){.at = (literal), .length = sizeof(literal) - 1})

struct span span_of(const char *string);
bool span_equal(struct span a, struct span b);
/* ASCII case is ignored, whatever the locale: for methods of comparison in RFC 9110 §5.1 and
 * §5.6.2. */
bool span_equal_case(struct span a, struct span b);
bool span_starts(struct span span, struct span prefix);
/* Without spaces and tabs at both ends (OWS, RFC 9110 §5.6.3). */
struct span span_trim(struct span span);
/*
 * Cuts the part before the first @separator off *rest and returns it; *rest is what follows the
 * separator. Without a separator the whole rest is returned and *rest is left with at = NULL.
 */
struct span span_cut(struct span *rest, char separator);
/* Cuts the next word off *rest; spaces and tabs separate words. False: there is none left. */
bool span_cut_word(struct span *rest, struct span *ret);
/*
 * Reads an unsigned decimal number that fills the whole span: digits only, no sign, no space.
 * Returns 0, or -EINVAL (not such a number), or -ERANGE (over 2^64-1).
 */
int span_to_u64(struct span span, uint64_t *ret);
