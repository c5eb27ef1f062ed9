#include "handler/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/list.h"
#include "net/deadline.h"

/* One bucket for each so many bytes: about what a small entry takes. */
#define BYTES_PER_BUCKET 2048
#define BUCKETS_MIN 16
#define BUCKETS_MAX (1u << 20)
/* What malloc(3) adds. */
#define OVERHEAD 16

struct entry {
    struct cached cached; /* first: a struct cached * is a struct entry * */
    struct entry *next;   /* in the same bucket */
    struct link use;      /* cache->uses */
    struct cache *cache;
    struct deadline open; /* when cached.fd is closed; cache->open */
    uint32_t hash;
    size_t size;
    struct cache_key key;
    char bytes[]; /* the path, the fields, the content */
};

struct cache {
    size_t size, used;
    struct link uses; /* the one used last is at the end */
    struct deadline_list open;
    size_t open_count;
    uint32_t mask;
    struct entry *buckets[];
};

static void close_file(struct entry *entry)
{
    if (entry->cached.fd < 0)
        return;
    entry->cached.fd = fd_close(entry->cached.fd);
    entry->cache->open_count--;
    deadline_disarm(&entry->open);
}

static void on_open_over(struct deadline *deadline)
{
    close_file(CONTAINER_OF(deadline, struct entry, open));
}

int cache_new(size_t size, struct ev_loop *loop, struct cache **ret)
{
    uint32_t count = BUCKETS_MIN;

    while (count < BUCKETS_MAX && count < size / BYTES_PER_BUCKET)
        count *= 2;
    struct cache *cache = calloc(1, sizeof *cache + count * sizeof *cache->buckets);
    if (!cache)
        return -ENOMEM;
    cache->size = size;
    cache->mask = count - 1;
    list_init(&cache->uses);
    deadline_list_init(&cache->open, loop, CACHE_OPEN_SECONDS, on_open_over);
    *ret = cache;
    return 0;
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    LIST_EACH (link, &cache->uses) {
        struct entry *entry = CONTAINER_OF(link, struct entry, use);
        close_file(entry);
        free(entry);
    }
    if (cache->open.loop)
        deadline_list_deinit(&cache->open);
    free(cache);
}

/* FNV-1a. Only names of files that there are become keys: no stranger chooses them. */
static uint32_t hash_of(const struct cache_key *key)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < key->path.length; i++)
        hash = (hash ^ (unsigned char)key->path.at[i]) * 16777619u;
    return hash;
}

static bool is_of(const struct entry *entry, const struct cache_key *key, uint32_t hash)
{
    return entry->hash == hash && entry->key.route == key->route &&
           entry->key.coding == key->coding && span_equal(entry->key.path, key->path);
}

struct cached *cache_find(struct cache *cache, const struct cache_key *key)
{
    uint32_t hash = hash_of(key);
    struct entry *entry = cache->buckets[hash & cache->mask];

    while (entry && !is_of(entry, key, hash))
        entry = entry->next;
    if (!entry)
        return NULL;
    list_remove(&entry->use);
    list_append(&cache->uses, &entry->use);
    return &entry->cached;
}

static void drop(struct cache *cache, struct entry *entry)
{
    struct entry **at = &cache->buckets[entry->hash & cache->mask];

    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    list_remove(&entry->use);
    cache->used -= entry->size;
    close_file(entry);
    free(entry);
}

void cache_drop(struct cache *cache, struct cached *cached)
{
    drop(cache, (struct entry *)cached);
}

static bool is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           is_same_time(a->st_mtim, b->st_mtim) && is_same_time(a->st_ctim, b->st_ctim);
}

bool cached_is_same(const struct cached *cached, const struct stat *stat)
{
    return is_same(&cached->stat, stat);
}

/* A time in the future is not over: Last-Modified would have to follow the clock. */
static bool is_settled(const struct stat *stat, time_t now)
{
    return stat->st_mtim.tv_sec <= now - CACHE_SETTLE_SECONDS &&
           stat->st_ctim.tv_sec <= now - CACHE_SETTLE_SECONDS;
}

/* Whether @bytes become what @stat describes: it has not changed since, and came in one piece. */
static bool read_whole(int fd, const struct stat *stat, char *bytes)
{
    struct stat after;
    ssize_t n = pread(fd, bytes, (size_t)stat->st_size, 0);

    return n == stat->st_size && fstat(fd, &after) == 0 && is_same(stat, &after);
}

static struct span put(char **at, struct span bytes)
{
    struct span copy = {*at, bytes.length};

    if (bytes.length > 0)
        memcpy(*at, bytes.at, bytes.length);
    *at += bytes.length;
    return copy;
}

static void insert(struct cache *cache, struct entry *entry)
{
    struct entry **bucket = &cache->buckets[entry->hash & cache->mask];

    LIST_EACH (use, &cache->uses) {
        if (cache->used + entry->size <= cache->size)
            break;
        drop(cache, CONTAINER_OF(use, struct entry, use));
    }
    entry->next = *bucket;
    *bucket = entry;
    list_append(&cache->uses, &entry->use);
    cache->used += entry->size;
}

void cache_add(struct cache *cache, const struct cache_key *key, int fd,
    const struct representation *representation, struct span fields, time_t now)
{
    const struct stat *stat = &representation->stat;

    if (!is_settled(stat, now))
        return;
    size_t content = stat->st_size <= CACHE_FILE_MAX ? (size_t)stat->st_size : 0;
    size_t length = key->path.length + fields.length + content;
    size_t size = sizeof(struct entry) + length + OVERHEAD;
    struct entry *entry = size <= cache->size ? malloc(sizeof *entry + length) : NULL;
    if (!entry)
        return;
    char *at = entry->bytes;
    *entry = (struct entry){.cache = cache, .hash = hash_of(key), .size = size, .key = *key};
    entry->key.path = put(&at, key->path);
    entry->cached = (struct cached){
        .checked = now,
        .stat = *stat,
        .media_type = representation->media_type,
        .validators = representation->validators,
        .fields = put(&at, fields),
        .content = {stat->st_size <= CACHE_FILE_MAX ? at : NULL, content},
        .fd = -1,
    };
    list_init(&entry->use);
    deadline_init(&entry->open);
    if (!entry->cached.content.at || read_whole(fd, stat, at))
        insert(cache, entry);
    else
        free(entry);
}

void cache_keep_open(struct cache *cache, struct cached *cached, int *fd)
{
    struct entry *entry = (struct entry *)cached;

    close_file(entry);
    if (!cache->open.loop || cache->open_count == CACHE_OPEN_MAX)
        return;
    cached->fd = TAKE_FD(*fd);
    cache->open_count++;
    deadline_arm(&cache->open, &entry->open);
}

size_t cache_used(const struct cache *cache)
{
    return cache->used;
}
