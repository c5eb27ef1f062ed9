#include "http/proxy_protocol.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define LINE_MAX_V1 107 /* §2.1, with its CR LF */
#define FIXED_V2 16     /* §2.2: the signature, version and command, family, length */

static const struct span start_v1 = SPAN("PROXY ");
static const struct span signature_v2 = SPAN("\r\n\r\n\0\r\nQUIT\n");

/* Whether @bytes, as far as they go, are @start or begin with it. */
static bool may_start(struct span bytes, struct span start)
{
    if (bytes.length < start.length)
        return span_starts(start, bytes);
    return span_starts(bytes, start);
}

/* Version 1: a line of text. */

/* §2.1: no leading zeros. */
static bool read_port(struct span text, in_port_t *ret)
{
    uint64_t port;

    if ((text.length > 1 && text.at[0] == '0') || span_to_u64(text, &port) < 0 || port > 65535)
        return false;
    *ret = htons((uint16_t)port);
    return true;
}

static bool read_host(struct span text, int family, void *ret)
{
    char host[INET6_ADDRSTRLEN];

    if (text.length >= sizeof host || memchr(text.at, '\0', text.length))
        return false;
    memcpy(host, text.at, text.length);
    host[text.length] = '\0';
    return inet_pton(family, host, ret) == 1;
}

static struct address make_ipv4(struct in_addr host, in_port_t port)
{
    return (struct address){.ipv4 = {.sin_family = AF_INET, .sin_addr = host, .sin_port = port},
        .length = sizeof(struct sockaddr_in)};
}

static struct address make_ipv6(struct in6_addr host, in_port_t port)
{
    return (struct address){.ipv6 = {.sin6_family = AF_INET6, .sin6_addr = host, .sin6_port = port},
        .length = sizeof(struct sockaddr_in6)};
}

static bool read_address(struct span host, struct span port, bool ipv6, struct address *ret)
{
    struct in6_addr host_ipv6;
    struct in_addr host_ipv4;
    in_port_t number;

    if (!read_port(port, &number))
        return false;
    if (ipv6 ? !read_host(host, AF_INET6, &host_ipv6) : !read_host(host, AF_INET, &host_ipv4))
        return false;
    *ret = ipv6 ? make_ipv6(host_ipv6, number) : make_ipv4(host_ipv4, number);
    return true;
}

/* @line: what follows "PROXY ", without CR LF. */
static int parse_line(struct span line, struct address *ret_peer)
{
    struct span family = span_cut(&line, ' ');
    struct address peer, local;
    struct span words[4];

    if (span_equal(family, SPAN("UNKNOWN"))) /* §2.1: what follows is to be ignored */
        return PROXY_COMPLETE;
    bool ipv6 = span_equal(family, SPAN("TCP6"));
    if (!ipv6 && !span_equal(family, SPAN("TCP4")))
        return PROXY_BAD;
    for (size_t i = 0; i < 4; i++) {
        if (!line.at)
            return PROXY_BAD;
        words[i] = span_cut(&line, ' ');
    }
    if (line.at || !read_address(words[0], words[2], ipv6, &peer) ||
        !read_address(words[1], words[3], ipv6, &local))
        return PROXY_BAD;
    *ret_peer = peer;
    return PROXY_COMPLETE;
}

static int parse_v1(struct span bytes, struct address *ret_peer, size_t *ret_length)
{
    struct span head = {bytes.at, bytes.length < LINE_MAX_V1 ? bytes.length : LINE_MAX_V1};
    const char *end = memchr(head.at, '\r', head.length);

    if (!end || end + 1 == head.at + head.length)
        return head.length < LINE_MAX_V1 ? PROXY_MORE : PROXY_BAD;
    if (end[1] != '\n')
        return PROXY_BAD;
    struct span line = {head.at + start_v1.length, (size_t)(end - head.at) - start_v1.length};
    int r = parse_line(line, ret_peer);
    if (r == PROXY_COMPLETE)
        *ret_length = (size_t)(end + 2 - head.at);
    return r;
}

