#include "load_group.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/span.h"

#define CLIENTS_MAX 1000000
#define PIECE_MAX 65536
#define DOWNLOAD_RECEIVE_BUFFER 16384

static const char *const kind_names[GROUP_KINDS] = {
    [GROUP_KEEPALIVE] = "keepalive",
    [GROUP_CONNECT] = "connect",
    [GROUP_SLOWHEAD] = "slowhead",
    [GROUP_DOWNLOAD] = "download",
    [GROUP_PIPELINE] = "pipeline",
    [GROUP_IDLE] = "idle",
};

const char *group_kind_name(enum group_kind kind)
{
    return kind_names[kind];
}

static int copy(struct span value, char **at)
{
    free(*at);
    *at = strndup(value.at, value.length);
    return *at ? 0 : -ENOMEM;
}

static int number_between(struct span value, uint64_t low, uint64_t high, uint64_t *ret)
{
    int r = quantity_size(value, ret);

    return r < 0 ? r : *ret < low || *ret > high ? -ERANGE : 0;
}

static int set_path(struct group *group, struct span value)
{
    for (size_t i = 0; i < value.length; i++)
        if ((unsigned char)value.at[i] <= ' ' || value.at[i] == 0x7f)
            return -EINVAL; /* it would not be one request line any more */
    if (value.length == 0 || value.at[0] != '/')
        return -EINVAL;
    return copy(value, &group->path);
}

static int set_method(struct group *group, struct span value)
{
    group->to_head = span_equal(value, SPAN("HEAD"));
    return group->to_head || span_equal(value, SPAN("GET")) ? 0 : -EINVAL;
}

static int set_status(struct group *group, struct span value)
{
    uint64_t status = 0;
    int r = number_between(value, 200, STATUS_END - 1, &status);

    group->status = (unsigned)status;
    return r;
}

static int set_expect(struct group *group, struct span value)
{
    return copy(value, &group->expect);
}

static int set_file(struct group *group, struct span value)
{
    return copy(value, &group->file);
}

static int set_hash(struct group *group, struct span value)
{
    char text[17] = "", *end;

    if (value.length != 16)
        return -EINVAL;
    memcpy(text, value.at, value.length);
    if (strspn(text, "0123456789abcdefABCDEF") != 16)
        return -EINVAL;
    group->hash = strtoull(text, &end, 16);
    group->has_hash = true;
    return 0;
}

static int set_think(struct group *group, struct span value)
{
    return quantity_duration_range(value, &group->think_usec);
}

static int set_piece(struct group *group, struct span value)
{
    int r = quantity_range(value, &group->piece);

    return r == 0 && (group->piece.low == 0 || group->piece.high > PIECE_MAX) ? -ERANGE : r;
}

static int set_gap(struct group *group, struct span value)
{
    return quantity_duration_range(value, &group->gap_usec);
}

static int set_rate(struct group *group, struct span value)
{
    return number_between(value, 1, UINT32_MAX, &group->rate);
}

static int set_receive_buffer(struct group *group, struct span value)
{
    return number_between(value, 1, INT_MAX / 2, &group->receive_buffer);
}

static int set_depth(struct group *group, struct span value)
{
    uint64_t depth = 0;
    int r = number_between(value, 1, GROUP_DEPTH_MAX, &depth);

    group->depth = (unsigned)depth;
    return r;
}

#define ALL_KINDS ((1u << GROUP_KINDS) - 1)
#define KIND(name) (1u << GROUP_##name)

