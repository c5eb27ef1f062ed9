#pragma once

#include <llhttp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "http/fields.h"

/*
 * The head of a request (RFC 9112 §2 to §5), parsed in place: all spans point into the buffer that
 * was parsed. llhttp does the reading, strictly; what it lets through and two parsers could read
 * differently is refused here: obs-fold, a space before the colon, HTTP/0.9, bare CR or LF, several
 * or differing Content-Length, Transfer-Encoding with Content-Length or in HTTP/1.0 or other than
 * "chunked", a missing, repeated or malformed Host.
 */

#define REQUEST_FIELDS_MAX 256 /* the most that MaxFields= can allow */

enum method {
    METHOD_OTHER,
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHOD_CONNECT,
    METHOD_TRACE,
    METHOD_PATCH,
};

enum framing {
    FRAMING_NONE,    /* no body */
    FRAMING_LENGTH,  /* request->content_length bytes */
    FRAMING_CHUNKED, /* RFC 9112 §7.1 */
};

struct request {
    enum method method;
    struct span method_text;
    struct span target; /* as sent, for the log */
    struct span path;   /* raw: still percent-encoded, begins with '/', or is "*"; CONNECT: empty */
    struct span query;  /* raw, without '?'; at = NULL where there is none */
    struct span host;   /* without port, IPv6 in brackets; empty in HTTP/1.0 without Host */
    unsigned minor;     /* of HTTP/1.x: 0 or 1; a later one is served as 1 (RFC 9110 §2.5) */
    bool keep_alive;    /* RFC 9112 §9.3: what the client asked for */
    bool expect_continue; /* waits for a 100 before it sends its body (RFC 9110 §10.1.1) */
    bool upgrade;         /* Connection: upgrade with an Upgrade field, or CONNECT */
    enum framing framing;
    uint64_t content_length;
    size_t field_count;
    struct field fields[REQUEST_FIELDS_MAX];
    size_t head_length; /* bytes of the buffer that the head took; 0: not complete, or refused */
};

/* The value of the first field of that name (lower case); at = NULL where there is none. */
struct span request_field(const struct request *request, const char *name);
/* How many fields of that name there are. */
size_t request_field_count(const struct request *request, const char *name);

/* OPTIONS and TRACE, whose way Max-Forwards cuts short (RFC 9110 §7.6.2), and whether it does here.
 */
bool request_is_traced(const struct request *request);
bool request_ends_here(const struct request *request);

/* As fields_list_next(). */
bool request_list_next(const struct request *request, struct list_walk *walk, struct span *ret);

struct head_limits {
    size_t size;   /* bytes of the whole head */
    size_t fields; /* at most REQUEST_FIELDS_MAX */
};

/*
 * Reads one head, in as many pieces as it arrives in. The parser, the request and the buffer must
 * stay where they are between calls; to move, throw the parser away and parse the same bytes anew.
 */
struct head_parser {
    llhttp_t llhttp;
    struct request *request;
    const struct head_limits *limits;
    struct field field; /* the one being read */
    size_t parsed;      /* bytes llhttp has seen */
    unsigned refused;   /* the status of a refusal, and its reason */
    const char *why;
};

enum {
    HEAD_COMPLETE,
    HEAD_MORE,    /* all fine so far */
    HEAD_REFUSED, /* *ret_status says how to answer: 400, 414, 417, 431, 501 or 505; then close */
};

void head_parser_start(
    struct head_parser *parser, struct request *request, const struct head_limits *limits);
/*
 * Parses what is new in @bytes, which always begins at the first byte of the head (the same address
 * in every call) and grows; bytes after the head are not looked at. One empty line before the
 * request line is skipped (RFC 9112 §2.2) and counts as part of the head. Returns one of the above,
 * never a negative errno. On HEAD_REFUSED *ret_why is a literal for the log. A head that is over
 * limits->size, complete or not, is refused: 414 while still in the request line, else 431.
 */
int head_parser_feed(
    struct head_parser *parser, struct span bytes, unsigned *ret_status, const char **ret_why);
