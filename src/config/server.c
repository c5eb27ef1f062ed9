#include "config/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/host.h"

#define WEIGHT_MAX 1000

/* RFC 1123 §2.1: what ends in a number is meant to be an address. A last dot ends a full name. */
static bool is_name(struct span host)
{
    struct span label = {0};
    uint64_t number;

    if (host.length > 1 && host.at[host.length - 1] == '.')
        host.length--;
    if (!host_is_name(host))
        return false;
    while (host.at)
        label = span_cut(&host, '.');
    return span_to_u64(label, &number) == -EINVAL;
}

static int parse_named(
    struct span host, struct span port, struct config_server *server, struct reason *reason)
{
    int r = host_parse_port(port, &server->port, reason);

    if (r < 0)
        return r;
    server->host = strndup(host.at, host.length);
    if (!server->host)
        return -ENOMEM;
    for (char *c = server->host; *c; c++) /* RFC 4343: names ignore case */
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c | 0x20);
    return 0;
}

static int parse_address(struct config_server *server, struct reason *reason)
{
    struct address address;
    int r = address_parse(server->text, &address, reason);

    if (r == 0)
        server->address = address;
    return r;
}

/* Of server->text. */
static int parse_place(struct config_server *server, struct reason *reason)
{
    struct span text = span_of(server->text), host, port;
    uint64_t number;

    if (span_starts(text, SPAN("unix:")))
        return parse_address(server, reason);
    host_split(text, &host, &port);
    if (!port.at && span_to_u64(text, &number) != -EINVAL)
        return reason_set(reason, -EINVAL, "'%s' is a port without a host: write 127.0.0.1:%s",
            server->text, server->text);
    if (!port.at)
        return reason_set(
            reason, -EINVAL, "'%s' has no port, as in %s:8080", server->text, server->text);
    if (host_is_ipv4(host) || host_is_ipv6(host))
        return parse_address(server, reason);
    if (is_name(host))
        return parse_named(host, port, server, reason);
    return reason_set(reason, -EINVAL,
        "'%.*s' is neither an IP address (IPv6: in brackets) nor the name of a host",
        (int)host.length, host.at);
}

static int parse_option(struct span option, struct config_server *server, struct reason *reason)
{
    struct span value = option, name = span_cut(&value, '=');
    uint64_t weight;

    if (!span_equal(name, SPAN("weight")))
        return reason_set(reason, -EINVAL,
            "'%.*s' is no option (weight=N is one; each server has a Server= of its own)",
            (int)option.length, option.at);
    if (span_to_u64(value, &weight) < 0 || weight < 1 || weight > WEIGHT_MAX)
        return reason_set(reason, -EINVAL, "weight= must be a number from 1 to %d", WEIGHT_MAX);
    server->weight = (unsigned)weight;
    return 0;
}

static int parse(struct span text, struct config_server *server, struct reason *reason)
{
    struct span word;
    int r;

    (void)span_cut_word(&text, &word);
    server->text = strndup(word.at, word.length);
    if (!server->text)
        return -ENOMEM;
    r = parse_place(server, reason);
    while (r == 0 && span_cut_word(&text, &word))
        r = parse_option(word, server, reason);
    return r;
}

int server_parse(struct span text, struct config_server *ret, struct reason *reason)
{
    struct config_server server = {.weight = 1};

    int r = parse(text, &server, reason);
    if (r < 0) {
        server_clear(&server);
        return r;
    }
    *ret = server;
    return 0;
}

void server_clear(struct config_server *server)
{
    free(server->text);
    free(server->host);
}
