#pragma once

#include "connection/flow.h"
#include "connection/workspace.h"
#include "http/forward.h"

/*
 * A response on its way from a backend to the client: interim ones, the head, the body, in the
 * framing that the client understands.
 */

enum download_state {
    DOWNLOAD_HEAD, /* waits for the final head */
    DOWNLOAD_BODY,
    DOWNLOAD_DONE, /* the backend has sent all of it; the flow may hold its end */
};

struct download {
    enum download_state state;
    struct flow flow;      /* to the client */
    struct buffer pending; /* HEAD: the part of it that came; BODY: of the trailer section */
    enum response_framing framing;
    enum forward_body body;
    uint64_t left; /* of a body by length */
    struct chunked chunked;
    bool keep_alive; /* the backend's connection outlives the response */
};

/* What is known of the request, and has become of the response. */
struct download_client {
    int fd;
    unsigned minor;       /* of its HTTP/1.x */
    bool head_request;    /* HEAD */
    bool may_switch;      /* it asked for an upgrade, and has sent its whole request */
    bool close;           /* its connection ends with this response */
    const char *date;     /* the Date field, where the backend gives none */
    unsigned status;      /* of the final head */
    unsigned interim;     /* how many 1xx were sent on */
    uint64_t head_length; /* bytes of the final head */
    uint64_t sent;        /* grows by what went out */
};

enum {
    DOWNLOAD_OK,
    DOWNLOAD_COMPLETE, /* the state has become DONE */
    DOWNLOAD_SWITCHED, /* 101, and the client knows it: @ret_rest are the first bytes of the tunnel
                        */
    DOWNLOAD_BAD,      /* no response that could be sent on; *ret_why says why */
    DOWNLOAD_LEFT,     /* the client cannot be written to any more */
};

/*
 * Sends on what @bytes, received from the backend, hold. The flow may be blocked: then it keeps
 * them. @bytes of length 0: the backend has closed. Bytes behind the end of the response make the
 * connection unfit for another (keep_alive becomes false). Returns one of the above.
 */
int download_take(struct download *download, struct span bytes, struct workspace *workspace,
    struct download_client *client, struct span *ret_rest, const char **ret_why);
void download_clear(struct download *download);
