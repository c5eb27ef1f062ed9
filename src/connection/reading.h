#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/chunked.h"
#include "http/request.h"

/*
 * What a connection holds while a request is being received or answered: the bytes, the parser and
 * the parsed head, whose spans point into the bytes. An idle connection has none. Kept in a pool,
 * because at any moment few of a worker's connections need one.
 *
 *     bytes: | of requests before | head of the current one | body, then further requests | room |
 *            0                  start                  start + head_length      end      capacity
 */
struct reading {
    struct reading *next_free;
    struct head_parser parser;
    struct request request;
    struct chunked chunked;
    uint64_t body_left; /* of a body by Content-Length */
    uint64_t body_read; /* so far, without the chunked coding */
    size_t start, end, capacity;
    size_t
        body; /* where the part of the body begins that was not looked at; start of what follows */
    double began; /* ev_now() when the head was complete */
    char bytes[];
};

struct reading_pool {
    struct reading *free;
    size_t free_count, capacity;
};

/* Each reading has room for a head of @head_size bytes and a piece of body. */
void reading_pool_init(struct reading_pool *pool, size_t head_size);
void reading_pool_destroy(struct reading_pool *pool);

/* An empty one. NULL when memory ran out. */
struct reading *reading_take(struct reading_pool *pool, const struct head_limits *limits);
/* The same with @bytes in it already, of which it may hold more than others (limits were larger).
 */
struct reading *reading_take_with(
    struct reading_pool *pool, const struct head_limits *limits, struct span bytes);
/*
 * The bytes begin with a complete head of @head_length, which is parsed again, whatever the limits
 * are now; what follows the part of the body that was read begins at @body. False: they do not.
 */
bool reading_resume(struct reading *reading, size_t head_length, size_t body);
/* The bytes are of a head that was refused: what can be read of it is for the access log alone. */
void reading_resume_refused(struct reading *reading);
void reading_return(struct reading_pool *pool, struct reading *reading);

/* Room behind the end, after moving the current request to the front when there is little. */
size_t reading_room(struct reading *reading, const struct head_limits *limits);
/* Parses what is new of the current head; as head_parser_feed(). */
int reading_parse(struct reading *reading, unsigned *ret_status, const char **ret_why);
/* Sets out to read the body that the parsed head announces. */
void reading_start_body(struct reading *reading);

enum {
    BODY_COMPLETE,
    BODY_MORE,
    BODY_MALFORMED,
};
/* Consumes and drops what there is of the body. Returns one of the above. */
int reading_skip_body(struct reading *reading);
/*
 * Whether more requests lie behind this one, and the last byte there is ends a head, or is of a
 * body: then each of them is answered without waiting for bytes, other than a body's.
 */
bool reading_has_whole(const struct reading *reading);
/* Goes on to the next request. Returns whether there are bytes of one. */
bool reading_next(struct reading *reading, const struct head_limits *limits);
