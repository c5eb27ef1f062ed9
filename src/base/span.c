#include "base/span.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

struct span span_of(const char *string)
{
    return (struct span){.at = string, .length = strlen(string)};
}

bool span_equal(struct span a, struct span b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.at, b.at, a.length) == 0);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool span_equal_case(struct span a, struct span b)
{
    if (a.length != b.length)
        return false;
    for (size_t i = 0; i < a.length; i++)
        if (lower(a.at[i]) != lower(b.at[i]))
            return false;
    return true;
}

bool span_starts(struct span span, struct span prefix)
{
    return span.length >= prefix.length &&
           span_equal((struct span){span.at, prefix.length}, prefix);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

struct span span_trim(struct span span)
{
    while (span.length > 0 && is_space(span.at[0])) {
        span.at++;
        span.length--;
    }
    while (span.length > 0 && is_space(span.at[span.length - 1]))
        span.length--;
    return span;
}

struct span span_cut(struct span *rest, char separator)
{
    const char *end = rest->length ? memchr(rest->at, separator, rest->length) : NULL;
    struct span head = *rest;

    if (!end) {
        *rest = (struct span){NULL, 0};
        return head;
    }
    head.length = (size_t)(end - head.at);
    rest->at = end + 1;
    rest->length -= head.length + 1;
    return head;
}

bool span_cut_word(struct span *rest, struct span *ret)
{
    struct span left = span_trim(*rest);
    size_t length = 0;

    while (length < left.length && left.at[length] != ' ' && left.at[length] != '\t')
        length++;
    *ret = (struct span){left.at, length};
    *rest = (struct span){left.at + length, left.length - length};
    return length > 0;
}

int span_to_u64(struct span span, uint64_t *ret)
{
    uint64_t value = 0;

    if (span.length == 0)
        return -EINVAL;
    for (size_t i = 0; i < span.length; i++) {
        unsigned digit = (unsigned)(span.at[i] - '0');
        if (digit > 9)
            return -EINVAL;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return -ERANGE;
    }
    *ret = value;
    return 0;
}
