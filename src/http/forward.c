#include "http/forward.h"

#include <errno.h>
#include <string.h>

#include "http/field_kind.h"

/* What a head grows by, in nearly all cases. */
#define REQUEST_GROWTH 512
#define RESPONSE_GROWTH 256

/* Appends until memory runs out; what @out held before is left then. */
struct writer {
    struct buffer *out;
    size_t start;
    int error; /* 0 or -ENOMEM */
};

static struct writer begin(struct buffer *out, size_t expected)
{
    return (struct writer){out, out->length, buffer_reserve(out, expected)};
}

static int end(struct writer *writer)
{
    if (writer->error < 0)
        writer->out->length = writer->start;
    return writer->error;
}

/* Returns where the next @length bytes go, or NULL. */
static char *extend(struct writer *writer, size_t length)
{
    struct buffer *out = writer->out;

    if (out->capacity - out->length < length && writer->error == 0)
        writer->error = buffer_reserve(out, length);
    if (writer->error < 0)
        return NULL;
    char *at = out->bytes + out->length;
    out->length += length;
    return at;
}

static void put(struct writer *writer, struct span bytes)
{
    char *at = bytes.length > 0 ? extend(writer, bytes.length) : NULL;

    if (at)
        memcpy(at, bytes.at, bytes.length);
}

static void put_field(struct writer *writer, struct span name, struct span value)
{
    char *at = extend(writer, name.length + value.length + 4);

    if (!at)
        return;
    at = mempcpy(at, name.at, name.length);
    *at++ = ':';
    *at++ = ' ';
    if (value.length > 0)
        at = mempcpy(at, value.at, value.length);
    *at++ = '\r';
    *at = '\n';
}

/* In one piece where it stands in its head as it would be written: that is behind its colon. */
static void put_received(struct writer *writer, const struct field *field)
{
    const char *at = field->name.at, *end = field->value.at + field->value.length;

    if (field->value.at - at == (ptrdiff_t)field->name.length + 2 && field->value.at[-1] == ' ' &&
        end[0] == '\r')
        put(writer, (struct span){at, (size_t)(end + 2 - at)});
    else
        put_field(writer, field->name, field->value);
}

static void put_number(struct writer *writer, uint64_t number)
{
    char digits[20]; /* of 2^64-1 */
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    put(writer, (struct span){digits + at, sizeof digits - at});
}

static void put_number_field(struct writer *writer, struct span name, uint64_t number)
{
    put(writer, name);
    put(writer, SPAN(": "));
    put_number(writer, number);
    put(writer, SPAN("\r\n"));
}

/* A field whose value is a list; there is none of an empty list. */
struct list {
    struct writer *writer;
    struct span name;
    bool begun;
};

static void next_element(struct list *list)
{
    if (!list->begun)
        put(list->writer, list->name);
    put(list->writer, list->begun ? SPAN(", ") : SPAN(": "));
    list->begun = true;
}

static void put_element(struct list *list, struct span element)
{
    next_element(list);
    put(list->writer, element);
}

static void end_list(struct list *list)
{
    if (list->begun)
        put(list->writer, SPAN("\r\n"));
}

/* The fields of the head that was received, and what becomes of them. */
struct received {
    const struct field *fields;
    size_t count;
    uint8_t kinds[REQUEST_FIELDS_MAX]; /* enum field_kind */
};

static uint32_t hash_name(struct span name)
{
    uint32_t hash = 2166136261; /* FNV-1a */

    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ ((unsigned char)name.at[i] | 0x20)) * 16777619;
    return hash;
}

static bool is_usual(struct span option)
{
    return option.length == 0 || span_equal_case(option, SPAN("close")) ||
           span_equal_case(option, SPAN("keep-alive")) || span_equal_case(option, SPAN("upgrade"));
}

/*
 * What Connection names is of the connection alone (RFC 9110 §7.6.1). A client can send thousands
 * of options and hundreds of fields, so what is done for each pair is to compare two numbers.
 */
