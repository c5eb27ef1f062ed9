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

    struct config_listen *listens;
    size_t listen_count;
    struct config_route *routes;
    size_t route_count;
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
