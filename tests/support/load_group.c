#include "load_group.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/span.h"
#include "load_request.h"

#define CLIENTS_MAX 1000000
#define PIECE_MAX 65536
#define DOWNLOAD_RECEIVE_BUFFER 16384
#define MESSAGE_MAX (16 << 20)
#define UPLOAD_MAX (1 << 30)

static const char *const kind_names[GROUP_KINDS] = {
    [GROUP_KEEPALIVE] = "keepalive",
    [GROUP_CONNECT] = "connect",
    [GROUP_SLOWHEAD] = "slowhead",
    [GROUP_DOWNLOAD] = "download",
    [GROUP_PIPELINE] = "pipeline",
    [GROUP_IDLE] = "idle",
    [GROUP_SLOW] = "slow",
    [GROUP_UPLOAD] = "upload",
    [GROUP_EVENTS] = "events",
    [GROUP_WEBSOCKET] = "websocket",
    [GROUP_RAW] = "raw",
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

static int set_size(struct group *group, struct span value)
{
    uint64_t least = group->kind == GROUP_RAW; /* nothing has no echo */
    int r = quantity_size_range(value, &group->size);

    if (r < 0)
        return r;
    if (group->kind == GROUP_UPLOAD)
        return group->size.low < group->size.high || group->size.high > UPLOAD_MAX ? -ERANGE : 0;
    return group->size.low < least || group->size.high > MESSAGE_MAX ? -ERANGE : 0;
}

static int set_coding(struct group *group, struct span value)
{
    group->chunked = span_equal(value, SPAN("chunked"));
    return group->chunked || span_equal(value, SPAN("length")) ? 0 : -EINVAL;
}

static int set_target(struct group *group, struct span value)
{
    char text[ADDRESS_TEXT_MAX] = "";

    if (value.length >= sizeof text)
        return -ERANGE;
    memcpy(text, value.at, value.length);
    return address_parse(text, &group->target, NULL);
}

#define ALL_KINDS ((1u << GROUP_KINDS) - 1)
#define KIND(name) (1u << GROUP_##name)
#define TUNNELS (KIND(WEBSOCKET) | KIND(RAW))
#define PLAIN_KINDS (ALL_KINDS & ~(TUNNELS | KIND(EVENTS) | KIND(UPLOAD)))

static const struct {
    struct span name;
    unsigned kinds;
    int (*set)(struct group *group, struct span value);
} keys[] = {
    {SPAN("path"), ALL_KINDS & ~KIND(RAW), set_path},
    {SPAN("method"), PLAIN_KINDS, set_method},
    {SPAN("status"), PLAIN_KINDS, set_status},
    {SPAN("expect"), PLAIN_KINDS, set_expect},
    {SPAN("file"), PLAIN_KINDS, set_file},
    {SPAN("hash"), PLAIN_KINDS, set_hash},
    {SPAN("think"), ALL_KINDS & ~(KIND(IDLE) | KIND(EVENTS)), set_think},
    {SPAN("piece"), KIND(SLOWHEAD) | KIND(UPLOAD), set_piece},
    {SPAN("gap"), KIND(SLOWHEAD) | KIND(UPLOAD), set_gap},
    {SPAN("rate"), KIND(DOWNLOAD), set_rate},
    {SPAN("rcvbuf"), KIND(DOWNLOAD) | KIND(SLOW) | KIND(EVENTS) | TUNNELS, set_receive_buffer},
    {SPAN("depth"), KIND(PIPELINE), set_depth},
    {SPAN("size"), KIND(UPLOAD) | TUNNELS, set_size},
    {SPAN("coding"), KIND(UPLOAD), set_coding},
    {SPAN("to"), ALL_KINDS, set_target},
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

static void set_defaults(struct group *group)
{
    switch (group->kind) {
    case GROUP_PIPELINE:
        group->depth = 4;
        break;
    case GROUP_DOWNLOAD:
        group->receive_buffer = DOWNLOAD_RECEIVE_BUFFER;
        break;
    case GROUP_SLOWHEAD:
        group->piece = (struct range){1, 5};
        break;
    case GROUP_UPLOAD:
        group->size = (struct range){65536, 65536};
        break;
    case GROUP_WEBSOCKET:
        group->status = 101;
        group->size = (struct range){0, 4096};
        break;
    case GROUP_RAW:
        group->size = (struct range){1, 4096};
        break;
    default:
        break;
    }
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
    set_defaults(group);
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
        .gap_usec = {1 * USEC_PER_MSEC, 5 * USEC_PER_MSEC},
    };
    int r = parse(ret, reason);
    if (r < 0)
        group_clear(ret);
    return r;
}

/* What the answer to an upload says of it: its length, and FNV-1a of it. */
static int prepare_upload(struct group *group, const char *host, const char *path)
{
    char text[64];
    uint64_t hash;
    int r = request_append_upload(&group->requests, group, host, path, &hash);

    (void)snprintf(text, sizeof text, "%" PRIu64 " %016" PRIx64 "\n", group->size.low, hash);
    group->ends[1] = group->requests.length;
    return r < 0 ? r : copy(span_of(text), &group->expect);
}

static int prepare_requests(struct group *group, const char *host, const char *path)
{
    int r = 0;

    if (group->kind == GROUP_WEBSOCKET || group->kind == GROUP_RAW)
        r = phrases_init(&group->phrases, group->size);
    if (r < 0 || group->kind == GROUP_RAW)
        return r;
    if (group->kind == GROUP_UPLOAD)
        return prepare_upload(group, host, path);
    for (unsigned n = 0; n < group->depth && r == 0; n++) {
        r = request_append(&group->requests, group, host, path, n);
        group->ends[n + 1] = group->requests.length;
    }
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
        return expect_file && 1u << group->kind & PLAIN_KINDS
                   ? expectation_of_file(expectation, expect_file, reason)
                   : 0;
    if (request_append_template(&text, template, n) < 0 || !buffer_string(&text))
        return -ENOMEM;
    if (group->expect)
        return expectation_of_text(expectation, text.bytes);
    return expectation_of_file(expectation, text.bytes, reason);
}

int group_prepare(struct group *group, const char *host, const char *path, const char *expect_file,
    struct reason *reason)
{
    (void)reason_set(reason, 0, "out of memory"); /* unless a file is the reason */
    int r = prepare_requests(group, host, group->path ? group->path : path);
    const char *template = group->expect ? group->expect : group->file;
    unsigned count = template && strstr(template, "{n}") ? group->depth : 1;
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
    phrases_clear(&group->phrases);
    free(group->path);
    free(group->expect);
    free(group->file);
    group->path = group->expect = group->file = NULL;
}