static void drop_named(struct received *received)
{
    struct list_walk walk = {.kind = FIELD_CONNECTION};
    uint32_t hashes[REQUEST_FIELDS_MAX];
    bool hashed = false;
    struct span option;

    while (fields_list_next(received->fields, received->count, &walk, &option)) {
        if (is_usual(option))
            continue;
        for (size_t i = 0; !hashed && i < received->count; i++)
            hashes[i] = hash_name(received->fields[i].name);
        hashed = true;
        uint32_t hash = hash_name(option);
        for (size_t i = 0; i < received->count; i++)
            if (hashes[i] == hash && received->kinds[i] == FIELD_OTHER &&
                span_equal_case(received->fields[i].name, option))
                received->kinds[i] = FIELD_HOP;
    }
}

static void classify(struct received *received, const struct field *fields, size_t count)
{
    received->fields = fields;
    received->count = count;
    for (size_t i = 0; i < count; i++)
        received->kinds[i] = (uint8_t)fields[i].kind;
    drop_named(received);
}

static bool has(const struct received *received, enum field_kind kind)
{
    for (size_t i = 0; i < received->count; i++)
        if (received->kinds[i] == kind)
            return true;
    return false;
}

/* A protocol of an Upgrade field that we can be a tunnel for. */
static bool may_upgrade_to(struct span protocol)
{
    return protocol.length > 0 && !span_equal_case(protocol, SPAN("h2c"));
}

static void put_upgrade(struct writer *writer, const struct received *received)
{
    struct list list = {writer, SPAN("Upgrade"), false};
    struct list_walk walk = {.kind = FIELD_UPGRADE};
    struct span protocol;

    while (fields_list_next(received->fields, received->count, &walk, &protocol))
        if (may_upgrade_to(protocol))
            put_element(&list, protocol);
    end_list(&list);
}

/* Requests. */

bool forward_upgrades(const struct request *request)
{
    struct list_walk walk = {.kind = FIELD_UPGRADE};
    struct span protocol;

    if (!request->upgrade || request->method == METHOD_CONNECT)
        return false;
    while (request_list_next(request, &walk, &protocol))
        if (may_upgrade_to(protocol))
            return true;
    return false;
}

/* The client's peer as text; empty where nothing is known of it. @text: ADDRESS_TEXT_MAX bytes. */
static struct span peer_of(const struct forward_client *client, char *text)
{
    sa_family_t family = client->peer->any.sa_family;

    if (family != AF_INET && family != AF_INET6)
        return (struct span){NULL, 0};
    return span_of(address_format_host(client->peer, text));
}

/* Whom the client meant. An authority in the target wins over Host: RFC 9112 §3.2.2. */
static struct span authority_of(const struct request *request)
{
    struct span target = request->target, host = request->host;

    if (target.length == 0 || target.at[0] == '/' || target.at[0] == '*')
        return fields_find_kind(request->fields, request->field_count, FIELD_HOST);
    size_t length = (size_t)(target.at + target.length - host.at);
    for (size_t i = 0; i < length; i++)
        if (host.at[i] == '/' || host.at[i] == '?')
            length = i;
    return (struct span){host.at, length};
}

static void put_request_line(struct writer *writer, const struct request *request)
{
    put(writer, request->method_text);
    put(writer, SPAN(" "));
    put(writer, request->path);
    if (request->query.at) {
        put(writer, SPAN("?"));
        put(writer, request->query);
    }
    put(writer, SPAN(" HTTP/1.1\r\n"));
}

/* RFC 9110 §7.6.2: Max-Forwards is one less. Where it is 0 the request ends here: the router knows.
 */
static void put_request_field(
    struct writer *writer, const struct request *request, const struct field *field)
{
    uint64_t left;

    if (field->kind == FIELD_MAX_FORWARDS && request_is_traced(request) &&
        span_to_u64(field->value, &left) == 0 && left > 0)
        put_number_field(writer, SPAN("Max-Forwards"), left - 1);
    else
        put_received(writer, field);
}

static bool goes_to_backend(
    enum field_kind kind, const struct request *request, const struct forward_client *client)
{
    switch (kind) {
    case FIELD_OTHER:
    case FIELD_END_TO_END:
    case FIELD_DATE:
    case FIELD_MAX_FORWARDS:
        return true;
    case FIELD_TRAILER:
        return request->framing == FRAMING_CHUNKED;
    case FIELD_OF_CLIENT:
    case FIELD_FORWARDED_HOST:
    case FIELD_FORWARDED_PROTO:
        return client->trusted;
    case FIELD_FORWARDED: /* made anew, with what a trusted client said in front */
    case FIELD_FORWARDED_FOR:
    case FIELD_HOP:
    case FIELD_CONNECTION:
    case FIELD_CONTENT_LENGTH:
    case FIELD_TE:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_UPGRADE:
    case FIELD_OF_REQUEST:
    case FIELD_EXPECT:
    case FIELD_HOST:
    case FIELD_DISGUISED:
        break;
    }
    return false;
}

