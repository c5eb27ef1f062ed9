#pragma once

#include <ev.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>

#include "base/span.h"
#include "handler/representation.h"

/*
 * Small files, held in memory with the fields that a 200 says of them, so that answering with one
 * touches no file; of larger ones only the fields, and some of them stay open for a second. A
 * worker has one cache for all its routes; those not asked for the longest time give way to others.
 *
 * A cache knows nothing of changes: who finds an entry sees by `checked` when the file was looked
 * up last, looks it up again where that was too long ago, and drops what is_same() does not hold
 * for.
 */
struct cache;

#define CACHE_FILE_MAX (32 * 1024)
/*
 * A file that changed less than so many seconds ago is not held: while a timestamp of the kernel's
 * can still repeat, a second change would not show. One second is its own coarseness, one more that
 * of file systems without nanoseconds.
 */
#define CACHE_SETTLE_SECONDS 2
/* How many files are open at a time, and for how long: a deleted one takes its space until then. */
#define CACHE_OPEN_MAX 64
#define CACHE_OPEN_SECONDS 1.0

struct cache_key {
    const void *route;  /* whose path this is; only compared */
    const char *coding; /* the Content-Encoding it is sent with, a literal; NULL: none */
    struct span path;
};

struct cached {
    time_t checked; /* when the path last led to this file; kept by the caller */
    struct stat stat;
    const char *media_type;
    struct validators validators;
    struct span fields, content; /* content.at is NULL for a larger file */
    int fd;                      /* of a larger file, open; -1: none */
};

/*
 * @size: the most memory that it holds, 0: none. @loop: closes files in time; NULL: none stay open.
 * Returns 0 or -ENOMEM.
 */
int cache_new(size_t size, struct ev_loop *loop, struct cache **ret);
/* NULL is allowed. */
void cache_free(struct cache *cache);

/* What is held of this name, or NULL. Good until the next cache_add() or cache_drop(), or event. */
struct cached *cache_find(struct cache *cache, const struct cache_key *key);
void cache_drop(struct cache *cache, struct cached *cached);
/* Whether nothing that a lookup can see of the file has changed. */
bool cached_is_same(const struct cached *cached, const struct stat *stat);

/*
 * Takes a copy of the file @fd, which @representation describes and its path led to at @now; there
 * is none of that name yet. A file that is not settled or changing is not held, nor is any when
 * memory runs out.
 */
void cache_add(struct cache *cache, const struct cache_key *key, int fd,
    const struct representation *representation, struct span fields, time_t now);

/* Takes *fd over, where there is room: the larger file, as its path has just led to it. */
void cache_keep_open(struct cache *cache, struct cached *cached, int *fd);

/* The memory that its entries take. */
size_t cache_used(const struct cache *cache);
