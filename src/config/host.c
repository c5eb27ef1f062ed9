#include "config/host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static bool is_label_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

bool host_is_name(struct span host)
{
    if (host.length > 253)
        return false;
    while (host.at) {
        struct span label = span_cut(&host, '.');
        if (label.length == 0 || label.length > 63)
            return false;
        for (size_t i = 0; i < label.length; i++)
            if (!is_label_character(label.at[i]))
                return false;
    }
    return true;
}

static bool is_address(int family, struct span text)
{
    char string[INET6_ADDRSTRLEN] = "";
    struct in6_addr address; /* the larger one */

    if (text.length >= sizeof string)
        return false;
    memcpy(string, text.at, text.length);
    return inet_pton(family, string, &address) == 1;
}

bool host_is_ipv4(struct span host)
{
    return is_address(AF_INET, host);
}

bool host_is_ipv6(struct span host)
{
    return host.length > 2 && host.at[0] == '[' && host.at[host.length - 1] == ']' &&
           is_address(AF_INET6, (struct span){host.at + 1, host.length - 2});
}

void host_split(struct span text, struct span *ret_host, struct span *ret_port)
{
    const char *colon = memrchr(text.at, ':', text.length);

    *ret_host = text;
    *ret_port = (struct span){0};
    if (!colon || text.at[text.length - 1] == ']')
        return;
    ret_host->length = (size_t)(colon - text.at);
    *ret_port = (struct span){colon + 1, text.length - ret_host->length - 1};
}

int host_parse_port(struct span text, uint16_t *ret, struct reason *reason)
{
    uint64_t port;

    if (span_to_u64(text, &port) < 0 || port == 0 || port > UINT16_MAX)
        return reason_set(
            reason, -EINVAL, "'%.*s' is not a port (1 to 65535)", (int)text.length, text.at);
    *ret = (uint16_t)port;
    return 0;
}
