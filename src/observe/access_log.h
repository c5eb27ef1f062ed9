#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/span.h"

/*
 * The access log of one worker: lines are gathered and written whole, once in each turn of the loop
 * or when many have come together, so that several workers can share a file opened for appending.
 */

enum access_log_format {
    ACCESS_COMBINED, /* Apache's and nginx's "combined" */
    ACCESS_JSON,     /* one object a line */
};

struct access_entry {
    const char *peer; /* host as text */
    struct span method, target, referrer, agent, host;
    unsigned minor, status;
    bool partial; /* the head was not read to its end: the version is not known */
    uint64_t body_bytes;
    uint64_t duration_usec;
    time_t time;
};

struct access_log {
    enum access_log_format format;
    const char *path; /* NULL: the log; not owned */
    int fd;
    struct buffer lines;
};

/* Opens @path for appending (made with mode 0640). Returns 0, or -errno with the reason. */
int access_log_open(
    struct access_log *log, enum access_log_format format, const char *path, struct reason *reason);
void access_log_close(struct access_log *log);
/*
 * Opens the path anew, after a rotation; what has gathered goes there. Keeps the old file when that
 * fails. As access_log_open().
 */
int access_log_reopen(struct access_log *log, struct reason *reason);
/*
 * Adds a line, with everything the client chose escaped: no control characters and no quotes come
 * through. Returns 0, or how many lines were lost (no memory, or a flush that was due failed).
 */
int access_log_add(struct access_log *log, const struct access_entry *entry);
/* Writes what has gathered. Returns 0, or how many lines were lost (write(2) failed or was short).
 */
int access_log_flush(struct access_log *log);
