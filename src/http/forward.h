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
 * Transfer-Encoding and Content-Length (made anew), TE (made anew where it says that trailers are
 * welcome), Trailer where no chunked body follows, Upgrade (made anew), HTTP2-Settings,
 * Proxy-Authenticate, Proxy-Authentication-Info, Proxy-Authorization; and, of a request, Host and
 * Expect (made anew), Proxy (CVE-2016-5385), and whatever a CGI would take for one of the fields
 * treated here, such as X_Forwarded_For. A field that Connection names but that no hop-by-hop field
 * can be (those above that are made anew, Cache-Control, Authorization, Cookie, X-Forwarded-... and
 * others: FIELD_END_TO_END in field_kind.c) is not removed for that: a client could hide from
 * backends what is said about it.
 */

/* What the backend is told of the client beside the client's own fields. */
struct forward_client {
    const struct address *peer; /* AF_UNIX: nothing is known of it */
    struct span scheme;         /* "http" or "https" */
    bool trusted;               /* its own X-Forwarded-... and Forwarded are kept and added to */
    bool forwarded;             /* Forwarded (RFC 7239) is sent as well */
    struct span host_set;       /* the Host to send in place of the client's; empty: the client's */
    bool close;                 /* Connection: close, where the connection is for this request */
};

/*
 * Whether the backend is asked to change protocols: request->upgrade to one that we can be a tunnel
 * for. Not CONNECT, and not h2c: requests in a tunnel would pass by all our rules. A 101 to a
 * request for which this is false must not be believed.
 */
bool forward_upgrades(const struct request *request);

/*
 * Appends the head of @request for the backend, HTTP/1.1 whatever the client spoke; a body is
 * framed as the client framed it (the caller sends chunked ones as new chunks). Where
 * forward_upgrades(), Connection: upgrade and Upgrade go along, and close is not said.
 *
 * Host is the authority of an absolute-form target, which becomes origin-form, else the client's
 * Host (RFC 9112 §3.2.2), or host_set; an HTTP/1.0 request may have none, and an empty one is sent.
 *
 * Adds Via (RFC 9110 §7.6.3), X-Forwarded-For, -Proto and -Host. Of an untrusted client they, and
 * Forwarded where it is sent, replace all X-Forwarded-..., Forwarded and X-Real-IP that it sent. Of
 * a trusted one X-Forwarded-For is one field with its addresses and then its own, -Proto and -Host
 * are added where it sent none, and a Forwarded that it sent is added to in any case.
 *
 * Returns 0, -ENOMEM, or -EINVAL for CONNECT, which asks for a tunnel (RFC 9110 §9.3.6); @out is as
 * it was then.
 */
int forward_request(
    const struct request *request, const struct forward_client *client, struct buffer *out);

/* How the body of a response goes to the client. */
enum forward_body {
    FORWARD_NO_BODY, /* what is said of a length is kept, but for 1xx and 204 (RFC 9110 §8.6) */
    FORWARD_LENGTH,
    FORWARD_CHUNKED,
    FORWARD_CLOSE, /* to an HTTP/1.0 client; @close is meant */
};

/*
 * Appends the head of @response for a client that spoke HTTP/1.@minor. @close: Connection: close is
 * said; else, to HTTP/1.0, keep-alive. With response->upgrade, and with 426 (RFC 9110 §15.5.22),
 * Connection: upgrade and Upgrade go along. @date (RFC 9110 §6.6.1) is added where there is none.
 * An interim response (1xx) says nothing of the connection, unless it upgrades, and gets no date.
 * Returns 0 or -ENOMEM with @out as it was.
 */
int forward_response(const struct response *response, unsigned minor, enum forward_body body,
    bool close, const char *date, struct buffer *out);

/*
 * Appends the fields of a trailer section (whole lines with their CR LF, of valid syntax, as
 * chunked_read() gives them) that may be sent on (RFC 9110 §6.5.1): none that concern framing,
 * routing, the client, or the connection, nor other fields that only a header section may hold.
 * Without the final empty line. Returns 0 or -ENOMEM with @out as it was.
 */
int forward_trailers(struct span section, struct buffer *out);
