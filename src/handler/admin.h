#pragma once

#include <stddef.h>

#include "base/buffer.h"
#include "connection/answer.h"

/*
 * The pages of an Admin= listener: a handler that looks the path up in a table. GET and HEAD alone;
 * nothing is to be stored by caches.
 */

enum {
    ADMIN_OK,          /* 200 */
    ADMIN_UNAVAILABLE, /* 503, with the body written */
};

struct admin_page {
    const char *path;
    const char *content_type;
    /* Appends the body. Returns one of the above, or -errno: 500. */
    int (*write)(void *context, struct buffer *body);
    void *context;
};

struct admin {
    struct handler handler;
    const struct admin_page *pages;
    size_t page_count;
};

/* @pages stays the caller's and must outlive the handler, which is &admin->handler. */
void admin_init(struct admin *admin, const struct admin_page *pages, size_t count);
