#include "connection/reading.h"

#include <stdlib.h>
#include <string.h>

#define BODY_PIECE 4096 /* room for a body even behind the largest head */
#define ROOM_LEAST 1024 /* less is not worth a recv(2) while a former request lies in front */
#define FREE_MAX 64     /* kept for the next burst; more goes back to the allocator */

void reading_pool_init(struct reading_pool *pool, size_t head_size)
{
    *pool = (struct reading_pool){.capacity = head_size + BODY_PIECE};
}

void reading_pool_destroy(struct reading_pool *pool)
{
    while (pool->free) {
        struct reading *reading = pool->free;
        pool->free = reading->next_free;
        free(reading);
    }
}

static struct reading *allocate(struct reading_pool *pool, size_t capacity)
{
    struct reading *reading = pool->free;

    if (reading && capacity == pool->capacity) {
        pool->free = reading->next_free;
        pool->free_count--;
        return reading;
    }
    reading = malloc(sizeof *reading + capacity);
    if (reading)
        reading->capacity = capacity;
    return reading;
}

struct reading *reading_take_with(
    struct reading_pool *pool, const struct head_limits *limits, struct span bytes)
{
    size_t needed = bytes.length + BODY_PIECE;
    struct reading *reading = allocate(pool, needed > pool->capacity ? needed : pool->capacity);

    if (!reading)
        return NULL;
    if (bytes.length > 0)
        memcpy(reading->bytes, bytes.at, bytes.length);
    reading->start = reading->body = 0;
    reading->end = bytes.length;
    head_parser_start(&reading->parser, &reading->request, limits);
    return reading;
}

struct reading *reading_take(struct reading_pool *pool, const struct head_limits *limits)
{
    return reading_take_with(pool, limits, (struct span){NULL, 0});
}

bool reading_resume(struct reading *reading, size_t head_length, size_t body)
{
    static const struct head_limits any = {.size = SIZE_MAX, .fields = REQUEST_FIELDS_MAX};
    unsigned status;
    const char *why;

    head_parser_start(&reading->parser, &reading->request, &any);
    if (reading_parse(reading, &status, &why) != HEAD_COMPLETE ||
        reading->request.head_length != head_length)
        return false;
    reading->body = body;
    return true;
}

void reading_resume_refused(struct reading *reading)
{
    unsigned status;
    const char *why;

    (void)reading_parse(reading, &status, &why);
    reading->request.head_length = 0; /* though the limits may be wider now */
}

void reading_return(struct reading_pool *pool, struct reading *reading)
{
    if (pool->free_count >= FREE_MAX || reading->capacity != pool->capacity) {
        free(reading);
        return;
    }
    reading->next_free = pool->free;
    pool->free = reading;
    pool->free_count++;
}

/*
 * Moves the current request to the front. The parser and the spans mean addresses, so what there is
 * of the head is parsed again; a complete one stays complete.
 */
static void compact(struct reading *reading, const struct head_limits *limits)
{
    size_t head_length = reading->request.head_length;

    memmove(reading->bytes, reading->bytes + reading->start, reading->end - reading->start);
    reading->end -= reading->start;
    reading->body -= head_length > 0 ? reading->start : 0;
    reading->start = 0;
    if (head_length > 0)
        (void)reading_resume(reading, head_length, reading->body); /* as it did the first time */
    else
        head_parser_start(&reading->parser, &reading->request, limits);
}

size_t reading_room(struct reading *reading, const struct head_limits *limits)
{
    if (reading->capacity - reading->end < ROOM_LEAST && reading->start > 0)
        compact(reading, limits);
    return reading->capacity - reading->end;
}

int reading_parse(struct reading *reading, unsigned *ret_status, const char **ret_why)
{
    struct span bytes = {reading->bytes + reading->start, reading->end - reading->start};

    return head_parser_feed(&reading->parser, bytes, ret_status, ret_why);
}

void reading_start_body(struct reading *reading)
{
    reading->body = reading->start + reading->request.head_length;
    reading->body_left = reading->request.content_length;
    reading->body_read = 0;
    reading->chunked = (struct chunked){0};
}

static int skip_length(struct reading *reading)
{
    size_t have = reading->end - reading->body;
    size_t step = have < reading->body_left ? have : (size_t)reading->body_left;

    reading->body += step;
    reading->body_left -= step;
    reading->body_read += step;
    return reading->body_left == 0 ? BODY_COMPLETE : BODY_MORE;
}

static int skip_chunked(struct reading *reading)
{
    while (reading->chunked.state != CHUNKED_DONE && reading->body < reading->end) {
        struct chunked_run run;
        size_t consumed;
        if (chunked_read(&reading->chunked, reading->bytes + reading->body,
                reading->end - reading->body, &consumed, &run) != CHUNKED_OK)
            return BODY_MALFORMED;
        reading->body += consumed;
        reading->body_read += run.trailer ? 0 : run.length;
    }
    return reading->chunked.state == CHUNKED_DONE ? BODY_COMPLETE : BODY_MORE;
}

int reading_skip_body(struct reading *reading)
{
    int r =
        reading->request.framing == FRAMING_CHUNKED ? skip_chunked(reading) : skip_length(reading);

    if (r == BODY_MORE) /* all there is was body: its room is free again */
        reading->end = reading->body = reading->start + reading->request.head_length;
    return r;
}

bool reading_has_whole(const struct reading *reading)
{
    /* Fewer bytes could be an empty line behind the end of this request's head. */
    return reading->end - reading->body >= 4 &&
           memcmp(reading->bytes + reading->end - 4, "\r\n\r\n", 4) == 0;
}

bool reading_next(struct reading *reading, const struct head_limits *limits)
{
    reading->start = reading->body;
    if (reading->start == reading->end)
        return false;
    head_parser_start(&reading->parser, &reading->request, limits);
    return true;
}
