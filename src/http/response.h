#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "http/request.h"

/*
 * The head of a response (RFC 9112 §2 to §6), as a backend sends it, parsed in place: all spans
 * point into the buffer that was parsed. llhttp does the reading, strictly; what it lets through
 * and two parsers could read differently is refused here, as in request.h.
 */

enum response_framing {
    RESPONSE_NO_BODY, /* HEAD, 1xx, 204, 304 */
    RESPONSE_LENGTH,  /* response->content_length bytes */
    RESPONSE_CHUNKED, /* RFC 9112 §7.1 */
    RESPONSE_CLOSE,   /* until the backend closes */
};

struct response {
    unsigned status;    /* 100 to 599 */
    unsigned minor;     /* of HTTP/1.x: 0 or 1 */
    struct span reason; /* may be empty */
    bool keep_alive;    /* RFC 9112 §9.3; false with RESPONSE_CLOSE */
    bool upgrade;       /* 101 with Connection: upgrade and an Upgrade field */
    enum response_framing framing;
    bool has_length;         /* a Content-Length was there: of the body a GET would get, too */
    uint64_t content_length; /* with RESPONSE_LENGTH, or has_length */
    size_t field_count;
    struct field fields[REQUEST_FIELDS_MAX];
    size_t head_length; /* bytes of the buffer that the head took */
};

struct span response_field(const struct response *response, const char *name);

enum {
    RESPONSE_COMPLETE,
    RESPONSE_MORE, /* all fine so far */
    RESPONSE_BAD,  /* no response, or an ambiguous one: 502 */
};

/*
 * Reads the head that begins at the first byte of @bytes; what follows it is not looked at. Called
 * again with the same bytes and more of them until it is complete: it keeps nothing in between.
 * @head_request: it answers a HEAD, and has no body whatever it says. A head over limits->size is
 * bad. On RESPONSE_BAD *ret_why is a literal for the log.
 */
int response_parse(struct span bytes, bool head_request, const struct head_limits *limits,
    struct response *ret, const char **ret_why);