static const struct {
    struct span name;
    unsigned kinds;
    int (*set)(struct group *group, struct span value);
} keys[] = {
    {SPAN("path"), ALL_KINDS, set_path},
    {SPAN("method"), ALL_KINDS, set_method},
    {SPAN("status"), ALL_KINDS, set_status},
    {SPAN("expect"), ALL_KINDS, set_expect},
    {SPAN("file"), ALL_KINDS, set_file},
    {SPAN("hash"), ALL_KINDS, set_hash},
    {SPAN("think"), ALL_KINDS & ~KIND(IDLE), set_think},
    {SPAN("piece"), KIND(SLOWHEAD), set_piece},
    {SPAN("gap"), KIND(SLOWHEAD), set_gap},
    {SPAN("rate"), KIND(DOWNLOAD), set_rate},
    {SPAN("rcvbuf"), KIND(DOWNLOAD), set_receive_buffer},
    {SPAN("depth"), KIND(PIPELINE), set_depth},
};

static int parse_key(struct group *group, struct span setting, struct reason *reason)
{
    struct span value = setting, name = span_cut(&value, '=');

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!span_equal(name, keys[i].name) || !value.at)
            continue;
        if (!(keys[i].kinds & 1u << group->kind))
            return reason_set(reason, -EINVAL, "group '%s': %s has no '%.*s'", group->text,
                kind_names[group->kind], (int)name.length, name.at);
        int r = keys[i].set(group, value);
        if (r == -ENOMEM)
            return reason_set(reason, r, "out of memory");
        if (r < 0)
            return reason_set(reason, r, "group '%s': '%.*s' is no value for %.*s", group->text,
                (int)value.length, value.at, (int)name.length, name.at);
        return 0;
    }
    return reason_set(reason, -EINVAL, "group '%s': unknown setting '%.*s'", group->text,
        (int)setting.length, setting.at);
}

static int parse_kind(struct span text, enum group_kind *ret)
{
    for (int kind = 0; kind < GROUP_KINDS; kind++) {
        if (!span_equal(text, span_of(kind_names[kind])))
            continue;
        *ret = (enum group_kind)kind;
        return 0;
    }
    return -EINVAL;
}

static int parse(struct group *group, struct reason *reason)
{
    struct span rest = span_of(group->text), kind = span_cut(&rest, ':');
    uint64_t clients;

    if (parse_kind(kind, &group->kind) < 0)
        return reason_set(reason, -EINVAL, "group '%s': unknown kind", group->text);
    if (!rest.at || number_between(span_cut(&rest, ':'), 1, CLIENTS_MAX, &clients) < 0)
        return reason_set(
            reason, -EINVAL, "group '%s': give a number of clients: KIND:COUNT", group->text);
    group->clients = (unsigned)clients;
    if (group->kind == GROUP_PIPELINE)
        group->depth = 4;
    if (group->kind == GROUP_DOWNLOAD)
        group->receive_buffer = DOWNLOAD_RECEIVE_BUFFER;
    while (rest.at) {
        int r = parse_key(group, span_cut(&rest, ','), reason);
        if (r < 0)
            return r;
    }
    if (!!group->expect + !!group->file + group->has_hash > 1)
        return reason_set(
            reason, -EINVAL, "group '%s': expect, file and hash exclude each other", group->text);
    return 0;
}

int group_parse(const char *text, struct group *ret, struct reason *reason)
{
    *ret = (struct group){
        .text = text,
        .status = 200,
        .depth = 1,
        .piece = {1, 5},
        .gap_usec = {1 * USEC_PER_MSEC, 5 * USEC_PER_MSEC},
    };
    int r = parse(ret, reason);
    if (r < 0)
        group_clear(ret);
    return r;
}

/* Appends @template with the number in the place of every "{n}". */
static int append_template(struct buffer *buffer, const char *template, unsigned n)
{
    for (const char *mark; (mark = strstr(template, "{n}")); template = mark + 3) {
        int r = buffer_append(buffer, (struct span){template, (size_t)(mark - template)});
        if (r == 0)
            r = buffer_printf(buffer, "%u", n);
        if (r < 0)
            return r;
    }
    return buffer_append_string(buffer, template);
}