/* Version 2: binary, in the network's byte order. */

enum {
    COMMAND_LOCAL = 0x20,
    COMMAND_PROXY = 0x21,
    FAMILY_MAX = 3,
    FAMILY_TRANSPORT_MAX = 2,
    TCP_IPV4 = 0x11,
    TCP_IPV6 = 0x21,
};

/* The bytes of the two addresses, by the family in the high half of its byte. */
static const size_t addresses_v2[FAMILY_MAX + 1] = {0, 12, 36, 216};

static size_t read_u16(const char *at)
{
    return (size_t)(unsigned char)at[0] << 8 | (unsigned char)at[1];
}

/* §2.2.1: type, length in two bytes, value. */
static bool check_tlvs(struct span tlvs)
{
    while (tlvs.length >= 3) {
        size_t length = 3 + read_u16(tlvs.at + 1);
        if (length > tlvs.length)
            return false;
        tlvs.at += length;
        tlvs.length -= length;
    }
    return tlvs.length == 0;
}

/* @addresses: source and destination, then the ports in the same order. */
static void read_addresses(unsigned family, const char *addresses, struct address *ret_peer)
{
    struct in6_addr ipv6;
    struct in_addr ipv4;
    in_port_t port;

    if (family == TCP_IPV4) {
        memcpy(&ipv4, addresses, sizeof ipv4);
        memcpy(&port, addresses + 2 * sizeof ipv4, sizeof port);
        *ret_peer = make_ipv4(ipv4, port);
    } else if (family == TCP_IPV6) {
        memcpy(&ipv6, addresses, sizeof ipv6);
        memcpy(&port, addresses + 2 * sizeof ipv6, sizeof port);
        *ret_peer = make_ipv6(ipv6, port);
    }
}

/* @block: what follows the fixed part. */
static int parse_block(unsigned family, struct span block, struct address *ret_peer)
{
    if (family >> 4 > FAMILY_MAX || (family & 0x0f) > FAMILY_TRANSPORT_MAX)
        return PROXY_BAD;
    size_t addresses = addresses_v2[family >> 4];
    if (block.length < addresses)
        return PROXY_BAD;
    if (addresses > 0 && !check_tlvs((struct span){block.at + addresses, block.length - addresses}))
        return PROXY_BAD;
    read_addresses(family, block.at, ret_peer);
    return PROXY_COMPLETE;
}

/* The command and the length are looked at as soon as they are there. */
static int parse_v2(struct span bytes, struct address *ret_peer, size_t *ret_length)
{
    unsigned command = bytes.length > 12 ? (unsigned char)bytes.at[12] : COMMAND_LOCAL;

    if (command != COMMAND_LOCAL && command != COMMAND_PROXY)
        return PROXY_BAD;
    if (bytes.length < FIXED_V2)
        return PROXY_MORE;
    size_t length = FIXED_V2 + read_u16(bytes.at + 14);
    if (length > PROXY_HEADER_MAX)
        return PROXY_BAD;
    if (bytes.length < length)
        return PROXY_MORE;
    /* §2.2: of LOCAL all that follows is to be ignored, the family as well */
    struct span block = {bytes.at + FIXED_V2, length - FIXED_V2};
    int r = command == COMMAND_LOCAL ? PROXY_COMPLETE
                                     : parse_block((unsigned char)bytes.at[13], block, ret_peer);
    if (r == PROXY_COMPLETE)
        *ret_length = length;
    return r;
}

int proxy_header_parse(struct span bytes, struct address *ret_peer, size_t *ret_length)
{
    if (may_start(bytes, start_v1))
        return bytes.length <= start_v1.length ? PROXY_MORE : parse_v1(bytes, ret_peer, ret_length);
    if (may_start(bytes, signature_v2))
        return parse_v2(bytes, ret_peer, ret_length);
    return PROXY_BAD;
}

/* Both addresses in the one family that the header is going to name. */
struct ends {
    int family; /* AF_UNSPEC: no such family */
    struct address peer, local;
};

