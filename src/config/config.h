#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/buffer.h"
#include "config/source.h"

/*
 * The configuration: text → one immutable struct. Everything baton.conf(5) documents is validated
 * here and nowhere else; what comes out needs no further check. Owned by whoever parsed it; workers
 * inherit theirs through fork.
 */

enum access_log_kind {
    ACCESS_LOG_OFF,
    ACCESS_LOG_COMBINED,
    ACCESS_LOG_JSON,
};

/* A [Listen NAME] section. */
struct config_listen {
    char *name; /* the name systemd passes (FileDescriptorName=, systemd.socket(5)) */
    struct address *addresses; /* bound by us where systemd passes no socket of that name */
    size_t address_count;
    bool admin;
    bool accept_proxy;      /* a connection begins with a PROXY header */
    char *tunnel;           /* the name of an upstream: no HTTP; NULL: HTTP */
    size_t tunnel_upstream; /* where it is in the upstreams; tunnel alone */
};

struct config_error_page {
    unsigned status; /* 400 to 599 */
    char *path;      /* below the route's root, begins with / */
};

/* A [Route NAME] section. */
struct config_route {
    char *name;
    char **hosts; /* lower case, no port; none: every host */
    size_t host_count;
    char *path;   /* prefix, begins with / */
    char *root;   /* absolute */
    char **index; /* file names */
    size_t index_count;
    char *cache_control; /* NULL: no such field */
    char *fallback;      /* path below the root, begins with /; NULL: none */
    struct config_error_page *error_pages;
    size_t error_page_count;
    bool precompressed;
    char *upstream;         /* the name of an upstream; NULL: the route serves files of its root */
    size_t upstream_index;  /* where it is in the upstreams; with upstream alone */
    char *upstream_host;    /* the Host that backends get; NULL: the client's */
    bool forwarded;         /* adds Forwarded (RFC 7239) beside X-Forwarded-... */
    uint64_t max_body_size; /* the route's own, or [Server]'s */
};

enum balance {
    BALANCE_ROUND_ROBIN,
    BALANCE_LEAST_CONNECTIONS,
    BALANCE_HASH, /* of the client's address */
};

enum send_proxy {
    SEND_PROXY_NO,
    SEND_PROXY_V1,
    SEND_PROXY_V2,
};

/* One Server= of an upstream: where backends listen. */
struct config_server {
    char *text;             /* as written, without the options: what status and log call it */
    struct address address; /* length 0: host is a name that has to be looked up */
    char *host;             /* NULL: address is known */
    uint16_t port;          /* of host */
    unsigned weight;
};

/* An [Upstream NAME] section. Numbers of connections are per worker. */
struct config_upstream {
    char *name;
    struct config_server *servers;
    size_t server_count;
    enum balance balance;
    enum send_proxy send_proxy;
    unsigned max_connections; /* to each server; 0: any number */
    unsigned max_idle;        /* kept open between requests, to each server */
    unsigned max_waiting;     /* requests that wait for a server */
    unsigned retries;         /* of one request, after the first attempt */
    unsigned max_fails;       /* until a server is avoided for fail_timeout; 0: never */
    uint64_t fail_timeout_usec;
    uint64_t connect_timeout_usec;
    uint64_t send_timeout_usec;
    uint64_t response_timeout_usec; /* until the head, and between two pieces of the body */
    uint64_t idle_timeout_usec;     /* of a connection between requests */
    uint64_t tunnel_timeout_usec;   /* of a tunnel without traffic */
    uint64_t hold_timeout_usec;     /* that a request waits for a server that cannot be reached */
    uint64_t pause_timeout_usec;    /* the longest that `baton pause` holds */
    char *probe;                    /* the path that is asked for with GET; NULL: no probes */
    char *probe_host;               /* the Host of probes; NULL: the server's text */
    uint64_t probe_interval_usec;
    uint64_t probe_timeout_usec;
    unsigned probe_rise, probe_fall;                /* in a row, until a server is up, or down */
    unsigned probe_status_least, probe_status_most; /* what counts as good */
};

/* An IP network: addresses whose first @bits are those of @address. AF_UNIX: any local client. */
struct config_network {
    struct address address;
    unsigned bits;
};

struct config {
    /* [Server] */
    unsigned workers; /* 0: auto, as many as CPUs this process may use */
    unsigned crash_limit;
    uint64_t drain_timeout_usec;
    uint64_t readiness_delay_usec;
    uint64_t start_timeout_usec;
    uint64_t worker_timeout_usec;
    uint64_t header_timeout_usec;
    uint64_t body_timeout_usec;
    uint64_t idle_timeout_usec;
    uint64_t send_timeout_usec;
    uint64_t linger_timeout_usec;
    uint64_t head_size;
    uint64_t max_body_size;
    unsigned max_fields;
    unsigned max_ranges;
    unsigned max_connections; /* per worker */
    uint64_t cache_size;      /* per worker */
    enum access_log_kind access_log;
    char *access_log_file; /* absolute; NULL: the log */
    char *control_socket;  /* absolute; NULL: in the runtime directory */
    struct config_network *trusted_proxies;
    size_t trusted_proxy_count;

    struct config_listen *listens;
    size_t listen_count;
    struct config_route *routes;
    size_t route_count;
    struct config_upstream *upstreams;
    size_t upstream_count;
};

/*
 * Parses and validates. On success returns 0 and *ret, which config_free() frees. Otherwise returns
 * -EINVAL (or -ENOMEM) and appends to @problems every problem found, not only the first: one a
 * line, "FILE:LINE: what is wrong, and the nearest valid name where a name is unknown".
 */
int config_parse(
    const struct config_sources *sources, struct config **ret, struct buffer *problems);
/* NULL is allowed. */
void config_free(struct config *config);
void config_free_at(struct config **config);
#define CLEANUP_CONFIG __attribute__((cleanup(config_free_at)))