/* What a trusted client sent in fields of that kind. */
static void put_elements_of(
    struct list *list, const struct received *received, enum field_kind kind, bool trusted)
{
    for (size_t i = 0; trusted && i < received->count; i++)
        if (received->kinds[i] == kind && received->fields[i].value.length > 0)
            put_element(list, received->fields[i].value);
}

/* RFC 7239 §4 and §6: what a token cannot hold is quoted, and IPv6 is in brackets. */
static void put_forwarded_element(
    struct list *list, const struct forward_client *client, struct span peer, struct span authority)
{
    struct writer *writer = list->writer;
    bool ipv6 = peer.length > 0 && memchr(peer.at, ':', peer.length);

    next_element(list);
    put(writer, ipv6 ? SPAN("for=\"[") : SPAN("for="));
    put(writer, peer.length > 0 ? peer : SPAN("unknown"));
    put(writer, ipv6 ? SPAN("]\"") : SPAN(""));
    if (authority.length > 0) {
        put(writer, SPAN(";host=\""));
        put(writer, authority);
        put(writer, SPAN("\""));
    }
    put(writer, SPAN(";proto="));
    put(writer, client->scheme);
}

static void put_client(struct writer *writer, const struct received *received,
    const struct forward_client *client, struct span authority)
{
    struct list addresses = {writer, SPAN("X-Forwarded-For"), false};
    struct list elements = {writer, SPAN("Forwarded"), false};
    char text[ADDRESS_TEXT_MAX];
    struct span peer = peer_of(client, text);

    put_elements_of(&addresses, received, FIELD_FORWARDED_FOR, client->trusted);
    if (peer.length > 0)
        put_element(&addresses, peer);
    end_list(&addresses);
    if (!client->trusted || !has(received, FIELD_FORWARDED_PROTO))
        put_field(writer, SPAN("X-Forwarded-Proto"), client->scheme);
    if (authority.length > 0 && (!client->trusted || !has(received, FIELD_FORWARDED_HOST)))
        put_field(writer, SPAN("X-Forwarded-Host"), authority);
    put_elements_of(&elements, received, FIELD_FORWARDED, client->trusted);
    if (elements.begun || client->forwarded)
        put_forwarded_element(&elements, client, peer, authority);
    end_list(&elements);
}

/* RFC 9110 §10.1.4: what else a client may say there is of this connection. */
static bool wants_trailers(const struct received *received)
{
    struct list_walk walk = {.kind = FIELD_TE};
    struct span coding;

    while (has(received, FIELD_TE) &&
           fields_list_next(received->fields, received->count, &walk, &coding))
        if (span_equal_case(coding, SPAN("trailers")))
            return true;
    return false;
}

static void put_request_connection(struct writer *writer, const struct request *request,
    const struct received *received, const struct forward_client *client)
{
    struct list options = {writer, SPAN("Connection"), false};
    bool upgrade = forward_upgrades(request);
    bool trailers = request->minor > 0 && wants_trailers(received);

    if (request->framing == FRAMING_CHUNKED)
        put_field(writer, SPAN("Transfer-Encoding"), SPAN("chunked"));
    if (request->framing == FRAMING_LENGTH)
        put_number_field(writer, SPAN("Content-Length"), request->content_length);
    if (request->expect_continue)
        put_field(writer, SPAN("Expect"), SPAN("100-continue"));
    if (upgrade)
        put_upgrade(writer, received);
    if (trailers)
        put_field(writer, SPAN("TE"), SPAN("trailers"));
    if (upgrade)
        put_element(&options, SPAN("upgrade"));
    else if (client->close)
        put_element(&options, SPAN("close"));
    if (trailers)
        put_element(&options, SPAN("te"));
    end_list(&options);
}

