#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/span.h"
#include "load_quantity.h"
#include "websocket.h"

/*
 * What a client says through a tunnel to a server that sends everything back, and what comes: one
 * message after the other, as bytes, or as messages of a WebSocket: text and binary, some in
 * several frames, some with a ping in between. No fd and no loop.
 */

/* Where messages are cut from; the same for all clients of a group. */
struct phrases {
    struct range size;          /* of a message, in bytes */
    struct buffer binary, text; /* text: of characters of 1, 2 and 4 bytes, in groups of 4 bytes */
};

/* Returns 0 or -ENOMEM. */
int phrases_init(struct phrases *phrases, struct range size);
void phrases_clear(struct phrases *phrases);

/* All zero, but for @websocket, is the beginning. */
struct tunnel {
    bool websocket;
    struct buffer out;          /* what is to be sent... */
    size_t sent;                /* ... and was */
    struct span expected;       /* the message that must come back */
    size_t received;            /* of it */
    enum websocket_opcode kind; /* TEXT or BINARY */
    bool awaits_echo, awaits_pong, closed;
    unsigned char ping[4]; /* what the pong must say */
    struct websocket_reader reader;
    size_t control_length;
    char control[WEBSOCKET_CONTROL_MAX]; /* payload of the control frame being read */
};

/* Begins the next message. Returns 0 or -ENOMEM. */
int tunnel_say(struct tunnel *tunnel, const struct phrases *phrases, uint64_t *random);
/* The end: a Close frame, which is answered by another one (RFC 6455 §5.5.1). As above. */
int tunnel_say_close(struct tunnel *tunnel);

/* The message has come back, and what else was asked for. */
#define TUNNEL_ECHOED 1
/* The server has said Close. */
#define TUNNEL_CLOSED 2
/*
 * Reads what arrived (and changes it). A ping is answered: the pong is in @out then. Returns 0 or
 * one of the above, or, with the reason, -EILSEQ (the message that came back is not the one that
 * was sent), -EBADMSG (what came is none), or -ENOMEM.
 */
int tunnel_feed(struct tunnel *tunnel, char *bytes, size_t length, struct reason *reason);
/* What is left to be sent. */
static inline struct span tunnel_unsent(const struct tunnel *tunnel)
{
    return (struct span){tunnel->out.bytes + tunnel->sent, tunnel->out.length - tunnel->sent};
}
/* So many bytes of it were. */
void tunnel_note_sent(struct tunnel *tunnel, size_t length);
/* For the next connection. */
void tunnel_reset(struct tunnel *tunnel);
