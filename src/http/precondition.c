#include "http/precondition.h"

#include "http/date.h"
#include "http/syntax.h"

/* The entity-tag (RFC 9110 §8.8.3) that @text begins with; its length is 0 where there is none. */
static struct span first_tag(struct span text)
{
    size_t length = span_starts(text, SPAN("W/")) ? 2 : 0;

    if (length == text.length || text.at[length++] != '"')
        return (struct span){text.at, 0};
    while (length < text.length && syntax_is(text.at[length], SYNTAX_ETAG))
        length++;
    if (length == text.length || text.at[length++] != '"')
        return (struct span){text.at, 0};
    return (struct span){text.at, length};
}

/*
 * Takes the next entity-tag off a list (RFC 9110 §5.6.1); commas may stand within its quotes.
 * Returns false at the end, and where the rest is malformed.
 */
static bool take_tag(struct span *rest, struct span *ret)
{
    struct span text = span_trim(*rest);

    while (text.length > 0 && text.at[0] == ',')
        text = span_trim((struct span){text.at + 1, text.length - 1});
    *ret = first_tag(text);
    *rest = span_trim((struct span){text.at + ret->length, text.length - ret->length});
    return ret->length > 0 && (rest->length == 0 || rest->at[0] == ',');
}

static bool is_weak(struct span tag)
{
    return span_starts(tag, SPAN("W/"));
}

static struct span opaque(struct span tag)
{
    return is_weak(tag) ? (struct span){tag.at + 2, tag.length - 2} : tag;
}

/* The comparisons of RFC 9110 §8.8.3.2. */

static bool equal_strong(struct span a, struct span b)
{
    return !is_weak(a) && span_equal(a, b);
}

static bool equal_weak(struct span a, struct span b)
{
    return span_equal(opaque(a), opaque(b));
}

/* Whether a list of entity tags, or "*", names the representation. Malformed, it names none. */
static bool names(const struct request *request, const char *name, struct span etag,
    bool (*equal)(struct span, struct span))
{
    struct span wanted = span_of(name), tag;

    for (size_t i = 0; i < request->field_count; i++) {
        if (!span_equal_case(request->fields[i].name, wanted))
            continue;
        struct span rest = request->fields[i].value;
        if (span_equal(rest, SPAN("*")))
            return true;
        while (take_tag(&rest, &tag))
            if (equal(tag, etag))
                return true;
    }
    return false;
}

/* A date that comes more than once, or is none, is ignored: RFC 9110 §13.1.3, §13.1.4. */
static bool read_date(const struct request *request, const char *name, time_t now, time_t *ret)
{
    return request_field_count(request, name) == 1 &&
           date_parse(request_field(request, name), now, ret) == 0;
}

int precondition_check(const struct request *request, struct span etag, time_t modified, time_t now)
{
    bool reads = request->method == METHOD_GET || request->method == METHOD_HEAD;
    time_t date;

    if (request_field(request, "if-match").at) {
        if (!names(request, "if-match", etag, equal_strong))
            return PRECONDITION_FAILED;
    } else if (read_date(request, "if-unmodified-since", now, &date) && modified > date) {
        return PRECONDITION_FAILED;
    }
    if (request_field(request, "if-none-match").at) {
        if (names(request, "if-none-match", etag, equal_weak))
            return reads ? PRECONDITION_NOT_MODIFIED : PRECONDITION_FAILED;
    } else if (reads && read_date(request, "if-modified-since", now, &date) && modified <= date) {
        return PRECONDITION_NOT_MODIFIED;
    }
    return PRECONDITION_PASSED;
}

bool precondition_range_applies(
    const struct request *request, struct span etag, time_t modified, time_t now)
{
    struct span value = request_field(request, "if-range");
    time_t date;

    if (!value.at)
        return true;
    if (request_field_count(request, "if-range") > 1)
        return false;
    if (first_tag(value).length > 0)
        return equal_strong(value, etag);
    /* RFC 9110 §8.8.2.2: as strong as a Last-Modified can be */
    return date_parse(value, now, &date) == 0 && date == modified && modified < now;
}
