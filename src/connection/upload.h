#pragma once

#include "connection/flow.h"
#include "connection/reading.h"
#include "connection/workspace.h"

/*
 * A request on its way to a backend: the head, and then the body as it comes from the client. What
 * came of it lies in the reading, and stays there while there is room: so long the request can be
 * sent once more, to another backend.
 */
struct upload {
    struct flow flow;      /* to the backend */
    struct buffer trailer; /* of a chunked body: the part of its trailer section that came */
    bool whole;            /* the client has sent all of it, and it has been sent on */
    bool replayable;       /* all that came lies in the reading */
};

enum {
    UPLOAD_OK,
    UPLOAD_MALFORMED, /* the client's body: 400 */
    UPLOAD_TOO_LARGE, /* over @limit: 413 */
    UPLOAD_LEFT,      /* the client has closed its side, or its connection broke */
};

/* Whether the whole request lies in the reading. False also where that cannot be told yet. */
bool upload_is_here(const struct reading *reading);
/*
 * Sends @head and what there is of the body to the backend's socket @fd, from the beginning: it may
 * have been sent before. *sent grows. Returns one of the above, or -errno of the backend's.
 */
int upload_send(struct upload *upload, struct reading *reading, struct span head,
    struct workspace *workspace, uint64_t limit, int fd);
/*
 * The client's socket @from is readable, the flow is empty, and the upload not whole: receives a
 * piece of the body and sends it on. *received grows. As upload_send().
 */
int upload_receive(struct upload *upload, struct reading *reading, struct workspace *workspace,
    const struct head_limits *limits, uint64_t limit, int from, int fd, uint64_t *received);
void upload_clear(struct upload *upload);
