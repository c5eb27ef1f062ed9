#include "handler/router.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "handler/cache.h"
#include "handler/files.h"
#include "handler/proxy.h"
#include "http/path.h"

#define NONE SIZE_MAX
#define HOST_MAX 255 /* RFC 1035 §2.3.4; nothing longer is a name */

struct route {
    const struct config_route *config;
    struct files *files; /* one of the two is NULL */
    struct proxy *proxy;
    struct handler *handler;
};

/* One host and the path of a route. */
struct entry {
    struct span host, path; /* host empty: every host */
    const struct route *route;
    size_t shorter; /* the entry whose path is the longest prefix of this one, same host; or NONE */
};

struct router {
    struct route *routes;
    size_t route_count;
    struct entry *entries; /* sorted by host, then path, both by bytes */
    size_t entry_count;
    struct cache *cache; /* of all routes */
};

static int span_compare(struct span a, struct span b)
{
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common > 0 ? memcmp(a.at, b.at, common) : 0;

    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

static int entry_compare(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    int order = span_compare(left->host, right->host);

    return order != 0 ? order : span_compare(left->path, right->path);
}

static size_t count_entries(const struct config *config)
{
    size_t count = 0;

    for (size_t i = 0; i < config->route_count; i++)
        count += config->routes[i].host_count > 0 ? config->routes[i].host_count : 1;
    return count;
}

static void add_entry(struct router *router, const struct route *route, const char *host)
{
    router->entries[router->entry_count++] = (struct entry){
        .host = span_of(host),
        .path = span_of(route->config->path),
        .route = route,
    };
}

/* What all routes are made of. */
struct parts {
    const struct config *config;
    const struct media_types *types;
    struct upstreams *upstreams;
    struct ev_loop *loop;
    struct cache *cache;
};

static int add_proxy(struct route *route, const struct config_route *config,
    const struct parts *parts, struct files *pages, struct reason *reason)
{
    struct gateway *gateway =
        parts->upstreams ? upstreams_at(parts->upstreams, config->upstream_index) : NULL;

    route->proxy = proxy_new(parts->config, config, gateway, pages);
    if (!route->proxy)
        return reason_set(reason, -ENOMEM, "out of memory");
    route->handler = proxy_handler(route->proxy);
    return 0;
}

/* Files, or the backends of an upstream with perhaps a folder of error pages. */
static int make_handler(struct route *route, const struct config_route *config,
    const struct parts *parts, struct reason *reason)
{
    struct files *files = NULL;
    int r = config->root ? files_new(config, parts->types, parts->config->max_ranges, parts->cache,
                               &files, reason)
                         : 0;

    if (r < 0)
        return r;
    if (config->upstream)
        return add_proxy(route, config, parts, files, reason);
    route->files = files;
    route->handler = files_handler(files);
    return 0;
}

static int add_route(struct router *router, const struct config_route *config,
    const struct parts *parts, struct reason *reason)
{
    struct route *route = &router->routes[router->route_count];
    int r = make_handler(route, config, parts, reason);

    if (r < 0)
        return r;
    route->config = config;
    router->route_count++;
    for (size_t i = 0; i < config->host_count; i++)
        add_entry(router, route, config->hosts[i]);
    if (config->host_count == 0)
        add_entry(router, route, "");
    return 0;
}

/*
 * In sorted order all that an entry is a prefix of follows it without a gap. So the longest prefix
 * of an entry is the one before it, or the longest prefix of that, and so on.
 */
static void link_prefixes(struct router *router)
{
    for (size_t i = 0; i < router->entry_count; i++) {
        struct entry *entry = &router->entries[i];
        size_t at = i > 0 ? i - 1 : NONE;
        while (at != NONE && (!span_equal(router->entries[at].host, entry->host) ||
                                 !span_starts(entry->path, router->entries[at].path)))
            at = router->entries[at].shorter;
        entry->shorter = at;
    }
}

static int refuse_duplicates(const struct router *router, struct reason *reason)
{
    for (size_t i = 1; i < router->entry_count; i++) {
        const struct entry *a = &router->entries[i - 1], *b = &router->entries[i];
        if (a->route != b->route && entry_compare(a, b) == 0)
            return reason_set(reason, -EINVAL, "[Route %s] and [Route %s] both have Path=%s%s%s",
                a->route->config->name, b->route->config->name, a->route->config->path,
                a->host.length > 0 ? " of Host=" : "", a->host.at);
    }
    return 0;
}

static int fill(struct router *router, struct parts *parts, struct reason *reason)
{
    const struct config *config = parts->config;

    router->routes = calloc(config->route_count + 1, sizeof *router->routes);
    router->entries = calloc(count_entries(config) + 1, sizeof *router->entries);
    if (!router->routes || !router->entries ||
        cache_new(config->cache_size, parts->loop, &router->cache) < 0)
        return reason_set(reason, -ENOMEM, "out of memory");
    parts->cache = router->cache;
    for (size_t i = 0; i < config->route_count; i++) {
        int r = add_route(router, &config->routes[i], parts, reason);
        if (r < 0)
            return r;
    }
    qsort(router->entries, router->entry_count, sizeof *router->entries, entry_compare);
    link_prefixes(router);
    return refuse_duplicates(router, reason);
}

int router_new(const struct config *config, const struct media_types *types,
    struct upstreams *upstreams, struct ev_loop *loop, struct router **ret, struct reason *reason)
{
    struct parts parts = {config, types, upstreams, loop, NULL};
    struct router *router = calloc(1, sizeof *router);
    int r = router ? fill(router, &parts, reason) : reason_set(reason, -ENOMEM, "out of memory");

    if (r < 0) {
        router_free(router);
        return r;
    }
    *ret = router;
    return 0;
}

void router_free(struct router *router)
{
    if (!router)
        return;
    for (size_t i = 0; i < router->route_count; i++) {
        files_free(router->routes[i].files);
        proxy_free(router->routes[i].proxy);
    }
    cache_free(router->cache);
    free(router->routes);
    free(router->entries);
    free(router);
}

static bool path_matches(struct span path, struct span prefix)
{
    if (!span_starts(path, prefix))
        return false;
    return path.length == prefix.length || prefix.at[prefix.length - 1] == '/' ||
           path.at[prefix.length] == '/';
}

/*
 * The last entry that is not behind (host, path) in order is the longest prefix of path, or it and
 * path share that prefix: then it is one of the shorter ones.
 */
static struct handler *find_longest(const struct router *router, struct span host, struct span path)
{
    const struct entry wanted = {.host = host, .path = path};
    size_t low = 0, high = router->entry_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (entry_compare(&router->entries[middle], &wanted) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || !span_equal(router->entries[low - 1].host, host))
        return NULL;
    for (size_t at = low - 1; at != NONE; at = router->entries[at].shorter)
        if (path_matches(path, router->entries[at].path))
            return router->entries[at].route->handler;
    return NULL;
}

/* The host as the entries have it, in @text. Empty where no entry can be meant. */
static struct span normalise_host(struct span host, char text[static HOST_MAX])
{
    if (host.length > 0 && host.at[host.length - 1] == '.')
        host.length--;
    if (host.length > HOST_MAX)
        host.length = 0;
    for (size_t i = 0; i < host.length; i++) {
        char c = host.at[i];
        text[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    return (struct span){text, host.length};
}

static void answer_bad_path(
    struct handler *handler, const struct request *request, struct answer *answer)
{
    (void)handler;
    (void)request;
    answer_text(answer, 400);
}

/* A target that is no path: the server as a whole. Or whatever it is, it goes no further. */
static void answer_no_path(
    struct handler *handler, const struct request *request, struct answer *answer)
{
    (void)handler;
    if (request->method == METHOD_OPTIONS)
        answer->status = 204;
    else
        answer_text(answer, 405);
    answer_field(answer, "Allow", "%s", "GET, HEAD, OPTIONS");
}

/* The hosts of entries are sorted: the last one has one, or none has. */
static bool has_hosts(const struct router *router)
{
    return router->entry_count > 0 && router->entries[router->entry_count - 1].host.length > 0;
}

struct handler *router_find(struct router *router, const struct request *request)
{
    static struct handler bad_path = {.answer = answer_bad_path};
    static struct handler no_path = {.answer = answer_no_path};
    char host_text[HOST_MAX], path_text[PATH_MAX];
    struct span host = {NULL, 0}, path = {.at = path_text};
    struct handler *handler = NULL;

    if (request->path.length == 0 || request->path.at[0] != '/' || request_ends_here(request))
        return &no_path;
    int r = path_decode(request->path, path_text, sizeof path_text, &path.length);
    if (r < 0)
        return r == -EINVAL ? &bad_path : NULL;
    if (has_hosts(router))
        host = normalise_host(request->host, host_text);
    if (host.length > 0)
        handler = find_longest(router, host, path);
    return handler ? handler : find_longest(router, SPAN(""), path);
}
