#pragma once

#include "base/address.h"
#include "base/buffer.h"
#include "base/span.h"

/*
 * The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt, §2.1 and §2.2): what a
 * proxy in front of us says of the client, before the client's first byte, and what we say to a
 * backend.
 */

#define PROXY_HEADER_MAX 536 /* version 2: 16 and at most 520 that follow; version 1: 107 */

enum {
    PROXY_COMPLETE,
    PROXY_MORE, /* all fine so far */
    PROXY_BAD,  /* no header of either version, or one longer than PROXY_HEADER_MAX */
};

/*
 * Reads the header at the start of @bytes; what follows it is not looked at. Called again with the
 * same bytes and more of them until it is complete. On PROXY_COMPLETE *ret_length is what it takes,
 * and *ret_peer the client's address; LOCAL, UNKNOWN and families other than TCP over IPv4 and IPv6
 * leave *ret_peer as it was (the connection's own). TLVs are checked for their lengths and skipped,
 * a checksum among them as well.
 */
int proxy_header_parse(struct span bytes, struct address *ret_peer, size_t *ret_length);

/*
 * Appends the header of @version (1 or 2) for a connection from @peer to @local. Addresses of IPv4
 * that a socket for both families has mapped are said as IPv4; where only one of the two is of
 * IPv4, which a PROXY header of our own client can bring about, it is mapped. Where one is of
 * neither family, it says UNKNOWN (version 1) or LOCAL (version 2). Returns 0 or -ENOMEM.
 */
int proxy_header_write(
    unsigned version, const struct address *peer, const struct address *local, struct buffer *out);
