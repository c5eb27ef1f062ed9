#pragma once

#include "base/span.h"

/*
 * uri-host [ ":" port ], as in a Host field and in a request target (RFC 9110 §7.2, RFC 3986 §3.2).
 */
struct authority {
    struct span
        host; /* a name, an IPv4 address, or an IPv6 address in its brackets; may be empty */
    struct span port; /* digits; at = NULL where there is no colon */
};

/*
 * Reads and checks all of @text. Userinfo is refused (RFC 9110 §4.2.4), and so is a port over 65535
 * and a form of address newer than IPv6. Returns 0 or -EINVAL.
 */
int authority_parse(struct span text, struct authority *ret);
