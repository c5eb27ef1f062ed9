/*
 * A request as it is sent on to a backend: read again it must be the same request, with exactly one
 * Host, nothing of the former connection, and nothing that an untrusted client said of itself.
 *
 * The first byte chooses what is known of the client, the rest is the head.
 */
#include <stdlib.h>
#include <string.h>

#include "http/field_kind.h"
#include "http/forward.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct head_limits usual = {.size = 16384, .fields = 100};
static const struct head_limits widest = {.size = SIZE_MAX, .fields = REQUEST_FIELDS_MAX};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool parse(struct span head, const struct head_limits *limits, struct request *request)
{
    struct head_parser parser;
    unsigned status;
    const char *why;

    head_parser_start(&parser, request, limits);
    return head_parser_feed(&parser, head, &status, &why) == HEAD_COMPLETE;
}

static void check_line(const struct request *before, const struct request *after)
{
    struct span query = before->query;

    require(span_equal(after->method_text, before->method_text));
    require(span_equal(after->path, before->path));
    require(!after->query.at == !query.at && span_equal(after->query, query));
    require(after->target.length == before->path.length + (query.at ? query.length + 1 : 0));
    require(after->minor == 1);
    require(after->framing == before->framing && after->content_length == before->content_length);
    require(after->expect_continue == before->expect_continue);
    require(after->upgrade == forward_upgrades(before));
}

static void check_host(
    const struct request *before, const struct request *after, const struct forward_client *client)
{
    require(request_field_count(after, "host") == 1);
    if (client->host_set.length > 0)
        require(span_equal(request_field(after, "host"), client->host_set));
    else
        require(span_equal(after->host, before->host));
}

/* Whether Connection names it; close and the like name no field. */
static bool is_named(const struct request *request, struct span name)
{
    struct list_walk walk = {.name = "connection"};
    struct span option;

    while (request_list_next(request, &walk, &option))
        if (span_equal_case(option, name) && !span_equal_case(option, SPAN("close")))
            return true;
    return false;
}

static bool is_plain(struct span name)
{
    enum field_kind kind = field_kind_of(name);

    return kind == FIELD_OTHER || kind == FIELD_END_TO_END || kind == FIELD_DATE ||
           kind == FIELD_MAX_FORWARDS;
}

/* The plain fields, all but the named, are there in their order, with Via behind them. */
static void check_plain(const struct request *before, const struct request *after)
{
    size_t at = 0;

    for (size_t i = 0; i < before->field_count; i++) {
        const struct field *field = &before->fields[i];
        if (!is_plain(field->name) ||
            (field_kind_of(field->name) == FIELD_OTHER && is_named(before, field->name)))
            continue;
        while (at < after->field_count && !is_plain(after->fields[at].name))
            at++;
        require(at < after->field_count && span_equal(after->fields[at].name, field->name));
        require(span_equal(after->fields[at].value, field->value) ||
                (field->kind == FIELD_MAX_FORWARDS && request_is_traced(before)));
        at++;
    }
    while (at < after->field_count && !is_plain(after->fields[at].name))
        at++;
    require(at < after->field_count && span_equal(after->fields[at++].name, SPAN("Via")));
    while (at < after->field_count)
        require(!is_plain(after->fields[at++].name));
}

/* The others are those that we make ourselves, or what a trusted client says. */
static void check_made(const struct request *after, const struct forward_client *client)
{
    static const char *const once[] = {"content-length", "transfer-encoding", "expect",
        "x-forwarded-for", "forwarded", "upgrade", "te", "connection"};

    for (size_t i = 0; i < sizeof once / sizeof *once; i++)
        require(request_field_count(after, once[i]) <= 1);
    for (size_t i = 0; i < after->field_count; i++) {
        struct span name = after->fields[i].name;
        enum field_kind kind = field_kind_of(name);
        require(kind != FIELD_DISGUISED);
        require(kind != FIELD_HOP && kind != FIELD_OF_REQUEST);
        require(kind != FIELD_CONNECTION || span_equal(name, SPAN("Connection")));
        require(kind != FIELD_CONTENT_LENGTH || span_equal(name, SPAN("Content-Length")));
        require(kind != FIELD_TRANSFER_ENCODING || span_equal(name, SPAN("Transfer-Encoding")));
        require(kind != FIELD_HOST || span_equal(name, SPAN("Host")));
        require(kind != FIELD_EXPECT || span_equal(name, SPAN("Expect")));
        require(kind != FIELD_OF_CLIENT || client->trusted);
    }
    require(span_equal(request_field(after, "te"),
        request_field_count(after, "te") > 0 ? SPAN("trailers") : (struct span){NULL, 0}));
}

static void check_client(const struct request *after, const struct forward_client *client)
{
    struct span addresses = request_field(after, "x-forwarded-for");
    char text[ADDRESS_TEXT_MAX];

    require(client->trusted || request_field_count(after, "x-forwarded-proto") == 1);
    require(client->trusted || request_field_count(after, "x-forwarded-host") <= 1);
    require(!client->forwarded || request_field_count(after, "forwarded") == 1);
    if (client->peer->any.sa_family == AF_UNIX) {
        require(client->trusted || !addresses.at);
        return;
    }
    struct span peer = span_of(address_format_host(client->peer, text));
    require(addresses.length >= peer.length);
    require(span_equal(
        (struct span){addresses.at + addresses.length - peer.length, peer.length}, peer));
    require(client->trusted || addresses.length == peer.length);
}

static void check_forwarded(const struct request *before, const struct forward_client *client)
{
    static struct request after;
    CLEANUP_BUFFER struct buffer out = {0};
    int r = forward_request(before, client, &out);

    require((r < 0) == (before->method == METHOD_CONNECT));
    if (r < 0) {
        require(out.length == 0);
        return;
    }
    require(parse(buffer_span(&out), &widest, &after) && after.head_length == out.length);
    require(after.keep_alive == (!client->close || after.upgrade));
    check_line(before, &after);
    check_host(before, &after, client);
    check_plain(before, &after);
    check_made(&after, client);
    check_client(&after, client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const peers[] = {
        "192.0.2.1:1", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1", "unix:/run/x"};
    static struct request request;
    struct address peer;

    if (size < 1 || address_parse(peers[data[0] & 3], &peer, NULL) < 0)
        return 0;
    struct forward_client client = {.peer = &peer,
        .scheme = data[0] & 4 ? SPAN("https") : SPAN("http"),
        .trusted = data[0] & 8,
        .forwarded = data[0] & 16,
        .host_set = data[0] & 32 ? SPAN("backend:8080") : SPAN(""),
        .close = data[0] & 64};
    char *head = malloc(size); /* its end is watched */
    require(head);
    memcpy(head, data + 1, size - 1);
    if (parse((struct span){head, size - 1}, &usual, &request))
        check_forwarded(&request, &client);
    free(head);
    return 0;
}
