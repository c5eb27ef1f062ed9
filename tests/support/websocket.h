#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/span.h"

/*
 * Frames of a WebSocket (RFC 6455 §5), as either end writes and reads them. No extensions. The
 * handshake of these clients is always the one of RFC 6455 §1.3: what a proxy changed in it shows.
 */
#define WEBSOCKET_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WEBSOCKET_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

#define WEBSOCKET_CONTROL_MAX 125

/* Appends the head of a frame whose payload of @length bytes follows. @mask: NULL on the server's
 * side, else 4 bytes that the payload is masked with. Returns 0 or -ENOMEM. */
int websocket_append_head(struct buffer *out, enum websocket_opcode opcode, bool final,
    uint64_t length, const unsigned char *mask);
/* The same with the payload, which is masked on the way. */
int websocket_append_frame(struct buffer *out, enum websocket_opcode opcode, bool final,
    struct span payload, const unsigned char *mask);

/* Reads frames in whatever pieces they arrive. All zero, but for @masked, is the beginning. */
struct websocket_reader {
    bool masked; /* by the client: each frame must be, else none may be */
    unsigned char head[14];
    size_t head_length;
    bool in_payload, in_message;
    /* The frame being read: */
    enum websocket_opcode opcode;
    bool final;
    unsigned char mask[4];
    uint64_t length, at; /* of its payload */
};

/* The head of a frame has been read. */
#define WEBSOCKET_BEGIN 1
/* *ret_payload is a piece of its payload, unmasked. */
#define WEBSOCKET_PIECE 2
/* The frame is at its end. */
#define WEBSOCKET_END 3
/*
 * Reads *bytes from their start and cuts off what was read. Returns one of the above, 0 (all was
 * read, and the frame needs more), or -EBADMSG (no such frame may come here: @reason says why).
 */
int websocket_read(struct websocket_reader *reader, char **bytes, size_t *length,
    struct span *ret_payload, struct reason *reason);
