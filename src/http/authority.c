#include "http/authority.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "http/syntax.h"

static bool is_port(struct span port)
{
    uint64_t number;

    return port.length == 0 || (span_to_u64(port, &number) == 0 && number <= 65535);
}

/* @literal is what stands between the brackets. */
static bool is_ipv6(struct span literal)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (literal.length >= sizeof text || memchr(literal.at, '\0', literal.length))
        return false;
    memcpy(text, literal.at, literal.length);
    text[literal.length] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

/* reg-name, of which an IPv4 address is one kind: RFC 3986 §3.2.2. */
static bool is_name(struct span name)
{
    for (size_t i = 0; i < name.length; i++) {
        if (name.at[i] == '%') {
            if (name.length - i < 3 || syntax_hexadecimal(name.at[i + 1]) < 0 ||
                syntax_hexadecimal(name.at[i + 2]) < 0)
                return false;
            i += 2;
        } else if (!syntax_is(name.at[i], SYNTAX_REG_NAME)) {
            return false;
        }
    }
    return true;
}

int authority_parse(struct span text, struct authority *ret)
{
    struct authority authority = {.host = text};
    size_t host_length;

    if (text.length > 0 && text.at[0] == '[') {
        const char *end = memchr(text.at, ']', text.length);
        if (!end || !is_ipv6((struct span){text.at + 1, (size_t)(end - text.at) - 1}))
            return -EINVAL;
        host_length = (size_t)(end - text.at) + 1;
    } else {
        const char *colon = text.length > 0 ? memchr(text.at, ':', text.length) : NULL;
        host_length = colon ? (size_t)(colon - text.at) : text.length;
        if (!is_name((struct span){text.at, host_length}))
            return -EINVAL;
    }
    authority.host.length = host_length;
    if (host_length < text.length) {
        authority.port = (struct span){text.at + host_length + 1, text.length - host_length - 1};
        if (text.at[host_length] != ':' || host_length == 0 || !is_port(authority.port))
            return -EINVAL;
    }
    *ret = authority;
    return 0;
}
