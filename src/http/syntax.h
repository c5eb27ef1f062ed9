#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

/*
 * The classes of bytes that the grammars of RFC 9110 and RFC 3986 are made of.
 */
enum syntax {
    SYNTAX_TOKEN = 1 << 0,       /* RFC 9110 §5.6.2 */
    SYNTAX_FIELD_VALUE = 1 << 1, /* VCHAR, obs-text, space and tab; RFC 9110 §5.5 */
    SYNTAX_REG_NAME = 1 << 2,    /* unreserved and sub-delims; RFC 3986 §3.2.2 */
    SYNTAX_PATH = 1 << 3,        /* what a path holds unescaped, and '/'; RFC 3986 §3.3 */
    SYNTAX_TARGET = 1 << 4,      /* VCHAR but '#', for the request target as browsers send it */
    SYNTAX_ETAG = 1 << 5,        /* etagc; RFC 9110 §8.8.3 */
    SYNTAX_WORD = 1 << 6,        /* letters, digits and '-': what names of fields are made of */
};

extern const uint8_t syntax_classes[256];

static inline bool syntax_is(char c, enum syntax class)
{
    return syntax_classes[(unsigned char)c] & class;
}

/* Whether all bytes are of that class; true for an empty span. */
bool syntax_all(struct span span, enum syntax class);
/* The value of a hexadecimal digit, or -1. */
int syntax_hexadecimal(char c);
