#include "handler/router.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

/*
 * Every route serves the same one file for whatever is asked (Fallback=, Index=), and Cache-Control
 * tells which route it was.
 */
static char base[] = "/tmp/baton-router-XXXXXX";
static char file_path[64];
static char *index_names[] = {"file"};
static struct media_types *types;
static struct answer answer;

static int make_file(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(base));
    (void)snprintf(file_path, sizeof file_path, "%s/file", base);
    int fd = open(file_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    (void)fd_close(fd);
    answer_init(&answer);
    return media_types_new(SPAN(""), &types);
}

static int remove_file(void **state)
{
    (void)state;
    answer_destroy(&answer);
    media_types_free(types);
    return unlink(file_path) < 0 ? -1 : rmdir(base);
}

static struct config_route make_route(char *name, char **hosts, size_t host_count, char *path)
{
    return (struct config_route){.name = name,
        .hosts = hosts,
        .host_count = host_count,
        .path = path,
        .root = base,
        .index = index_names,
        .index_count = 1,
        .cache_control = name,
        .fallback = (char *)"/file"};
}

static struct handler *find(
    struct router *router, enum method method, const char *host, const char *path)
{
    static struct request request;

    request = (struct request){
        .method = method, .host = span_of(host), .path = span_of(path), .minor = 1};
    answer_reset(&answer);
    struct handler *handler = router_find(router, &request);
    if (handler)
        handler->answer(handler, &request, &answer);
    return handler;
}

/* The name of the route that answers, "400" and the like for other handlers, "" for none. */
static const char *ask(struct router *router, const char *host, const char *path)
{
    static char name[32];

    name[0] = '\0';
    if (!find(router, METHOD_GET, host, path))
        return name;
    (void)snprintf(name, sizeof name, "%u", answer.status);
    const char *fields = buffer_string(&answer.fields);
    const char *at = fields ? strstr(fields, "Cache-Control: ") : NULL;
    if (at) {
        at += strlen("Cache-Control: ");
        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "\r"), at);
    }
    return name;
}