int forward_request(
    const struct request *request, const struct forward_client *client, struct buffer *out)
{
    struct received received;

    if (request->method == METHOD_CONNECT)
        return -EINVAL;
    struct writer writer = begin(out, request->head_length + REQUEST_GROWTH);
    struct span authority = authority_of(request);
    classify(&received, request->fields, request->field_count);
    put_request_line(&writer, request);
    put_field(&writer, SPAN("Host"), client->host_set.length > 0 ? client->host_set : authority);
    for (size_t i = 0; i < received.count; i++)
        if (goes_to_backend(received.kinds[i], request, client))
            put_request_field(&writer, request, &request->fields[i]);
    put_client(&writer, &received, client, authority);
    put_field(&writer, SPAN("Via"), request->minor > 0 ? SPAN("1.1 baton") : SPAN("1.0 baton"));
    put_request_connection(&writer, request, &received, client);
    put(&writer, SPAN("\r\n"));
    return end(&writer);
}

/* Responses. */

static bool goes_to_client(enum field_kind kind, enum forward_body body)
{
    switch (kind) {
    case FIELD_HOP:
    case FIELD_CONNECTION:
    case FIELD_CONTENT_LENGTH:
    case FIELD_TE:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_UPGRADE:
        return false;
    case FIELD_TRAILER:
        return body == FORWARD_CHUNKED;
    default:
        return true;
    }
}

/* RFC 9110 §15.5.22: a 426 names what it would have the client change to. */
static bool upgrades(const struct response *response)
{
    return response->upgrade ||
           (response->status == 426 &&
               fields_count_kind(response->fields, response->field_count, FIELD_UPGRADE) > 0);
}

static void put_response_framing(
    struct writer *writer, const struct response *response, enum forward_body body)
{
    bool says_length = response->has_length && response->status >= 200 && response->status != 204;

    if (body == FORWARD_CHUNKED)
        put_field(writer, SPAN("Transfer-Encoding"), SPAN("chunked"));
    else if (body == FORWARD_LENGTH || (body == FORWARD_NO_BODY && says_length))
        put_number_field(writer, SPAN("Content-Length"), response->content_length);
}

static void put_response_connection(
    struct writer *writer, const struct response *response, unsigned minor, bool close)
{
    struct list options = {writer, SPAN("Connection"), false};

    if (upgrades(response))
        put_element(&options, SPAN("upgrade"));
    if (response->status >= 200 && close)
        put_element(&options, SPAN("close"));
    else if (response->status >= 200 && minor == 0)
        put_element(&options, SPAN("keep-alive"));
    end_list(&options);
}

static void put_status_line(struct writer *writer, const struct response *response)
{
    put(writer, SPAN("HTTP/1.1 "));
    put_number(writer, response->status);
    put(writer, SPAN(" "));
    put(writer, response->reason);
    put(writer, SPAN("\r\n"));
}

int forward_response(const struct response *response, unsigned minor, enum forward_body body,
    bool close, const char *date, struct buffer *out)
{
    struct writer writer = begin(out, response->head_length + RESPONSE_GROWTH);
    struct received received;

    classify(&received, response->fields, response->field_count);
    put_status_line(&writer, response);
    for (size_t i = 0; i < received.count; i++)
        if (goes_to_client(received.kinds[i], body))
            put_received(&writer, &response->fields[i]);
    if (response->status >= 200 && !has(&received, FIELD_DATE))
        put_field(&writer, SPAN("Date"), span_of(date));
    if (upgrades(response))
        put_upgrade(&writer, &received);
    put_response_framing(&writer, response, body);
    put_response_connection(&writer, response, minor, close || body == FORWARD_CLOSE);
    put(&writer, SPAN("\r\n"));
    return end(&writer);
}

int forward_trailers(struct span section, struct buffer *out)
{
    struct writer writer = begin(out, section.length);

    while (section.length > 0) {
        struct span value = span_cut(&section, '\n'), name;
        if (!section.at || value.length == 0 || value.at[value.length - 1] != '\r')
            break; /* not a line */
        value.length--;
        name = span_cut(&value, ':');
        if (value.at && field_kind_of(name) == FIELD_OTHER)
            put_field(&writer, name, span_trim(value));
    }
    return end(&writer);
}
