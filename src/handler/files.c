#include "handler/files.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "handler/cache.h"
#include "handler/representation.h"
#include "handler/root.h"
#include "http/accept.h"
#include "http/path.h"

struct files {
    struct handler handler; /* first: a struct handler * is a struct files * */
    const struct config_route *route;
    const struct media_types *types;
    struct root root;
    size_t max_ranges;
    struct cache *cache;
};

/* The path of a file beneath the root. */
struct name {
    size_t length;
    char text[PATH_MAX];
};

/* One request on its way through the functions below. */
struct exchange {
    const struct files *files;
    const struct request *request;
    struct answer *answer;
    time_t now;
};

/* Returns false when it would be longer than any path. */
static bool name_append(struct name *name, const char *more)
{
    size_t length = strlen(more);

    if (length >= sizeof name->text - name->length)
        return false;
    memcpy(name->text + name->length, more, length + 1);
    name->length += length;
    return true;
}

static void name_cut(struct name *name, size_t length)
{
    name->length = length;
    name->text[length] = '\0';
}

/*
 * Looks a path up. The outcome is the status that says it: 200 with the open file, 301 for a
 * folder, or an error.
 */
static unsigned open_file(const struct files *files, const char *path, struct representation *ret)
{
    switch (root_open(&files->root, path, &ret->fd, &ret->stat)) {
    case ROOT_FILE:
        return 200;
    case ROOT_FOLDER:
        return 301;
    case ROOT_NOT_FOUND:
        return 404;
    case ROOT_FORBIDDEN:
        return 403;
    case -EMFILE: /* each passes */
    case -ENFILE:
    case -ENOMEM:
    case -EAGAIN:
        return 503;
    default:
        return 500;
    }
}

static struct cache_key key_of(
    const struct exchange *exchange, const struct name *name, const char *coding)
{
    return (struct cache_key){
        .route = exchange->files, .coding = coding, .path = {name->text, name->length}};
}

static void use_cached(struct representation *ret, const struct cached *cached)
{
    if (cached->fd >= 0) {
        ret->fd = cached->fd;
        ret->lent = true;
    }
    ret->stat = cached->stat;
    ret->media_type = cached->media_type;
    ret->validators = cached->validators;
    ret->content = cached->content;
    ret->fields = cached->fields;
}

/*
 * Whether it can answer in the second of its lookup. The bytes of an open file are not held: they
 * must still be those that its fields are of.
 */
static bool is_good(const struct cached *cached, time_t now)
{
    struct stat stat;

    if (cached->checked != now)
        return false;
    return cached->content.at ||
           (cached->fd >= 0 && fstat(cached->fd, &stat) == 0 && cached_is_same(cached, &stat));
}

/*
 * As open_file(), but a file that is in memory or open is not opened, where its name was looked up
 * in this second already.
 */
static unsigned look_up(const struct exchange *exchange, const struct name *name,
    const char *coding, struct representation *ret)
{
    struct cache_key key = key_of(exchange, name, coding);
    struct cached *cached = cache_find(exchange->files->cache, &key);

    if (cached && is_good(cached, exchange->now)) {
        use_cached(ret, cached);
        return 200;
    }
    unsigned status = open_file(exchange->files, name->text, ret);
    if (!cached)
        return status;
    if (status == 200 && cached_is_same(cached, &ret->stat)) {
        if (cached->content.at)
            ret->fd = fd_close(ret->fd);
        else
            cache_keep_open(exchange->files->cache, cached, &ret->fd);
        cached->checked = exchange->now;
        use_cached(ret, cached);
    } else {
        cache_drop(exchange->files->cache, cached);
    }
    return status;
}

/* @name ends with a slash, and becomes that of the index file where there is one. */
static unsigned open_index(
    const struct exchange *exchange, struct name *name, struct representation *ret)
{
    const struct config_route *route = exchange->files->route;
    size_t folder = name->length;
    unsigned status;

    for (size_t i = 0; i < route->index_count; i++) {
        if (!name_append(name, route->index[i]))
            continue;
        status = look_up(exchange, name, NULL, ret);
        if (status != 404 && status != 301)
            return status;
        name_cut(name, folder);
    }
    status = open_file(exchange->files, name->text, ret);
    return status == 301 ? 403 : status; /* contents of folders are not listed */
}

static unsigned open_fallback(
    const struct exchange *exchange, struct name *name, struct representation *ret)
{
    const struct config_route *route = exchange->files->route;

    name_cut(name, 0);
    if (!route->fallback || !name_append(name, route->fallback))
        return 404;
    unsigned status = look_up(exchange, name, NULL, ret);
    return status == 301 ? 404 : status;
}

/* Finds what the path of the request means. The outcome is as open_file()'s; *name is its path. */
static unsigned find(const struct exchange *exchange, struct name *name, struct representation *ret)
{
    int r = path_decode(exchange->request->path, name->text, sizeof name->text, &name->length);
    unsigned status;

    if (r < 0)
        return r == -EINVAL ? 400 : 404; /* 404: longer than any file's path */
    if (path_is_hidden((struct span){name->text, name->length}))
        return 404;
    if (name->text[name->length - 1] == '/')
        status = open_index(exchange, name, ret);
    else
        status = look_up(exchange, name, NULL, ret);
    return status == 404 ? open_fallback(exchange, name, ret) : status;
}