static int append_request(struct group *group, const char *host, const char *path, unsigned n)
{
    const char *connection = group->kind == GROUP_CONNECT ? "Connection: close\r\n" : "";
    struct buffer *requests = &group->requests;
    int r = buffer_append_string(requests, group->to_head ? "HEAD " : "GET ");

    if (r == 0)
        r = append_template(requests, path, n);
    if (r == 0)
        r = buffer_printf(requests, " HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, connection);
    group->ends[n + 1] = requests->length;
    return r;
}

static int read_expectation(
    struct group *group, const char *expect_file, unsigned n, struct reason *reason)
{
    struct expectation *expectation = &group->expectations[n];
    const char *template = group->expect ? group->expect : group->file;
    CLEANUP_BUFFER struct buffer text = {0};

    if (group->has_hash) {
        *expectation = (struct expectation){.kind = EXPECT_HASH, .hash = group->hash};
        return 0;
    }
    if (!template)
        return expect_file ? expectation_of_file(expectation, expect_file, reason) : 0;
    if (append_template(&text, template, n) < 0 || !buffer_string(&text))
        return -ENOMEM;
    if (group->expect)
        return expectation_of_text(expectation, text.bytes);
    return expectation_of_file(expectation, text.bytes, reason);
}

int group_prepare(struct group *group, const char *host, const char *path, const char *expect_file,
    struct reason *reason)
{
    const char *template = group->expect ? group->expect : group->file;
    unsigned count = template && strstr(template, "{n}") ? group->depth : 1;
    int r = 0;

    (void)reason_set(reason, 0, "out of memory"); /* unless a file is the reason */
    for (unsigned n = 0; n < group->depth && r == 0; n++)
        r = append_request(group, host, group->path ? group->path : path, n);
    group->expectations = calloc(count, sizeof *group->expectations);
    if (!group->expectations)
        return -ENOMEM;
    group->expectation_count = count;
    for (unsigned n = 0; n < count && r == 0; n++)
        r = read_expectation(group, expect_file, n, reason);
    return r;
}

static bool has_length_of(const struct expectation *expectation, uint64_t length)
{
    return expectation->kind != EXPECT_BYTES || length == expectation->length;
}

static bool wrong(enum failure failure, enum failure *ret)
{
    *ret = failure;
    return false;
}

bool group_judge(const struct group *group, const struct answer *answer,
    const struct comparison *comparison, enum failure *ret_failure, struct reason *reason)
{
    const struct expectation *expectation = comparison->expectation;
    /* Content-Length in an answer to HEAD is that of GET, RFC 9110 §9.3.2 */
    uint64_t length = group->to_head ? answer->length : comparison->length;
    bool has_length = !group->to_head || answer->has_length;

    if (answer->status != group->status) {
        (void)reason_set(reason, 0, "%u instead of %u", answer->status, group->status);
        return wrong(FAILURE_BAD_STATUS, ret_failure);
    }
    if (has_length && !has_length_of(expectation, length)) {
        (void)reason_set(
            reason, 0, "%" PRIu64 " bytes of content instead of %zu", length, expectation->length);
        return wrong(FAILURE_BAD_RESPONSE, ret_failure);
    }
    if (!group->to_head && !comparison_is_right(comparison)) {
        if (expectation->kind == EXPECT_BYTES)
            (void)reason_set(reason, 0, "content differs at byte %" PRIu64 " of %" PRIu64,
                comparison->differs_at, length);
        else
            (void)reason_set(reason, 0, "content of another hash");
        return wrong(FAILURE_WRONG_BYTES, ret_failure);
    }
    return true;
}

void group_clear(struct group *group)
{
    for (unsigned n = 0; n < group->expectation_count; n++)
        expectation_clear(&group->expectations[n]);
    free(group->expectations);
    group->expectations = NULL;
    group->expectation_count = 0;
    buffer_clear(&group->requests);
    free(group->path);
    free(group->expect);
    free(group->file);
    group->path = group->expect = group->file = NULL;
}
