#pragma once

#include <stdint.h>

#include "base/buffer.h"

struct group;

/*
 * The bytes of the requests that the clients of a group make. Each appends and returns 0 or
 * -ENOMEM.
 */

/* @template with the number in the place of every "{n}". */
int request_append_template(struct buffer *out, const char *template, unsigned n);
/* A request without a body: the one at place @n of a pipeline, or a WebSocket's handshake. */
int request_append(
    struct buffer *out, const struct group *group, const char *host, const char *path, unsigned n);
/* A POST with a body, FNV-1a of which is *ret_hash. */
int request_append_upload(struct buffer *out, const struct group *group, const char *host,
    const char *path, uint64_t *ret_hash);
