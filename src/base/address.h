#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/error.h"

/*
 * A stream socket's address: IPv4, IPv6 or AF_UNIX (a path, or an abstract name).
 */
struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
        struct sockaddr_un local;
    };
    socklen_t length;
};

/* Long enough for every address_format(): "unix:" and 108 bytes, each perhaps escaped. */
#define ADDRESS_TEXT_MAX 512

/*
 * Reads "192.0.2.1:80", "[2001:db8::1]:80", "80" (all addresses, both families: [::]:80),
 * "unix:/run/x.sock" or "unix:@abstract". Names are not looked up. Returns 0, or -EINVAL with the
 * reason.
 */
int address_parse(const char *text, struct address *ret, struct reason *reason);
/* The same notation back, into @text, which holds ADDRESS_TEXT_MAX bytes. Returns @text. */
const char *address_format(const struct address *address, char *text);
/* Only the host: "192.0.2.1", "2001:db8::1", "unix:" for any AF_UNIX peer. As address_format(). */
const char *address_format_host(const struct address *address, char *text);
/* An IPv4 client of a socket for both families (RFC 4291 §2.5.5.2) as one of IPv4. */
struct address address_unmapped(const struct address *address);
bool address_equal(const struct address *a, const struct address *b);
/* getsockname(2). Returns 0 or -errno. */
int address_of_socket(int fd, struct address *ret);