/* IPv6's form of an IPv4 address (RFC 4291 §2.5.5.2). */
static struct address map_ipv4(const struct address *address)
{
    struct in6_addr host = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

    if (address->any.sa_family == AF_INET6)
        return *address;
    memcpy(host.s6_addr + 12, &address->ipv4.sin_addr, 4);
    return make_ipv6(host, address->ipv4.sin_port);
}

static bool is_inet(const struct address *address)
{
    return address->any.sa_family == AF_INET || address->any.sa_family == AF_INET6;
}

static struct ends pair(const struct address *peer, const struct address *local)
{
    if (!is_inet(peer) || !is_inet(local))
        return (struct ends){.family = AF_UNSPEC};
    struct ends ends = {AF_INET, address_unmapped(peer), address_unmapped(local)};
    if (ends.peer.any.sa_family == AF_INET6 || ends.local.any.sa_family == AF_INET6)
        ends = (struct ends){AF_INET6, map_ipv4(&ends.peer), map_ipv4(&ends.local)};
    return ends;
}

static int write_v1(const struct ends *ends, struct buffer *out)
{
    char peer[INET6_ADDRSTRLEN], local[INET6_ADDRSTRLEN];

    switch (ends->family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &ends->peer.ipv4.sin_addr, peer, sizeof peer);
        (void)inet_ntop(AF_INET, &ends->local.ipv4.sin_addr, local, sizeof local);
        return buffer_printf(out, "PROXY TCP4 %s %s %u %u\r\n", peer, local,
            ntohs(ends->peer.ipv4.sin_port), ntohs(ends->local.ipv4.sin_port));
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &ends->peer.ipv6.sin6_addr, peer, sizeof peer);
        (void)inet_ntop(AF_INET6, &ends->local.ipv6.sin6_addr, local, sizeof local);
        return buffer_printf(out, "PROXY TCP6 %s %s %u %u\r\n", peer, local,
            ntohs(ends->peer.ipv6.sin6_port), ntohs(ends->local.ipv6.sin6_port));
    }
    return buffer_append(out, SPAN("PROXY UNKNOWN\r\n"));
}

static int write_v2(const struct ends *ends, struct buffer *out)
{
    struct {
        char signature[12];
        uint8_t command, family;
        in_port_t length;
        union {
            struct {
                struct in_addr peer, local;
                in_port_t peer_port, local_port;
            } ipv4;
            struct {
                struct in6_addr peer, local;
                in_port_t peer_port, local_port;
            } ipv6;
        };
    } header = {.command = COMMAND_LOCAL};
    size_t length = 0;

    memcpy(header.signature, signature_v2.at, sizeof header.signature);
    if (ends->family == AF_INET) {
        header.command = COMMAND_PROXY;
        header.family = TCP_IPV4;
        header.ipv4.peer = ends->peer.ipv4.sin_addr;
        header.ipv4.local = ends->local.ipv4.sin_addr;
        header.ipv4.peer_port = ends->peer.ipv4.sin_port;
        header.ipv4.local_port = ends->local.ipv4.sin_port;
        length = sizeof header.ipv4;
    } else if (ends->family == AF_INET6) {
        header.command = COMMAND_PROXY;
        header.family = TCP_IPV6;
        header.ipv6.peer = ends->peer.ipv6.sin6_addr;
        header.ipv6.local = ends->local.ipv6.sin6_addr;
        header.ipv6.peer_port = ends->peer.ipv6.sin6_port;
        header.ipv6.local_port = ends->local.ipv6.sin6_port;
        length = sizeof header.ipv6;
    }
    header.length = htons((uint16_t)length);
    return buffer_append(out, (struct span){(const char *)&header, FIXED_V2 + length});
}

int proxy_header_write(
    unsigned version, const struct address *peer, const struct address *local, struct buffer *out)
{
    struct ends ends = pair(peer, local);

    return version == 1 ? write_v1(&ends, out) : write_v2(&ends, out);
}
