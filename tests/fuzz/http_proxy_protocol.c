/*
 * A PROXY header, byte by byte: once it is complete or bad it stays so, whatever follows. The
 * address read is written and read again, in both versions.
 *
 * The first byte chooses the address the connection came to, the rest is the header.
 */
#include <stdlib.h>
#include <string.h>

#include "http/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static struct address address_of(const char *text)
{
    struct address address;

    require(address_parse(text, &address, NULL) == 0);
    return address;
}

/* In memory without a byte to spare. */
static int parse(struct span bytes, struct address *ret_peer, size_t *ret_length)
{
    char *copy = malloc(bytes.length);

    require(copy || bytes.length == 0);
    if (bytes.length > 0)
        memcpy(copy, bytes.at, bytes.length);
    int r = proxy_header_parse((struct span){copy, bytes.length}, ret_peer, ret_length);
    free(copy);
    return r;
}

/* How the same end is said where its family has to be the other's. */
static bool same_host(const struct address *a, const struct address *b)
{
    char left[ADDRESS_TEXT_MAX], right[ADDRESS_TEXT_MAX];

    return strcmp(address_format_host(a, left), address_format_host(b, right)) == 0;
}

static in_port_t port_of(const struct address *address)
{
    return address->any.sa_family == AF_INET ? address->ipv4.sin_port : address->ipv6.sin6_port;
}

static void check_both_ways(const struct address *peer, const struct address *local)
{
    for (unsigned version = 1; version <= 2; version++) {
        CLEANUP_BUFFER struct buffer out = {0};
        struct address again = address_of("unix:/nothing");
        size_t length;
        require(proxy_header_write(version, peer, local, &out) == 0);
        require(out.length <= 107);
        require(parse(buffer_span(&out), &again, &length) == PROXY_COMPLETE);
        require(length == out.length);
        if (local->any.sa_family == AF_UNIX) {
            require(again.any.sa_family == AF_UNIX);
            continue;
        }
        require(same_host(&again, peer) && port_of(&again) == port_of(peer));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const locals[] = {
        "192.0.2.1:1", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1", "unix:/run/x"};
    struct address own = address_of("203.0.113.9:999");
    int former = PROXY_MORE;
    size_t former_length = 0;

    if (size < 1)
        return 0;
    struct address local = address_of(locals[data[0] & 3]), peer = own;
    for (size_t length = 0; length < size && length < PROXY_HEADER_MAX + 8; length++) {
        size_t header_length = 0;
        peer = own;
        int r = parse((struct span){(const char *)data + 1, length}, &peer, &header_length);
        require(former == PROXY_MORE || r == former);
        require(former != PROXY_COMPLETE || header_length == former_length);
        require(r == PROXY_COMPLETE || address_equal(&peer, &own));
        require(r != PROXY_MORE || length < PROXY_HEADER_MAX);
        require(r != PROXY_COMPLETE || header_length <= length);
        if (r == PROXY_COMPLETE && former == PROXY_MORE)
            require(header_length == length);
        former = r;
        former_length = header_length;
    }
    if (former == PROXY_COMPLETE)
        check_both_ways(&peer, &local);
    return 0;
}
