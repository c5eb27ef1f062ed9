#include "http/path.h"

#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "http/syntax.h"

/* Decodes @segment to @text + @at. Returns 0 with the new end in *ret_end, or as path_decode(). */
static int decode_segment(struct span segment, char *text, size_t size, size_t at, size_t *ret_end)
{
    for (size_t i = 0; i < segment.length; i++) {
        char c = segment.at[i];
        if (c == '%') {
            int high = i + 2 < segment.length ? syntax_hexadecimal(segment.at[i + 1]) : -1;
            int low = high >= 0 ? syntax_hexadecimal(segment.at[i + 2]) : -1;
            if (low < 0)
                return -EINVAL;
            c = (char)(high << 4 | low);
            if (c == '/') /* it would be two segments to us, and was one to the client */
                return -EINVAL;
            i += 2;
        }
        if (c == '\0')
            return -EINVAL;
        if (at + 1 >= size)
            return -ENAMETOOLONG;
        text[at++] = c;
    }
    *ret_end = at;
    return 0;
}

/* The end of @text without its last segment; @end is behind a slash. Returns 0 for the root. */
static size_t parent(const char *text, size_t end)
{
    const char *slash = memrchr(text, '/', end - 1);

    return slash ? (size_t)(slash - text) + 1 : 0;
}

int path_decode(struct span raw, char *text, size_t size, size_t *ret_length)
{
    size_t start = 1, end;

    if (raw.length == 0 || raw.at[0] != '/')
        return -EINVAL;
    if (size < 2)
        return -ENAMETOOLONG;
    text[0] = '/';
    struct span rest = {raw.at + 1, raw.length - 1};
    while (rest.at) { /* text[start - 1] is always a slash */
        int r = decode_segment(span_cut(&rest, '/'), text, size, start, &end);
        if (r < 0)
            return r;
        struct span segment = {text + start, end - start};
        if (segment.length == 0 || span_equal(segment, SPAN(".")))
            continue;
        if (span_equal(segment, SPAN(".."))) {
            start = parent(text, start);
            if (start == 0)
                return -EINVAL;
            continue;
        }
        start = end;
        if (rest.at) {
            if (end + 1 >= size)
                return -ENAMETOOLONG;
            text[start++] = '/';
        }
    }
    text[start] = '\0';
    *ret_length = start;
    return 0;
}

bool path_is_hidden(struct span path)
{
    const struct span well_known = SPAN("/.well-known/");
    size_t i = span_starts(path, well_known) ? well_known.length - 1 : 0;

    for (; i + 1 < path.length; i++)
        if (path.at[i] == '/' && path.at[i + 1] == '.')
            return true;
    return false;
}

int path_encode(struct buffer *out, struct span path)
{
    static const char digits[] = "0123456789ABCDEF";
    int r = path.length > SIZE_MAX / 3 ? -ENOMEM : buffer_reserve(out, path.length * 3);

    if (r < 0)
        return r;
    for (size_t i = 0; i < path.length; i++) {
        unsigned char byte = (unsigned char)path.at[i];
        if (syntax_is(path.at[i], SYNTAX_PATH)) {
            out->bytes[out->length++] = path.at[i];
        } else {
            out->bytes[out->length++] = '%';
            out->bytes[out->length++] = digits[byte >> 4];
            out->bytes[out->length++] = digits[byte & 15];
        }
    }
    return 0;
}
