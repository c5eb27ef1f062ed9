#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/span.h"

/*
 * Turns the raw path of a request into the name of a file: percent-decoded once, "." and ".."
 * removed (RFC 3986 §5.2.4), repeated slashes merged, as nginx does. The result begins with '/', is
 * NUL-terminated in @text (@size bytes), and *ret_length does not count the NUL. A final slash is
 * kept, and is there after a final "." or "..". Returns 0; -EINVAL (malformed percent-encoding, an
 * encoded NUL or slash, ".." above the root, not beginning with '/'); or -ENAMETOOLONG.
 */
int path_decode(struct span raw, char *text, size_t size, size_t *ret_length);
/*
 * Whether a decoded path has a segment that begins with a dot (a hidden file), other than a leading
 * "/.well-known/" (RFC 8615).
 */
bool path_is_hidden(struct span path);
/* Appends @path percent-encoded for a Location field: all but unreserved, sub-delims, ":@/". */
struct buffer;
int path_encode(struct buffer *out, struct span path);
