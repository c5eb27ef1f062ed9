#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/span.h"

/*
 * One answer as it arrives: RFC 9112, read strictly. What a lenient client would mend (a bare LF,
 * folded lines, a space before the colon, Content-Length beside Transfer-Encoding) is malformed
 * here. Interim answers (1xx) are skipped. No fd and no loop: bytes in, content out.
 */
enum answer_state {
    ANSWER_STATUS_LINE,
    ANSWER_FIELDS,
    ANSWER_SIZED, /* content of Content-Length bytes */
    ANSWER_UNTIL_CLOSE,
    ANSWER_CHUNK_SIZE,
    ANSWER_CHUNK_CONTENT,
    ANSWER_CHUNK_END,
    ANSWER_TRAILERS,
    ANSWER_WHOLE,
};

struct answer {
    enum answer_state state;
    bool to_head;                       /* answers a HEAD request: never has content */
    bool to_upgrade;                    /* ... or the handshake of websocket.h: 101 ends it */
    bool http10, says_close, says_keep; /* the version and the Connection field */
    bool has_length, chunked;
    bool says_upgrade, is_websocket, is_accepted; /* of the handshake, RFC 6455 §4.1 */
    unsigned status;
    uint64_t length;    /* Content-Length, if has_length */
    uint64_t left;      /* bytes still to come of the content or of the chunk */
    uint64_t bytes;     /* read of this answer so far, interim answers included */
    size_t section;     /* bytes of the head or of the trailers so far: they are limited */
    struct buffer line; /* the beginning of a line whose end has not arrived */
};

/* Begins the next answer; the first time on a struct that is all zero. */
void answer_begin(struct answer *answer, bool to_head);
void answer_clear(struct answer *answer);

/* answer_feed() came upon content: *ret_content. There may be more: call it again. */
#define ANSWER_CONTENT 1
/* The answer is whole; what is left of the bytes does not belong to it. */
#define ANSWER_COMPLETE 2
/*
 * Reads *rest from its start and cuts off what was read. Returns 0 (all read, and the answer needs
 * more), ANSWER_CONTENT, ANSWER_COMPLETE, -EBADMSG (malformed: @reason says how) or -ENOMEM.
 */
int answer_feed(
    struct answer *answer, struct span *rest, struct span *ret_content, struct reason *reason);

/* The connection has ended in an orderly way: whether that makes the answer whole (RFC 9112 §6.3
 * item 8). */
bool answer_ends_by_close(const struct answer *answer);
/* Whether a whole answer announced the end of its connection (RFC 9112 §9.3). */
bool answer_is_last(const struct answer *answer);
