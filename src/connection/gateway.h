#pragma once

#include <ev.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/list.h"
#include "base/span.h"
#include "net/deadline.h"

/*
 * Where a forwarded request or a tunnel gets its backend from. The connection layer knows no
 * addresses, pools or weights: it asks a gateway with a demand, is granted a backend, and gives it
 * back. Who knows all of that (src/upstream) is behind these structs.
 */

struct gateway;
struct upstream_server;

/* An established connection to a backend: of a pool, or lent to one exchange or tunnel. */
struct backend {
    ev_io io; /* callback and data are those of whoever has it */
    struct gateway *gateway;
    struct upstream_server *server; /* NULL: it came from another worker, and is not known here */
    struct link link;               /* of the pool */
    struct deadline deadline;       /* in a list of whoever has it */
    bool reused;                    /* it has served a request before: it may just be closing */
};

/* A wish for a backend. Whoever asks owns it, and fills the second half. */
struct demand {
    struct link link; /* of those that wait */
    struct gateway *gateway;
    struct deadline deadline;
    bool held;                     /* counted as one that has to wait */
    bool postponed;                /* asks again in a moment: it does not wait for anything */
    bool reusable;                 /* a backend that has served a request before will do */
    uint32_t hash;                 /* of the client's address, for Balance=hash */
    struct upstream_server *avoid; /* failed it before; NULL: none */
    double patience;               /* seconds to wait at the most; below 0: as configured */
    /* Each ends the waiting; neither comes while ask() runs. */
    void (*granted)(struct demand *demand, struct backend *backend);
    /* @status: 502, 503 or 504. @why is valid in the call. */
    void (*refused)(struct demand *demand, unsigned status, const char *why);
};

enum {
    DEMAND_GRANTED, /* *ret_backend is lent */
    DEMAND_WAITS,   /* granted() or refused() will come */
    DEMAND_REFUSED, /* *ret_status and *ret_why say what refused() would */
};

/* How a backend comes back. */
enum backend_end {
    BACKEND_REUSABLE, /* between two requests: the next can have it */
    BACKEND_CLOSED,   /* of no further use */
    BACKEND_FAILED,   /* it closed, broke or fell silent before it answered */
};

struct gateway_calls {
    int (*ask)(struct gateway *gateway, struct demand *demand, struct backend **ret_backend,
        unsigned *ret_status, const char **ret_why);
    /* Takes back a demand that waits. */
    void (*cancel)(struct demand *demand);
    /* Takes the backend back; its watcher and its deadline are taken care of. */
    void (*give_back)(struct backend *backend, enum backend_end how);
    /*
     * Makes a lent backend of a socket that came from another worker; @server is the name it had
     * there. Takes @fd. NULL: no memory, and it is closed.
     */
    struct backend *(*adopt)(struct gateway *gateway, int fd, struct span server);
    /* What the server is called in the configuration; empty where it is not known. */
    struct span (*server_name)(const struct backend *backend);
};

struct gateway {
    const struct gateway_calls *calls;
    struct ev_loop *loop;
    const char *name;
    unsigned retries;
    unsigned proxy_version; /* of the PROXY header that a connection begins with; 0: none */
    /* Timeouts of whoever has a backend. */
    struct deadline_list send, response, tunnel;
};

/* A demand that nothing is asked with yet; the callbacks are still to be filled in. */
void demand_init(struct demand *demand, struct gateway *gateway, const struct sockaddr_in6 *peer);
/* Of one that waits: the seconds for which it would go on; below 0: as in patience. */
double demand_patience(const struct demand *demand);

/*
 * Appends what a connection to a backend begins with, for the client at @peer that is connected as
 * @client_fd: a PROXY header, or nothing. Returns 0 or -ENOMEM.
 */
int gateway_preface(const struct gateway *gateway, const struct sockaddr_in6 *peer, int client_fd,
    struct buffer *out);

/* What a backend's watcher waits for from now on; no events stop it. */
void backend_watch(struct backend *backend, int events);
