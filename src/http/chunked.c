#include "http/chunked.h"

#include "http/syntax.h"

/* Each step takes one byte and returns whether it may stand there. */

static bool expect(struct chunked *chunked, char c, char wanted, enum chunked_state next)
{
    if (c != wanted)
        return false;
    chunked->state = next;
    return true;
}

static bool step_size(struct chunked *chunked, char c)
{
    int digit = syntax_hexadecimal(c);

    if (digit >= 0) {
        chunked->remaining = chunked->remaining << 4 | (unsigned)digit;
        return chunked->digits++ < 16;
    }
    if (chunked->digits == 0)
        return false;
    if (c == ';')
        chunked->state = CHUNKED_EXTENSION;
    else if (c == ' ' || c == '\t') /* "bad whitespace" must be understood: RFC 9112 §7.1.1 */
        chunked->state = CHUNKED_SIZE_SPACE;
    else
        return expect(chunked, c, '\r', CHUNKED_SIZE_LF);
    return true;
}

static bool step_size_lf(struct chunked *chunked, char c)
{
    chunked->digits = 0;
    return expect(chunked, c, '\n', chunked->remaining > 0 ? CHUNKED_DATA : CHUNKED_TRAILER_START);
}

/* Extensions mean nothing to us, and trailers are kept until they are whole: there may be only so
 * much of them. */
static bool step_overhead(struct chunked *chunked, char c)
{
    if (chunked->overhead >= CHUNKED_OVERHEAD_MAX)
        return false;
    chunked->overhead++;
    switch (chunked->state) {
    case CHUNKED_SIZE_SPACE:
        if (c == ';')
            chunked->state = CHUNKED_EXTENSION;
        else if (c != ' ' && c != '\t')
            return expect(chunked, c, '\r', CHUNKED_SIZE_LF);
        return true;
    case CHUNKED_EXTENSION:
        return syntax_is(c, SYNTAX_FIELD_VALUE) || expect(chunked, c, '\r', CHUNKED_SIZE_LF);
    case CHUNKED_TRAILER_START:
        if (!syntax_is(c, SYNTAX_TOKEN))
            return expect(chunked, c, '\r', CHUNKED_END_LF);
        chunked->state = CHUNKED_TRAILER_NAME;
        return true;
    case CHUNKED_TRAILER_NAME:
        return syntax_is(c, SYNTAX_TOKEN) || expect(chunked, c, ':', CHUNKED_TRAILER);
    default:
        return syntax_is(c, SYNTAX_FIELD_VALUE) || expect(chunked, c, '\r', CHUNKED_TRAILER_LF);
    }
}

static bool step(struct chunked *chunked, char c)
{
    switch (chunked->state) {
    case CHUNKED_SIZE:
        return step_size(chunked, c);
    case CHUNKED_SIZE_LF:
        return step_size_lf(chunked, c);
    case CHUNKED_DATA_CR:
        return expect(chunked, c, '\r', CHUNKED_DATA_LF);
    case CHUNKED_DATA_LF:
        return expect(chunked, c, '\n', CHUNKED_SIZE);
    case CHUNKED_TRAILER_LF:
        return expect(chunked, c, '\n', CHUNKED_TRAILER_START);
    case CHUNKED_END_LF:
        return expect(chunked, c, '\n', CHUNKED_DONE);
    case CHUNKED_SIZE_SPACE:
    case CHUNKED_EXTENSION:
    case CHUNKED_TRAILER_START:
    case CHUNKED_TRAILER_NAME:
    case CHUNKED_TRAILER:
        return step_overhead(chunked, c);
    case CHUNKED_DATA: /* chunked_read() takes it */
    case CHUNKED_DONE:
        break;
    }
    return false;
}

/* Whether @c, if it may stand there at all, belongs to a line of the trailer section. */
static bool is_trailer(const struct chunked *chunked, char c)
{
    switch (chunked->state) {
    case CHUNKED_TRAILER_START:
        return c != '\r';
    case CHUNKED_TRAILER_NAME:
    case CHUNKED_TRAILER:
    case CHUNKED_TRAILER_LF:
        return true;
    default:
        return false;
    }
}

static struct chunked_run take_data(struct chunked *chunked, const char *bytes, size_t length)
{
    size_t run = chunked->remaining < length ? (size_t)chunked->remaining : length;

    chunked->remaining -= run;
    if (chunked->remaining == 0)
        chunked->state = CHUNKED_DATA_CR;
    return (struct chunked_run){.at = bytes, .length = run};
}

/* Returns whether the lines so far are well-formed; *ret_run is what there is of them. */
static bool take_trailer(
    struct chunked *chunked, const char *bytes, size_t length, struct chunked_run *ret_run)
{
    size_t run = 0;

    while (run < length && is_trailer(chunked, bytes[run]))
        if (!step(chunked, bytes[run++]))
            return false;
    *ret_run = (struct chunked_run){.at = bytes, .length = run, .trailer = true};
    return true;
}

int chunked_read(struct chunked *chunked, const char *bytes, size_t length, size_t *ret_consumed,
    struct chunked_run *ret_run)
{
    struct chunked_run run = {0};
    size_t at = 0;

    *ret_consumed = 0;
    *ret_run = run;
    while (at < length && chunked->state != CHUNKED_DONE) {
        bool data = chunked->state == CHUNKED_DATA, trailer = is_trailer(chunked, bytes[at]);
        if (!data && !trailer) {
            if (!step(chunked, bytes[at++]))
                return CHUNKED_BAD;
            continue;
        }
        if (run.at)
            break;
        if (data)
            run = take_data(chunked, bytes + at, length - at);
        else if (!take_trailer(chunked, bytes + at, length - at, &run))
            return CHUNKED_BAD;
        at += run.length;
    }
    *ret_consumed = at;
    *ret_run = run;
    return CHUNKED_OK;
}

int chunked_append_size(struct buffer *out, uint64_t size)
{
    char line[18]; /* 16 digits and CR LF */
    size_t at = sizeof line - 2;

    line[at] = '\r';
    line[at + 1] = '\n';
    do
        line[--at] = "0123456789abcdef"[size % 16];
    while (size /= 16);
    return buffer_append(out, (struct span){line + at, sizeof line - at});
}
