#pragma once

#include "base/error.h"
#include "config/config.h"
#include "connection/answer.h"
#include "handler/cache.h"
#include "http/media.h"

/*
 * Serves the files beneath the Root= of one route (RFC 9110): conditional requests, ranges, files
 * compressed beforehand, folders with index files.
 *
 * What is found:
 *   - The whole decoded path names the file; the route's Path= is only a condition, as nginx's
 *     `root`. Names that begin with a dot are not found, other than beneath /.well-known/.
 *   - A folder is answered with its first index file, without one with 403; a folder without its
 *     final slash with 301. A file with a final slash is not found.
 *   - Where nothing is found, Fallback= is served instead with 200; never for a hidden name.
 *   - ErrorPage= is the body of an error in place of a line of plain text.
 *   - With Precompressed=, name.br, name.zst or name.gz beside the file is sent to who accepts it.
 *     It is used whatever its age, as nginx's gzip_static: who writes them keeps them in step.
 *
 * Small files are answered from the cache, each looked up again in every second in which it is
 * asked for: what is done to a name, to the folders and links that lead to it or to the rights on
 * them is seen in the next second.
 */
struct files;

/*
 * Opens the root. @max_ranges: see representation_answer(). @route, @types and @cache stay the
 * caller's and must outlive the handler. Returns 0, or -errno with the reason.
 */
int files_new(const struct config_route *route, const struct media_types *types,
    unsigned max_ranges, struct cache *cache, struct files **ret, struct reason *reason);
/* NULL is allowed. */
void files_free(struct files *files);
struct handler *files_handler(struct files *files);
/* Fills @answer for a request that another handler could not answer: ErrorPage=, or plain text. */
void files_answer_error(const struct files *files, unsigned status, struct answer *answer);
