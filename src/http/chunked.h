#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/*
 * Where we are in a chunked body (RFC 9112 §7.1). Plain values, so that a body half read can travel
 * to another process; that is why this is not left to llhttp, whose state is a pointer.
 */
enum chunked_state {
    CHUNKED_SIZE,       /* in the hexadecimal size; before its first digit when digits == 0 */
    CHUNKED_SIZE_SPACE, /* in spaces after the size */
    CHUNKED_EXTENSION,  /* skipping to the CR */
    CHUNKED_SIZE_LF,
    CHUNKED_DATA,
    CHUNKED_DATA_CR,
    CHUNKED_DATA_LF,
    CHUNKED_TRAILER_START, /* at the first byte of a line of the trailer section */
    CHUNKED_TRAILER_NAME,  /* before its colon */
    CHUNKED_TRAILER,       /* behind it */
    CHUNKED_TRAILER_LF,
    CHUNKED_END_LF, /* the CR of the last empty line has been read */
    CHUNKED_DONE,
};

struct chunked {
    enum chunked_state state;
    uint32_t digits;    /* of the current size */
    uint32_t overhead;  /* bytes of extensions and trailers so far, bounded */
    uint64_t remaining; /* of the current chunk's data; the size so far while it is read */
};

#define CHUNKED_OVERHEAD_MAX 16384

/* All zero is the start of a body. */

enum {
    CHUNKED_OK,  /* all @length bytes consumed, or the body is done */
    CHUNKED_BAD, /* malformed: 400, or 502 where a backend sent it; close */
};

/* Bytes of the input, side by side: of the data, or of the trailer section. */
struct chunked_run {
    const char *at; /* NULL: none */
    size_t length;
    bool trailer; /* raw lines with their CR LF; the final empty line is not among them */
};

/*
 * Consumes up to @length bytes; stops after the end of the body. *ret_consumed is how many.
 * *ret_run is at most one run inside them: when the run ends before the input does, call again with
 * the rest (the caller loops until consumed == length or state is CHUNKED_DONE). All runs of a body
 * are, one after the other, its data, and then its trailer section, whose syntax is good when the
 * body is done, and not known before. Line ends are CR LF, nothing else. Extensions are dropped. A
 * size has at most 16 digits. Any values in @chunked are safe: a state that is none is CHUNKED_BAD.
 */
int chunked_read(struct chunked *chunked, const char *bytes, size_t length, size_t *ret_consumed,
    struct chunked_run *ret_run);

/*
 * Appends the line in front of a chunk of @size bytes; CR LF follows the chunk. 0 begins the end of
 * the body: trailer fields and the empty line follow. Returns 0 or -ENOMEM.
 */
int chunked_append_size(struct buffer *out, uint64_t size);
