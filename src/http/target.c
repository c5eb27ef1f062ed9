#include "http/target.h"

#include <errno.h>
#include <string.h>

#include "http/authority.h"
#include "http/syntax.h"

static int invalid(const char **ret_why, const char *why)
{
    *ret_why = why;
    return -EINVAL;
}

static struct span after(struct span span, size_t length)
{
    return (struct span){span.at + length, span.length - length};
}

/* @path_and_query begins with '/' or '?', or is empty. */
static void split_query(struct request *request, struct span path_and_query)
{
    struct span rest = path_and_query;

    request->path = span_cut(&rest, '?');
    request->query = rest;
}

static int parse_authority_form(struct request *request, const char **ret_why)
{
    struct authority authority;

    if (authority_parse(request->target, &authority) < 0 || authority.host.length == 0 ||
        authority.port.length == 0)
        return invalid(ret_why, "CONNECT wants host:port as its target");
    request->host = authority.host;
    request->path = (struct span){request->target.at, 0};
    return 0;
}

static size_t scheme_length(struct span target)
{
    static const struct span schemes[] = {{"http://", 7}, {"https://", 8}};

    for (size_t i = 0; i < 2; i++) {
        size_t length = schemes[i].length;
        if (target.length >= length &&
            span_equal_case((struct span){target.at, length}, schemes[i]))
            return length;
    }
    return 0;
}

static int parse_absolute_form(struct request *request, const char **ret_why)
{
    size_t scheme = scheme_length(request->target), length = 0;
    struct authority authority;

    if (scheme == 0)
        return invalid(ret_why, "the target is no path and no http or https URI");
    struct span rest = after(request->target, scheme);
    while (length < rest.length && rest.at[length] != '/' && rest.at[length] != '?')
        length++;
    if (authority_parse((struct span){rest.at, length}, &authority) < 0 ||
        authority.host.length == 0)
        return invalid(ret_why, "the target's authority is malformed");
    request->host = authority.host;
    split_query(request, after(rest, length));
    if (request->path.length == 0) /* an empty path is "/" (RFC 9110 §4.2.3): the scheme has one */
        request->path = (struct span){rest.at - 1, 1};
    return 0;
}

int target_parse(struct request *request, const char **ret_why)
{
    struct span target = request->target;

    if (target.length == 0 || !syntax_all(target, SYNTAX_TARGET))
        return invalid(ret_why, "the target holds a byte that no URI may hold");
    if (request->method == METHOD_CONNECT)
        return parse_authority_form(request, ret_why);
    if (span_equal(target, SPAN("*"))) {
        if (request->method != METHOD_OPTIONS)
            return invalid(ret_why, "only OPTIONS may have the target *");
        request->path = target;
        return 0;
    }
    if (target.at[0] != '/')
        return parse_absolute_form(request, ret_why);
    split_query(request, target);
    return 0;
}
