#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/span.h"

/*
 * Hosts as a configuration names them: a name, an IPv4 address, an IPv6 address in brackets.
 */

/* RFC 1123 §2.1 and RFC 1035 §2.3.4, with the underscore, which is in use all the same. */
bool host_is_name(struct span host);
bool host_is_ipv4(struct span host);
/* As it stands in a Host field: in brackets (RFC 3986 §3.2.2). */
bool host_is_ipv6(struct span host);
/*
 * Cuts ":PORT" off "HOST:PORT" and "[IPV6]:PORT". Without a colon, *ret_port is left with at =
 * NULL.
 */
void host_split(struct span text, struct span *ret_host, struct span *ret_port);
/* 1 to 65535. Returns 0, or -EINVAL with the reason. */
int host_parse_port(struct span text, uint16_t *ret, struct reason *reason);
