#include "http/range.h"

#include <errno.h>
#include <stdbool.h>

/* A number too large to hold lies behind the end of any representation, as its stand-in does. */
static bool read_position(struct span text, uint64_t *ret)
{
    int r = span_to_u64(text, ret);

    if (r == -ERANGE)
        *ret = UINT64_MAX;
    return r == 0 || r == -ERANGE;
}

/* "-500": the last 500 bytes. */
static int read_suffix(struct span text, uint64_t size, struct range *ret)
{
    uint64_t length;

    if (!read_position(text, &length))
        return RANGE_WHOLE;
    if (length == 0)
        return RANGE_UNSATISFIABLE;
    if (size == 0) /* satisfiable (RFC 9110 §14.1.2), but no Content-Range could say so */
        return RANGE_WHOLE;
    if (length > size)
        length = size;
    *ret = (struct range){size - length, length};
    return RANGE_PARTIAL;
}

/* One range-spec: "0-499", "500-", "-500". */
static int read_spec(struct span spec, uint64_t size, struct range *ret)
{
    struct span last = spec, first = span_cut(&last, '-');
    uint64_t from, to = UINT64_MAX;

    if (!last.at)
        return RANGE_WHOLE;
    if (first.length == 0)
        return read_suffix(last, size, ret);
    if (!read_position(first, &from) || (last.length > 0 && !read_position(last, &to)) || to < from)
        return RANGE_WHOLE;
    if (from >= size)
        return RANGE_UNSATISFIABLE;
    if (to >= size)
        to = size - 1;
    *ret = (struct range){from, to - from + 1};
    return RANGE_PARTIAL;
}

/* Neither end can overflow: both lie within the representation. */
static bool merge(struct range *before, const struct range *range)
{
    uint64_t before_end = before->offset + before->length, end = range->offset + range->length;

    if (range->offset > before_end || before->offset > end)
        return false;
    if (range->offset < before->offset)
        before->offset = range->offset;
    before->length = (end > before_end ? end : before_end) - before->offset;
    return true;
}

int range_parse(struct span value, uint64_t size, struct range *ranges, size_t *count)
{
    size_t allowed = *count, used = 0;
    bool any = false;

    *count = 0;
    if (!span_equal_case(span_cut(&value, '='), SPAN("bytes")))
        return RANGE_WHOLE;
    while (value.at) {
        struct span spec = span_trim(span_cut(&value, ','));
        struct range range;
        if (spec.length == 0) /* an empty element of a list: RFC 9110 §5.6.1.2 */
            continue;
        any = true;
        int r = read_spec(spec, size, &range);
        if (r == RANGE_WHOLE)
            return RANGE_WHOLE;
        if (r == RANGE_UNSATISFIABLE || (used > 0 && merge(&ranges[used - 1], &range)))
            continue;
        if (used == allowed)
            return RANGE_WHOLE;
        ranges[used++] = range;
    }
    if (used == 0)
        return any ? RANGE_UNSATISFIABLE : RANGE_WHOLE;
    *count = used;
    return RANGE_PARTIAL;
}
