#pragma once

#include <stddef.h>

#include "base/error.h"

/*
 * The text a configuration is made of: the main file and its drop-ins, in the order they are read.
 * It is kept whole, so that a generation can be started again under exactly the configuration it
 * was accepted with, whatever has happened to the files since.
 */
struct config_source {
    char *name; /* a path, or "command line" */
    char *text;
};

struct config_sources {
    struct config_source *items;
    size_t count;
};

/*
 * Reads @path, and then *.conf of the folder "@path.d" in the order of their names (bytes), as
 * systemd reads drop-ins; a missing folder is no error. Each file is at most 1 MiB and holds no
 * NUL. Returns 0, or -errno with the reason.
 */
int config_sources_read(const char *path, struct config_sources *ret, struct reason *reason);
/* Appends a copy of @name and @text. Returns 0 or -ENOMEM. */
int config_sources_add(struct config_sources *sources, const char *name, const char *text);
void config_sources_clear(struct config_sources *sources);
#define CLEANUP_CONFIG_SOURCES __attribute__((cleanup(config_sources_clear)))
