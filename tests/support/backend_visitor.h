#pragma once

#include <ev.h>
#include <stdbool.h>

#include "backend_stream.h"
#include "base/buffer.h"
#include "http/chunked.h"
#include "http/request.h"
#include "websocket.h"

/*
 * A connection to the backend. What it answers is documented in backend.c.
 */

enum visitor_state {
    VISITOR_HEAD,
    VISITOR_BODY,
    VISITOR_STREAM, /* an answer that is made piece by piece */
    VISITOR_WEBSOCKET,
    VISITOR_RAW,
    VISITOR_CLOSING, /* the last bytes are sent, and then it is closed */
};

struct visitor {
    struct ev_loop *loop;
    ev_io io;
    ev_timer timer;
    enum visitor_state state;
    struct buffer in, out;
    size_t sent; /* of what is in out */
    bool close;  /* after this answer */
    /* The body, as far as it has come: */
    enum framing framing;
    uint64_t left, length, hash;
    struct chunked chunked;
    struct stream stream;
    struct websocket_reader reader;
    struct buffer control; /* payload of a control frame */
};

/* Takes the socket, nonblocking. @raw: no HTTP. It frees itself when its connection ends. */
void visitor_receive(struct ev_loop *loop, int fd, bool raw);
