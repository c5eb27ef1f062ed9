#include "http/fields.h"

#include "http/syntax.h"

struct span fields_find(const struct field *fields, size_t count, const char *name)
{
    struct span wanted = span_of(name);

    for (size_t i = 0; i < count; i++)
        if (span_equal_case(fields[i].name, wanted))
            return fields[i].value;
    return (struct span){NULL, 0};
}

size_t fields_count(const struct field *fields, size_t count, const char *name)
{
    struct span wanted = span_of(name);
    size_t found = 0;

    for (size_t i = 0; i < count; i++)
        if (span_equal_case(fields[i].name, wanted))
            found++;
    return found;
}

struct span fields_find_kind(const struct field *fields, size_t count, enum field_kind kind)
{
    for (size_t i = 0; i < count; i++)
        if (fields[i].kind == kind)
            return fields[i].value;
    return (struct span){NULL, 0};
}

size_t fields_count_kind(const struct field *fields, size_t count, enum field_kind kind)
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++)
        found += fields[i].kind == kind;
    return found;
}

static bool is_walked(const struct field *field, const struct list_walk *walk)
{
    return walk->name ? span_equal_case(field->name, span_of(walk->name))
                      : field->kind == walk->kind;
}

bool fields_list_next(
    const struct field *fields, size_t count, struct list_walk *walk, struct span *ret)
{
    while (!walk->rest.at) {
        if (walk->index == count)
            return false;
        const struct field *field = &fields[walk->index++];
        if (is_walked(field, walk))
            walk->rest = field->value;
    }
    *ret = span_trim(span_cut(&walk->rest, ','));
    return true;
}

struct connection_options fields_connection_options(const struct field *fields, size_t count)
{
    struct connection_options options = {0};
    struct list_walk walk = {.kind = FIELD_CONNECTION};
    struct span option;

    while (fields_list_next(fields, count, &walk, &option)) {
        if (span_equal_case(option, SPAN("close")))
            options.close = true;
        else if (span_equal_case(option, SPAN("keep-alive")))
            options.keep_alive = true;
        else if (span_equal_case(option, SPAN("upgrade")))
            options.upgrade = true;
    }
    return options;
}

void field_extend(struct span *span, const char *at, size_t length)
{
    if (length == 0) /* llhttp may say so from anywhere */
        return;
    if (!span->at)
        span->at = at;
    span->length = (size_t)(at + length - span->at);
}

void field_complete(struct field *field)
{
    if (!field->value.at) /* empty: it lies behind the colon */
        field->value.at = field->name.at + field->name.length + 1;
    field->value = span_trim(field->value);
    field->kind = field_kind_of(field->name);
}

static void skip_space(const char **cursor, const char *end)
{
    while (*cursor < end && (**cursor == ' ' || **cursor == '\t'))
        (*cursor)++;
}

static const char *check_field(const struct field *field, const char **cursor, const char *end)
{
    if (field->name.at != *cursor)
        return "a folded line, or a line that does not end in CR LF";
    if (!syntax_all(field->name, SYNTAX_TOKEN))
        return "a field name is no token";
    *cursor += field->name.length;
    if (!fields_skip(cursor, end, SPAN(":")))
        return "a field name without its colon";
    skip_space(cursor, end);
    if (field->value.length > 0) {
        if (field->value.at != *cursor)
            return "a folded line";
        if (!syntax_all(field->value, SYNTAX_FIELD_VALUE))
            return "a field value with a folded line or a control character";
        *cursor += field->value.length;
        skip_space(cursor, end);
    }
    return fields_skip(cursor, end, SPAN("\r\n")) ? NULL : "a line that does not end in CR LF";
}

const char *fields_check_shape(
    const struct field *fields, size_t count, const char *cursor, const char *end)
{
    for (size_t i = 0; i < count; i++) {
        const char *why = check_field(&fields[i], &cursor, end);
        if (why)
            return why;
    }
    if (!fields_skip(&cursor, end, SPAN("\r\n")) || cursor != end)
        return "a line that does not end in CR LF";
    return NULL;
}
