#include "config/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The bytes of the address, and how many bits they are. */
static unsigned char *address_bytes(struct address *address, unsigned *ret_bits)
{
    if (address->any.sa_family == AF_INET) {
        *ret_bits = 32;
        return (unsigned char *)&address->ipv4.sin_addr;
    }
    *ret_bits = 128;
    return address->ipv6.sin6_addr.s6_addr;
}

static bool parse_address(struct span text, struct address *ret)
{
    char string[INET6_ADDRSTRLEN] = "";
    struct in6_addr ipv6;
    struct in_addr ipv4;

    if (text.length >= sizeof string)
        return false;
    memcpy(string, text.at, text.length);
    if (inet_pton(AF_INET, string, &ipv4) == 1) {
        *ret = (struct address){
            .ipv4 = {.sin_family = AF_INET, .sin_addr = ipv4}, .length = sizeof ret->ipv4};
        return true;
    }
    *ret = (struct address){.ipv6 = {.sin6_family = AF_INET6}, .length = sizeof ret->ipv6};
    if (inet_pton(AF_INET6, string, &ipv6) != 1)
        return false;
    ret->ipv6.sin6_addr = ipv6;
    return true;
}

/* Clears what is behind the first @bits. Returns whether anything was set there. */
static bool clear_host_bits(unsigned char *bytes, unsigned bits, unsigned all)
{
    bool any = false;

    for (unsigned i = bits; i < all; i++) {
        unsigned char bit = (unsigned char)(0x80 >> i % 8);
        any = any || (bytes[i / 8] & bit);
        bytes[i / 8] &= (unsigned char)~bit;
    }
    return any;
}

static int parse_bits(
    struct span text, unsigned most, struct config_network *network, struct reason *reason)
{
    uint64_t bits;

    if (span_to_u64(text, &bits) < 0 || bits > most)
        return reason_set(reason, -EINVAL, "'/%.*s' is not a prefix length (0 to %u)",
            (int)text.length, text.at, most);
    network->bits = (unsigned)bits;
    return 0;
}

int network_parse(struct span text, struct config_network *ret, struct reason *reason)
{
    struct span prefix = text, address = span_cut(&prefix, '/');
    struct config_network network = {0};
    char right[INET6_ADDRSTRLEN];
    unsigned most;

    if (span_equal(text, SPAN("unix"))) {
        *ret = (struct config_network){
            .address = {.any = {.sa_family = AF_UNIX}, .length = sizeof(sa_family_t)}};
        return 0;
    }
    if (!parse_address(address, &network.address))
        return reason_set(reason, -EINVAL,
            "'%.*s' is neither an IP address, nor a network such as 10.0.0.0/8, nor unix",
            (int)text.length, text.at);
    unsigned char *bytes = address_bytes(&network.address, &most);
    network.bits = most;
    int r = prefix.at ? parse_bits(prefix, most, &network, reason) : 0;
    if (r < 0)
        return r;
    if (clear_host_bits(bytes, network.bits, most))
        return reason_set(reason, -EINVAL,
            "'%.*s' has bits set behind the first %u; the network is %s/%u", (int)text.length,
            text.at, network.bits,
            inet_ntop(network.address.any.sa_family, bytes, right, sizeof right), network.bits);
    *ret = network;
    return 0;
}
