#pragma once

#include "base/address.h"
#include "base/buffer.h"
#include "http/request.h"
#include "http/response.h"

/*
 * The heads that a gateway sends on (RFC 9110 §7.6, RFC 9112 §3.2 and §6): made anew from what was
 * parsed, never copied as bytes, so that the next parser cannot read them differently from ours.
 *
 * What is left out: Connection and every field it names, Keep-Alive, Proxy-Connection,
 * Transfer-Encoding, Content-Length (made anew), TE, Trailer, Upgrade (made anew where a request
 * asks for it), Proxy-Authenticate, Proxy-Authorization; and, of a request, Expect (made anew) and
 * whatever we set ourselves. A field that Connection names but that no hop-by-hop field can be
 * (Host, Content-Length, Transfer-Encoding, Cache-Control, Authorization, Cookie and the
 * X-Forwarded- and Forwarded fields) is not removed for that: a client could hide from backends
 * what we say about it.
 */

/* What the backend is told of the client beside the client's own fields. */
struct forward_client {
    const struct address *peer; /* AF_UNIX: nothing is known of it */
    struct span scheme;         /* "http" or "https" */
    struct span host;           /* the Host field as the client sent it, or empty */
    bool trusted;               /* its own X-Forwarded-... and Forwarded are kept and added to */
    bool forwarded;             /* Forwarded (RFC 7239) is sent as well */
    struct span host_set;       /* the Host to send in place of the client's; empty: the client's */
    bool close;                 /* Connection: close, where the connection is for this request */
};

/*
 * Appends the head of @request for the backend, HTTP/1.1 whatever the client spoke; a body is framed
 * as the client framed it (the caller sends chunked ones as new chunks). With request->upgrade,
 * Connection: upgrade and Upgrade go along. Adds Via (RFC 9110 §7.6.3), X-Forwarded-For, -Proto and
 * -Host: of an untrusted client they replace what it sent. An absolute-form target becomes
 * origin-form; an HTTP/1.0 request without Host gets host_set, or an empty Host. Returns 0 or
 * -ENOMEM.
 */
int forward_request(
    const struct request *request, const struct forward_client *client, struct buffer *out);

/* How the body of a response goes to the client. */
enum forward_body {
    FORWARD_NO_BODY, /* what is said of a length is kept */
    FORWARD_LENGTH,
    FORWARD_CHUNKED,
    FORWARD_CLOSE, /* to an HTTP/1.0 client */
};

/*
 * Appends the head of @response for a client that spoke HTTP/1.@minor. @close: Connection: close is
 * said; else, to HTTP/1.0, keep-alive. With response->upgrade, Connection: upgrade and Upgrade go
 * along. @date (RFC 9110 §6.6.1) is added where there is none. Returns 0 or -ENOMEM.
 */
int forward_response(const struct response *response, unsigned minor, enum forward_body body,
    bool close, const char *date, struct buffer *out);

/*
 * Appends the fields of a trailer section (lines with their CR LF, already of valid syntax) that may
 * be sent on (RFC 9110 §6.5.1): none that concern framing, routing, or the connection. Without the
 * final empty line. Returns 0 or -ENOMEM.
 */
int forward_trailers(struct span section, struct buffer *out);
