#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "http/request.h"

/*
 * What a handler says to a request: a status, header fields, and a body made of pieces of memory
 * and pieces of one open file. A worker has one answer, used again for every request, so that no
 * request allocates; the connection writes what the socket takes at once and copies only the rest.
 *
 * The connection adds Date, Connection and Content-Length, leaves the body out where RFC 9110 has
 * none (HEAD, 204, 304), and owns the file from answer_file() on.
 */

#define ANSWER_PARTS_MAX                                                                           \
    132 /* head or separator and file part for each of 64 ranges, and the end */

enum part_kind {
    PART_BYTES, /* offset and length within answer->bytes */
    PART_FILE,  /* offset and length within the file */
};

struct part {
    enum part_kind kind;
    uint64_t offset, length;
};

struct answer {
    unsigned status;
    struct buffer fields; /* "Name: value\r\n" each */
    struct buffer bytes;  /* the memory that PART_BYTES parts lie in */
    struct part parts[ANSWER_PARTS_MAX];
    size_t part_count;
    int file;    /* -1: none; owned */
    bool lent;   /* the file is not owned */
    bool failed; /* a part or field did not fit: the connection answers 500 instead */
};

void answer_init(struct answer *answer);
/* Ready for the next request: closes the file, keeps the memory (up to a bound). */
void answer_reset(struct answer *answer);
void answer_destroy(struct answer *answer);

/* The five below note a failure (no memory, too many parts) in answer->failed. */

/* @name is a literal; the value must hold no CR, LF or NUL: such a field makes the answer failed.
 */
void answer_field(struct answer *answer, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Field lines that were made by answer_field() before, as they are. */
void answer_fields(struct answer *answer, struct span lines);
void answer_bytes(struct answer *answer, struct span bytes);
/* The file the following answer_file_part() calls mean; a former one is closed. */
void answer_file(struct answer *answer, int fd);
/* The same, but @fd stays the caller's, who keeps it open until the answer is sent, or kept. */
void answer_lend_file(struct answer *answer, int fd);
void answer_file_part(struct answer *answer, uint64_t offset, uint64_t length);

/* The sum of all parts: what Content-Length says. */
uint64_t answer_length(const struct answer *answer);

/* A short plain text page: "404 Not Found\n". Forgets what was there before, but keeps no fields.
 */
void answer_text(struct answer *answer, unsigned status);

/*
 * A handler: who answers a request.
 *
 * It answers itself, with answer(), which is called once the request is here with its body, and
 * must fill @answer before it returns. Or, with a gateway, a backend does: compose() is called for
 * each attempt, and fail() where there was none that worked. The request is valid during a call.
 */
struct gateway;
struct handler {
    void (*answer)(struct handler *handler, const struct request *request, struct answer *answer);
    struct gateway *gateway; /* NULL: it answers itself */
    /* Appends the head that @request, of a client at @peer, has for a backend. Returns 0 or -errno.
     */
    int (*compose)(struct handler *handler, const struct request *request,
        const struct sockaddr_in6 *peer, struct buffer *out);
    /* Fills @answer for a request that ends with @status. */
    void (*fail)(struct handler *handler, const struct request *request, unsigned status,
        struct answer *answer);
    uint64_t max_body_size; /* of requests that are forwarded */
};
