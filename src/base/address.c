#include "base/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/span.h"

static int parse_port(struct span text, in_port_t *ret, struct reason *reason)
{
    uint64_t port;

    if (span_to_u64(text, &port) < 0 || port == 0 || port > 65535)
        return reason_set(
            reason, -EINVAL, "'%.*s' is not a port (1 to 65535)", (int)text.length, text.at);
    *ret = htons((uint16_t)port);
    return 0;
}

static int parse_unix(const char *name, struct address *ret, struct reason *reason)
{
    size_t length = strlen(name);
    struct address address = {.local.sun_family = AF_UNIX};

    if (length < 2 || (name[0] != '/' && name[0] != '@'))
        return reason_set(reason, -EINVAL,
            "'unix:%s' names no socket: write unix:/absolute/path or unix:@abstract-name", name);
    if (length >= sizeof address.local.sun_path)
        return reason_set(reason, -EINVAL, "'unix:%s' is longer than the %zu bytes unix(7) allows",
            name, sizeof address.local.sun_path - 1);
    memcpy(address.local.sun_path, name, length);
    address.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    if (name[0] == '@') { /* unix(7): an abstract name begins with NUL, and its length ends it */
        address.local.sun_path[0] = '\0';
        address.length--;
    }
    *ret = address;
    return 0;
}

static int parse_host(struct span host, struct address *address, struct reason *reason)
{
    char text[INET6_ADDRSTRLEN];
    bool bracketed = host.length > 2 && host.at[0] == '[' && host.at[host.length - 1] == ']';

    if (bracketed)
        host = (struct span){host.at + 1, host.length - 2};
    if (host.length < sizeof text) {
        memcpy(text, host.at, host.length);
        text[host.length] = '\0';
        struct in6_addr ipv6;
        struct in_addr ipv4;
        if (bracketed && inet_pton(AF_INET6, text, &ipv6) == 1) {
            address->ipv6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = ipv6};
            address->length = sizeof address->ipv6;
            return 0;
        }
        if (!bracketed && inet_pton(AF_INET, text, &ipv4) == 1) {
            address->ipv4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = ipv4};
            address->length = sizeof address->ipv4;
            return 0;
        }
    }
    return reason_set(reason, -EINVAL,
        "'%.*s' is not an IP address (write 192.0.2.1:80 or [2001:db8::1]:80; names are not looked "
        "up)",
        (int)host.length, host.at);
}

int address_parse(const char *text, struct address *ret, struct reason *reason)
{
    struct address address = {0};
    const char *colon = strrchr(text, ':');
    in_port_t port = 0;
    int r;

    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, ret, reason);
    if (!colon) { /* as ListenStream=80 in systemd.socket(5) */
        r = parse_port(span_of(text), &port, reason);
        if (r < 0)
            return r;
        address.ipv6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_addr = in6addr_any, .sin6_port = port};
        address.length = sizeof address.ipv6;
        *ret = address;
        return 0;
    }
    r = parse_port(span_of(colon + 1), &port, reason);
    if (r < 0)
        return r;
    r = parse_host((struct span){text, (size_t)(colon - text)}, &address, reason);
    if (r < 0)
        return r;
    if (address.any.sa_family == AF_INET6)
        address.ipv6.sin6_port = port;
    else
        address.ipv4.sin_port = port;
    *ret = address;
    return 0;
}

static const char *format_unix(const struct address *address, char *text)
{
    size_t offset = offsetof(struct sockaddr_un, sun_path);
    size_t length = address->length > offset ? address->length - offset : 0;
    size_t used = sizeof "unix:" - 1;
    const char *path = address->local.sun_path;

    memcpy(text, "unix:", used);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)path[i];
        if (c == '\0' && i == 0)
            text[used++] = '@';
        else if (c == '\0')
            break;
        else if (c < 0x20 || c >= 0x7f || c == '\\')
            used += (size_t)sprintf(text + used, "\\x%02x", c);
        else
            text[used++] = (char)c;
    }
    text[used] = '\0';
    return text;
}

const char *address_format(const struct address *address, char *text)
{
    char host[INET6_ADDRSTRLEN];

    switch (address->any.sa_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &address->ipv4.sin_addr, host, sizeof host);
        (void)snprintf(text, ADDRESS_TEXT_MAX, "%s:%u", host, ntohs(address->ipv4.sin_port));
        return text;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &address->ipv6.sin6_addr, host, sizeof host);
        (void)snprintf(text, ADDRESS_TEXT_MAX, "[%s]:%u", host, ntohs(address->ipv6.sin6_port));
        return text;
    case AF_UNIX:
        return format_unix(address, text);
    }
    (void)snprintf(text, ADDRESS_TEXT_MAX, "(family %d)", address->any.sa_family);
    return text;
}

/* As inet_ntop(3), which goes through printf, and once for each request that is forwarded. */
static const char *format_ipv4(const uint8_t bytes[4], char *text)
{
    char *at = text;

    for (int i = 0; i < 4; i++) {
        if (bytes[i] >= 100)
            *at++ = (char)('0' + bytes[i] / 100);
        if (bytes[i] >= 10)
            *at++ = (char)('0' + bytes[i] / 10 % 10);
        *at++ = (char)('0' + bytes[i] % 10);
        *at++ = i < 3 ? '.' : '\0';
    }
    return text;
}

const char *address_format_host(const struct address *address, char *text)
{
    struct address plain = address_unmapped(address);

    switch (plain.any.sa_family) {
    case AF_INET:
        return format_ipv4((const uint8_t *)&plain.ipv4.sin_addr, text);
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &plain.ipv6.sin6_addr, text, ADDRESS_TEXT_MAX);
        return text;
    }
    memcpy(text, "unix:", sizeof "unix:");
    return text;
}

struct address address_unmapped(const struct address *address)
{
    const struct in6_addr *mapped = &address->ipv6.sin6_addr;
    struct address plain = {.length = sizeof plain.ipv4};

    if (address->any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(mapped))
        return *address;
    plain.ipv4.sin_family = AF_INET;
    plain.ipv4.sin_port = address->ipv6.sin6_port;
    memcpy(&plain.ipv4.sin_addr, mapped->s6_addr + 12, sizeof plain.ipv4.sin_addr);
    return plain;
}

bool address_equal(const struct address *a, const struct address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    switch (a->any.sa_family) {
    case AF_INET:
        return a->ipv4.sin_port == b->ipv4.sin_port &&
               a->ipv4.sin_addr.s_addr == b->ipv4.sin_addr.s_addr;
    case AF_INET6:
        return a->ipv6.sin6_port == b->ipv6.sin6_port &&
               a->ipv6.sin6_scope_id == b->ipv6.sin6_scope_id &&
               IN6_ARE_ADDR_EQUAL(&a->ipv6.sin6_addr, &b->ipv6.sin6_addr);
    }
    return a->length == b->length && memcmp(&a->any, &b->any, a->length) == 0;
}

int address_of_socket(int fd, struct address *ret)
{
    struct address address = {.length = sizeof(struct sockaddr_un)};

    if (getsockname(fd, &address.any, &address.length) < 0)
        return -errno;
    /* unix(7): with a path of 108 bytes, which leave no room for a NUL, it counts one all the same.
     */
    if (address.length > sizeof address.local)
        address.length = sizeof address.local;
    *ret = address;
    return 0;
}