/* Exchanges the file, and its name, for the best of its compressed siblings that there is. */
static void select_coding(
    const struct exchange *exchange, struct name *name, struct representation *representation)
{
    enum coding accepted[CODING_COUNT];
    size_t count = accept_codings(exchange->request, accepted), length = name->length;

    for (size_t i = 0; i < count; i++) {
        const struct coding_info *coding = &codings[accepted[i]];
        struct representation sibling = {.fd = -1};
        if (!name_append(name, coding->suffix))
            continue;
        if (look_up(exchange, name, coding->name, &sibling) == 200) {
            representation_close(representation);
            sibling.media_type = representation->media_type;
            sibling.cache_control = representation->cache_control;
            sibling.negotiated = representation->negotiated;
            sibling.coding = coding->name;
            *representation = sibling;
            return;
        }
        name_cut(name, length);
    }
}

static const char *media_type_of(const struct files *files, const char *path)
{
    return media_types_find(files->types, span_of(strrchr(path, '/') + 1));
}

/* Holds the file of a 200 for the requests to come. */
static void hold(const struct exchange *exchange, const struct name *name,
    const struct representation *representation)
{
    const struct answer *answer = exchange->answer;
    struct cache_key key = key_of(exchange, name, representation->coding);

    if (answer->status == 200 && answer->file >= 0 && !answer->failed && !representation->fields.at)
        cache_add(exchange->files->cache, &key, answer->file, representation,
            buffer_span(&answer->fields), exchange->now);
}

/* The body from ErrorPage=. Returns whether there is one. */
static bool answer_error_page(const struct exchange *exchange, unsigned status)
{
    const struct config_route *route = exchange->files->route;
    struct answer *answer = exchange->answer;
    struct representation page;

    for (size_t i = 0; i < route->error_page_count; i++) {
        const struct config_error_page *configured = &route->error_pages[i];
        if (configured->status != status)
            continue;
        if (open_file(exchange->files, configured->path, &page) != 200)
            return false;
        answer_reset(answer);
        answer->status = status;
        answer_field(
            answer, "Content-Type", "%s", media_type_of(exchange->files, configured->path));
        answer_file(answer, page.fd);
        answer_file_part(answer, 0, (uint64_t)page.stat.st_size);
        return true;
    }
    return false;
}

static void answer_error(const struct exchange *exchange, unsigned status)
{
    if (!answer_error_page(exchange, status))
        answer_text(exchange->answer, status);
}

/*
 * The folder's name with a slash. A path alone, so that it holds under any host name and scheme;
 * path_decode() has merged slashes, and so it cannot begin with the "//" of another host.
 */
static void answer_redirect(const struct exchange *exchange, struct name *name)
{
    struct span query = exchange->request->query;
    CLEANUP_BUFFER struct buffer location = {0};
    int r = path_encode(&location, (struct span){name->text, name->length});

    if (r == 0)
        r = buffer_append_string(&location, query.at ? "/?" : "/");
    if (r == 0 && query.at)
        r = buffer_append(&location, query);
    if (r < 0 || !buffer_string(&location)) {
        answer_error(exchange, 503);
        return;
    }
    answer_text(exchange->answer, 301);
    answer_field(exchange->answer, "Location", "%s", location.bytes);
}

static void answer_found(
    const struct exchange *exchange, struct name *name, struct representation *representation)
{
    const struct files *files = exchange->files;

    if (!representation->media_type)
        representation->media_type = media_type_of(files, name->text);
    representation->cache_control = files->route->cache_control;
    representation->negotiated = files->route->precompressed;
    if (representation->negotiated)
        select_coding(exchange, name, representation);
    int r = representation_answer(
        representation, exchange->request, files->max_ranges, exchange->now, exchange->answer);
    if (r != 0)
        answer_error(exchange, r < 0 ? 500 : (unsigned)r);
    if (r == 0)
        hold(exchange, name, representation);
    if (r == 416)
        answer_field(exchange->answer, "Content-Range", "bytes */%jd",
            (intmax_t)representation->stat.st_size);
}

static void answer_get(const struct exchange *exchange)
{
    CLEANUP_REPRESENTATION struct representation representation = {.fd = -1};
    struct name name;
    unsigned status = find(exchange, &name, &representation);

    if (status == 200)
        answer_found(exchange, &name, &representation);
    else if (status == 301)
        answer_redirect(exchange, &name);
    else
        answer_error(exchange, status);
}

static void files_answer(
    struct handler *handler, const struct request *request, struct answer *answer)
{
    struct files *files = (struct files *)handler;
    struct exchange exchange = {
        .files = files,
        .request = request,
        .answer = answer,
        .now = time(NULL),
    };

    root_refresh(&files->root, exchange.now);
    switch (request->method) {
    case METHOD_GET:
    case METHOD_HEAD: /* the connection leaves the body out */
        answer_get(&exchange);
        return;
    case METHOD_OPTIONS:
        answer->status = 204;
        break;
    default:
        answer_error(&exchange, 405);
    }
    answer_field(answer, "Allow", "%s", "GET, HEAD, OPTIONS");
}

int files_new(const struct config_route *route, const struct media_types *types,
    unsigned max_ranges, struct cache *cache, struct files **ret, struct reason *reason)
{
    struct files *files = malloc(sizeof *files);

    if (!files)
        return reason_set(reason, -ENOMEM, "out of memory");
    *files = (struct files){
        .handler = {.answer = files_answer},
        .route = route,
        .types = types,
        .max_ranges = max_ranges,
        .cache = cache,
    };
    int r = root_init(&files->root, route->root);
    if (r < 0) {
        free(files);
        return reason_set(
            reason, r, "[Route %s] Root=%s: %s", route->name, route->root, strerror(-r));
    }
    *ret = files;
    return 0;
}

void files_free(struct files *files)
{
    if (!files)
        return;
    root_destroy(&files->root);
    free(files);
}

struct handler *files_handler(struct files *files)
{
    return &files->handler;
}

void files_answer_error(const struct files *files, unsigned status, struct answer *answer)
{
    struct exchange exchange = {.files = files, .answer = answer};

    answer_error(&exchange, status);
}
