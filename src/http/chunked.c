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

/* Extensions and trailers mean nothing to us, so a client may send only so much of them. */
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

int chunked_read(struct chunked *chunked, const char *bytes, size_t length, size_t *ret_consumed,
    const char **ret_data, size_t *ret_data_length)
{
    size_t at = 0;

    *ret_consumed = 0;
    *ret_data = NULL;
    *ret_data_length = 0;
    while (at < length && chunked->state != CHUNKED_DONE) {
        if (chunked->state != CHUNKED_DATA) {
            if (!step(chunked, bytes[at++]))
                return CHUNKED_BAD;
            continue;
        }
        if (*ret_data)
            break;
        size_t left = length - at, run = chunked->remaining < left ? chunked->remaining : left;
        *ret_data = bytes + at;
        *ret_data_length = run;
        at += run;
        chunked->remaining -= run;
        if (chunked->remaining == 0)
            chunked->state = CHUNKED_DATA_CR;
    }
    *ret_consumed = at;
    return CHUNKED_OK;
}
