#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
    CHUNKED_BAD, /* malformed: 400 and close */
};

/*
 * Consumes up to @length bytes; stops after the end of the body. *ret_consumed is how many.
 * *ret_data and *ret_data_length give at most one run of data inside them: when the run ends before
 * the input does, call again with the rest (the caller loops until consumed == length or state is
 * CHUNKED_DONE). Line ends are CR LF, nothing else. Trailer fields are checked and dropped. A size
 * has at most 16 digits. Any values in @chunked are safe: a state that is none is CHUNKED_BAD.
 */
int chunked_read(struct chunked *chunked, const char *bytes, size_t length, size_t *ret_consumed,
    const char **ret_data, size_t *ret_data_length);
