#pragma once

#include "base/buffer.h"
#include "observe/board.h"

/*
 * What the workers know of their upstreams and servers, on the board. Each worker keeps entries of
 * its own up to date with plain stores; all processes read them.
 */

/* The entries of one worker, while it makes its upstreams. */
struct backends {
    const struct board *board;
    unsigned slot;
    uint32_t count; /* that it asked for */
};

void backends_init(struct backends *backends, const struct board *board, unsigned slot);
/*
 * An entry for that server, or with "" for the upstream itself. It stays the worker's until its
 * slot is released. Never NULL: where @backends is, or has no board, or where no entry is free, it
 * is one that nobody reads. Bytes that are not printable ASCII are written as \xHH.
 */
struct board_backend *backends_add(
    struct backends *backends, const char *upstream, const char *server);

/* How many requests and tunnels wait for that upstream, with those of all workers there are. */
uint64_t backends_waiting(const struct board *board, const char *upstream);

/*
 * What the workers of the current generation know together, written out: as metrics, as a member
 * "upstreams" of an object that has others, as a table. Nothing where there is no upstream. Each
 * appends to @out and returns 0 or -ENOMEM.
 *
 * Workers may disagree, as each learns for itself whether a server answers: a state that all of
 * them see is the server's; else it is "partly" up where it is for one of them, and "down" where it
 * is for none.
 */
int backends_prometheus(const struct board *board, struct buffer *out);
int backends_json(const struct board *board, struct buffer *out);
int backends_text(const struct board *board, struct buffer *out);
