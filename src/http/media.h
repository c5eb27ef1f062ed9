#pragma once

#include <stddef.h>

#include "base/span.h"

/*
 * Media types by file name extension, from the text of a mime.types table (as /etc/mime.types:
 * "type/subtype ext ext ...", '#' begins a comment), over a small table of our own for what the web
 * needs where there is no such file. Immutable once made.
 */
struct media_types;

/* @text may be empty. Malformed lines are skipped. Returns 0 or -ENOMEM. */
int media_types_new(struct span text, struct media_types **ret);
/* NULL is allowed. */
void media_types_free(struct media_types *types);
/*
 * The media type of a file name, with "; charset=utf-8" for text/ types, application/javascript,
 * application/json stays without (RFC 8259 §11). "application/octet-stream" where unknown. The
 * string lives as long as @types.
 */
const char *media_types_find(const struct media_types *types, struct span file_name);
