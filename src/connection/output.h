#pragma once

#include "connection/answer.h"

/*
 * What is still to be sent on a connection: parts of memory and of one file, in order. Made as a
 * view over an answer, which costs nothing; what the socket does not take at once is kept, in one
 * block.
 */
struct output {
    struct part *parts; /* parts[0] is what goes out next */
    size_t count;
    const char *bytes; /* the memory that PART_BYTES parts lie in */
    size_t size;       /* of that memory; of a kept output alone */
    int file;          /* -1: none */
    bool lent;         /* the file is not the answer's own: output_keep() makes another fd of it */
};

enum {
    OUTPUT_DONE,
    OUTPUT_BLOCKED, /* the socket is full: wait until it is writable */
    OUTPUT_YIELD,   /* the socket takes more, but others want their turn: wait likewise */
    OUTPUT_SHRANK,  /* the file is shorter than was promised: the answer cannot be completed */
};

/*
 * Sends what the nonblocking socket @fd takes; *sent grows by the bytes that went out. Returns one
 * of the above, or -errno of the socket (EPIPE, ECONNRESET, ...) or of the file (EIO).
 */
int output_send(struct output *output, int fd, uint64_t *sent);

/*
 * An owned copy of what a view has left, with only the memory that is still unsent; the file goes
 * over to it (view->file becomes -1). NULL when memory, or fds, ran out: then nothing has changed.
 */
struct output *output_keep(struct output *view);
/* Closes the file and frees. NULL is allowed. Only for what output_keep() returned. */
void output_free(struct output *output);

/* The memory of a kept output that its parts lie in. */
struct span output_memory(const struct output *output);
