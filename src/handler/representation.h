#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>

#include "base/span.h"
#include "connection/answer.h"

#define REPRESENTATION_ETAG_MAX 96 /* four hexadecimal numbers and a coding */

/* RFC 9110 §8.8. */
struct validators {
    time_t modified;
    char etag[REPRESENTATION_ETAG_MAX];
};

/*
 * The selected representation (RFC 9110 §3.2): an open file and what is said about it. Answers GET
 * and HEAD with it: whole, in ranges, or not at all where the client has it already.
 *
 * The entity tag is strong: modification time in nanoseconds and size, the name of the coding if
 * there is one, and where the time is a whole second, the inode number too. A time with nanoseconds
 * is one that the kernel took at a write (or a faithful copy of it), so that two contents do not
 * share it, and the tag is the same on every machine that the file was copied to with its times: a
 * client that a balancer sends elsewhere still gets its 304. A whole second was set by a tool or
 * kept by a coarse file system, and tools set the same one for different contents
 * (SOURCE_DATE_EPOCH, the epoch itself in image stores); then only the inode number tells a file
 * from the one that was renamed over it, and a machine of other inodes answers 200 where 304 would
 * have done, never with a range of something else.
 */
struct representation {
    int fd;    /* owned; -1: none */
    bool lent; /* not owned: good until the answer is sent */
    struct stat stat;
    const char *media_type;
    const char *coding;        /* Content-Encoding; NULL: none */
    const char *cache_control; /* NULL: no such field */
    bool negotiated;           /* another client may get another one: Vary (RFC 9110 §12.5.5) */
    /* The fields of a 200, if they were made before: then the validators are there as well. */
    struct span fields;
    struct validators validators;
    struct span content; /* the file's bytes, where they are in memory: no fd is needed then */
};

void representation_close(struct representation *representation);
#define CLEANUP_REPRESENTATION __attribute__((cleanup(representation_close)))

/* As many as fit in an answer: a head and a piece of the file each, and the end. */
#define REPRESENTATION_RANGES_MAX 64

/*
 * Answers @request, a GET or HEAD, at @now with 200, 206 or 304. @answer is empty, and takes the
 * file. A request for more than @max_ranges ranges (of at most REPRESENTATION_RANGES_MAX), or for
 * more bytes than the whole has, gets the whole. Returns 0; 412 or 416, which the caller answers;
 * or -errno.
 */
int representation_answer(struct representation *representation, const struct request *request,
    size_t max_ranges, time_t now, struct answer *answer);