static void test_choice(void **state)
{
    static char *shop_hosts[] = {"shop.example", "www.shop.example"};
    static char *api_hosts[] = {"api.example"}, *zoo_hosts[] = {"zoo.example"};
    static const struct {
        const char *host, *path, *route;
    } cases[] = {
        {"other.example", "/", "any"},
        {"other.example", "/x/y", "any"},
        {"", "/", "any"},
        {"other.example", "/api", "any-api"},
        {"other.example", "/api/", "any-api-slash"},
        {"other.example", "/api/x", "any-api-slash"},
        {"other.example", "/apix", "any"},
        {"other.example", "/ap", "any"},
        {"other.example", "/static/x", "any-static"},
        {"other.example", "/static", "any"},
        {"other.example", "/staticx", "any"},
        {"other.example", "/static/deep/er", "any-deep"},
        {"other.example", "/static/deep", "any-deep"},
        {"other.example", "/static/deeper", "any-static"},
        {"other.example", "/static/a", "any-static"},
        {"other.example", "/static/z", "any-static"},

        {"shop.example", "/", "shop"},
        {"shop.example", "/static/deep/x", "shop"}, /* the host counts for more than the path */
        {"www.shop.example", "/x", "shop"},
        {"WWW.Shop.EXAMPLE", "/x", "shop"},
        {"shop.example.", "/x", "shop"},
        {"xshop.example", "/x", "any"},
        {"sub.shop.example", "/x", "any"},
        {"shop.exampl", "/x", "any"},
        {"shop.example", "/cart/1", "shop-cart"},

        {"api.example", "/v1/x", "api"},
        {"api.example", "/v2/x", "any"}, /* no route of the host: those of every host */
        {"api.example", "/api/x", "any-api-slash"},

        {"zoo.example", "/v1/x", "zoo"},
        {"zoo.example", "/v1x", "any"}, /* not the "/" of the host before it in order */

        /* Matched as decoded and normalised: another spelling is no way around a route. */
        {"other.example", "/%61pi/x", "any-api-slash"},
        {"other.example", "/x/%2e%2e/api/x", "any-api-slash"},
        {"other.example", "//api//x", "any-api-slash"},
        {"other.example", "/./api/./x", "any-api-slash"},
        {"other.example", "/api/../x", "any"},
        {"other.example", "/api/%2e%2e/static/x", "any-static"},
        {"other.example", "/api%2fx", "400"},
        {"other.example", "/..", "400"},
        {"other.example", "/%zz", "400"},
    };
    struct config_route routes[] = {
        make_route("any-static", NULL, 0, "/static/"),
        make_route("shop", shop_hosts, 2, "/"),
        make_route("any", NULL, 0, "/"),
        make_route("any-api", NULL, 0, "/api"),
        make_route("api", api_hosts, 1, "/v1"),
        make_route("any-api-slash", NULL, 0, "/api/"),
        make_route("shop-cart", shop_hosts, 2, "/cart/"),
        make_route("any-deep", NULL, 0, "/static/deep"),
        make_route("zoo", zoo_hosts, 1, "/v1"),
    };
    struct config config = {
        .routes = routes, .route_count = sizeof routes / sizeof *routes, .max_ranges = 4};
    struct router *router;

    (void)state;
    assert_int_equal(router_new(&config, types, NULL, NULL, &router, NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *name = ask(router, cases[i].host, cases[i].path);
        if (strcmp(name, cases[i].route) != 0)
            print_error("%s %s:\n", cases[i].host, cases[i].path);
        assert_string_equal(name, cases[i].route);
    }
    router_free(router);
}

static void test_no_route(void **state)
{
    static char *hosts[] = {"a.example"};
    struct config_route routes[] = {make_route("a", hosts, 1, "/a")};
    struct config config = {.routes = routes, .route_count = 1};
    static char much[5000];
    struct router *router;

    (void)state;
    assert_int_equal(router_new(&config, types, NULL, NULL, &router, NULL), 0);
    assert_string_equal(ask(router, "a.example", "/a"), "a");
    assert_string_equal(ask(router, "a.example", "/"), "");
    assert_string_equal(ask(router, "a.example", "/b"), "");
    assert_string_equal(ask(router, "b.example", "/a"), "");
    assert_string_equal(ask(router, "", "/a"), "");
    memset(much, 'a', sizeof much - 1);
    assert_string_equal(ask(router, much, "/a"), "");
    much[0] = '/';
    assert_string_equal(ask(router, "a.example", much), "");
    router_free(router);

    config.route_count = 0;
    assert_int_equal(router_new(&config, types, NULL, NULL, &router, NULL), 0);
    assert_string_equal(ask(router, "a.example", "/a"), "");
    router_free(router);
    router_free(NULL);
}

static void test_targets_without_a_path(void **state)
{
    struct config config = {0};
    struct router *router;

    (void)state;
    assert_int_equal(router_new(&config, types, NULL, NULL, &router, NULL), 0);
    assert_non_null(find(router, METHOD_OPTIONS, "a.example", "*"));
    assert_int_equal(answer.status, 204);
    assert_string_equal(buffer_string(&answer.fields), "Allow: GET, HEAD, OPTIONS\r\n");
    assert_non_null(find(router, METHOD_CONNECT, "a.example", ""));
    assert_int_equal(answer.status, 405);
    router_free(router);
}

static void test_refused(void **state)
{
    static char *one[] = {"a.example", "b.example"}, *two[] = {"c.example", "b.example"};
    static char *same[] = {"a.example", "a.example"};
    struct config_route routes[] = {
        make_route("one", one, 2, "/x"),
        make_route("two", two, 2, "/x"),
    };
    struct config config = {.routes = routes, .route_count = 2};
    struct router *router = NULL;
    struct reason reason;

    (void)state;
    assert_int_equal(router_new(&config, types, NULL, NULL, &router, &reason), -EINVAL);
    assert_null(router);
    assert_string_equal(
        reason.text, "[Route one] and [Route two] both have Path=/x of Host=b.example");

    routes[0].host_count = routes[1].host_count = 0;
    assert_int_equal(router_new(&config, types, NULL, NULL, &router, &reason), -EINVAL);
    assert_string_equal(reason.text, "[Route one] and [Route two] both have Path=/x");

    routes[1].path = "/x/";
    routes[1].root = "/nonexistent";
    assert_int_equal(router_new(&config, types, NULL, NULL, &router, &reason), -ENOENT);
    assert_string_equal(reason.text, "[Route two] Root=/nonexistent: No such file or directory");

    routes[1] = make_route("same", same, 2, "/"); /* said twice by one route: no conflict */
    assert_int_equal(router_new(&config, types, NULL, NULL, &router, &reason), 0);
    assert_string_equal(ask(router, "a.example", "/"), "same");
    router_free(router);
}

/* What router_find() should say, the obvious way. */
static const char *expected_route(
    const struct config_route *routes, size_t count, const char *host, const char *path)
{
    for (int any_host = 0; any_host < 2; any_host++) {
        const struct config_route *best = NULL;
        for (size_t i = 0; i < count; i++) {
            const struct config_route *route = &routes[i];
            size_t length = strlen(route->path);
            if (any_host ? route->host_count > 0
                         : route->host_count == 0 || strcmp(route->hosts[0], host) != 0)
                continue;
            if (strncmp(path, route->path, length) != 0)
                continue;
            if (path[length] != '\0' && path[length] != '/' && route->path[length - 1] != '/')
                continue;
            if (!best || length > strlen(best->path))
                best = route;
        }
        if (best)
            return best->name;
    }
    return "";
}

static uint32_t next_random(void)
{
    static uint32_t state = 1;

    state = state * 1664525 + 1013904223; /* the same numbers in every run */
    return state >> 16;
}

static void make_path(char *path, size_t size)
{
    static const char *const pieces[] = {"a", "b", "ab", "ab", "/a", "/a", "/b", "/", "~", "+"};
    unsigned count = next_random() % 8;

    (void)snprintf(path, size, "/");
    for (unsigned i = 0; i < count; i++) {
        const char *piece = pieces[next_random() % 10];
        if (piece[0] == '/' && path[strlen(path) - 1] == '/')
            piece++; /* slashes would be merged */
        (void)snprintf(path + strlen(path), size - strlen(path), "%s", piece);
    }
}

#define ROUTES 250

static void test_against_a_plain_search(void **state)
{
    static char *hosts[][1] = {{"a"}, {"ab"}, {"b"}};
    static char names[ROUTES][8], paths[ROUTES][40];
    static struct config_route routes[ROUTES];
    struct config config = {.routes = routes};
    struct router *router;
    char path[40];

    (void)state;
    for (unsigned tries = 0; config.route_count < ROUTES && tries < 100 * ROUTES; tries++) {
        size_t i = config.route_count;
        unsigned host = next_random() % 4;
        make_path(paths[i], sizeof paths[i]);
        (void)snprintf(names[i], sizeof names[i], "r%zu", i);
        routes[i] = make_route(names[i], host < 3 ? hosts[host] : NULL, host < 3 ? 1 : 0, paths[i]);
        bool duplicate = false;
        for (size_t j = 0; j < i; j++)
            duplicate |= routes[j].hosts == routes[i].hosts && strcmp(paths[j], paths[i]) == 0;
        config.route_count += !duplicate;
    }
    assert_int_equal(config.route_count, ROUTES);
    assert_int_equal(router_new(&config, types, NULL, NULL, &router, NULL), 0);
    for (unsigned turn = 0; turn < 20000; turn++) {
        static const char *const asked[] = {"a", "ab", "b", "c", "aa"};
        const char *host = asked[next_random() % 5];
        make_path(path, sizeof path);
        const char *expected = expected_route(routes, ROUTES, host, path);
        if (strcmp(ask(router, host, path), expected) != 0)
            print_error("%s %s: not %s\n", host, path, expected);
        assert_string_equal(ask(router, host, path), expected);
    }
    router_free(router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_no_route),
        cmocka_unit_test(test_targets_without_a_path),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_against_a_plain_search),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
