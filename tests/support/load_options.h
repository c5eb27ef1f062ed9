#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "load_group.h"

/* The command line: `load --help` documents it. */
struct options {
    struct address target;
    char *host;       /* the Host field */
    const char *path; /* where a group has none of its own */
    struct group *groups;
    size_t group_count;
    unsigned clients;        /* of all groups */
    const char *expect_file; /* NULL: none */
    uint64_t duration_usec;  /* 0: without end */
    uint64_t requests;       /* 0: any number */
    bool until_stdin_closes;
    uint64_t timeout_usec;
    uint64_t rate; /* requests per second of all keepalive clients together, 0: as they come */
    uint64_t ramp; /* clients that may wait for their first answer at once */
    uint64_t seed;
    int ready_fd;
    bool progress, allow_close_idle;
    bool help;
};

extern const char options_usage[];

/*
 * Reads the command line, and the files it names. Returns 0, or -errno with the reason; what it
 * holds then is cleared the same way.
 */
int options_parse(int argc, char **argv, struct options *options, struct reason *reason);
void options_clear(struct options *options);
