#include "handler/files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "exchange.h"

static char base[] = "/tmp/baton-files-XXXXXX";
static const char *const folders[] = {"www", "www/folder", "www/bare", "www/empty.html", "www/two",
    "www/.git", "www/.well-known", "www/odd name?", "www/odd name?/\\host", "www/index-is-folder",
    "www/index-is-folder/index.html"};
static const struct {
    const char *name, *content;
} tree[] = {
    {"secret", "secret"},
    {"www/index.html", "home"},
    {"www/file.txt", "0123456789"},
    {"www/nothing.txt", ""},
    {"www/folder/index.htm", "second choice"},
    {"www/two/index.html", "first"},
    {"www/two/index.htm", "second"},
    {"www/bare/file", "no type"},
    {"www/.hidden", "hidden"},
    {"www/.git/config", "hidden"},
    {"www/.well-known/acme", "challenge"},
    {"www/script.js", "original script"},
    {"www/script.js.gz", "gzipped"},
    {"www/script.js.br", "brotli"},
    {"www/only.css", "original style"},
    {"www/only.css.gz", "gzipped style"},
    {"www/404.html", "<not found>"},
    {"www/405.html", "<not allowed>"},
    {"www/416.html", "<range>"},
    {"www/app.html", "fallback"},
};

/* Sun, 09 Sep 2001 01:46:40 GMT and some nanoseconds. */
static const struct timespec written = {1000000000, 0xabc};
#define ETAG(size) "\"3b9aca00.abc-" size "\""

static char root_path[PATH_MAX];
static char *index_names[] = {"index.html", "index.htm"};
static struct config_error_page error_pages[] = {
    {404, "/404.html"}, {405, "/405.html"}, {416, "/416.html"}, {403, "/no-such-page.html"}};
static struct config_route route; /* each test adds to what set_up() gives it */
static struct media_types *types;
static struct ev_loop *loop;
static struct cache *cache;
static struct files *files;

/* By the clock that files are stamped by, all of them were written just now. */
static time_t now;

/* In the place of libc's. */
time_t time(time_t *ret)
{
    if (ret)
        *ret = now;
    return now;
}

static const char *below(const char *name)
{
    static char path[PATH_MAX];

    (void)snprintf(path, sizeof path, "%s/%s", base, name);
    return path;
}

static void set_time(const char *name, struct timespec time)
{
    const struct timespec times[] = {time, time};

    assert_int_equal(utimensat(AT_FDCWD, below(name), times, 0), 0);
}

static void make_file(const char *name, const char *content)
{
    int fd = open(below(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, content, strlen(content)), 0);
    (void)fd_close(fd);
    set_time(name, written);
}

static int make_tree(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(base));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        assert_int_equal(mkdir(below(folders[i]), 0755), 0);
    for (size_t i = 0; i < sizeof tree / sizeof *tree; i++)
        make_file(tree[i].name, tree[i].content);
    (void)snprintf(root_path, sizeof root_path, "%s", below("www"));
    return media_types_new(
        SPAN("text/html html\ntext/plain txt\ntext/css css\ntext/javascript js\n"), &types);
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
    (void)stat;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int remove_tree(void **state)
{
    (void)state;
    media_types_free(types);
    return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int set_up(void **state)
{
    struct timespec clock;

    (void)state;
    route = (struct config_route){
        .name = "site", .path = "/", .root = root_path, .index = index_names, .index_count = 2};
    answer_init(&answer);
    (void)clock_gettime(CLOCK_REALTIME, &clock);
    now = clock.tv_sec;
    loop = ev_loop_new(0);
    assert_int_equal(cache_new(1 << 20, loop, &cache), 0);
    return files_new(&route, types, 4, cache, &files, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    files_free(files);
    answer_destroy(&answer);
    cache_free(cache);
    ev_loop_destroy(loop);
    return 0;
}

/* Answers the request "METHOD TARGET" with these field lines. */
static void ask(const char *line, const char *fields)
{
    const struct request *request = exchange_request(line, fields);
    struct handler *handler = files_handler(files);

    answer_reset(&answer);
    handler->answer(handler, request, &answer);
    assert_false(answer.failed);
}

static void test_lookup(void **state)
{
    static const struct {
        const char *target;
        unsigned status;
        const char *body;
    } cases[] = {
        {"/file.txt", 200, "0123456789"},
        {"/file.txt?query", 200, "0123456789"},
        {"/%66ile%2etxt", 200, "0123456789"},
        {"//file.txt", 200, "0123456789"},
        {"/folder/../file.txt", 200, "0123456789"},
        {"/nothing.txt", 200, ""},
        {"/", 200, "home"},
        {"/?query", 200, "home"},
        {"/folder/", 200, "second choice"},
        {"/two/", 200, "first"},
        {"/two/.", 200, "first"},
        {"/bare/", 403, "403 Forbidden\n"},
        {"/index-is-folder/", 403, "403 Forbidden\n"},
        {"/empty.html/", 403, "403 Forbidden\n"},
        {"/file.txt/", 404, "404 Not Found\n"},
        {"/none", 404, "404 Not Found\n"},
        {"/none/", 404, "404 Not Found\n"},
        {"/folder/none", 404, "404 Not Found\n"},
        {"/.hidden", 404, "404 Not Found\n"},
        {"/%2ehidden", 404, "404 Not Found\n"},
        {"/.git/config", 404, "404 Not Found\n"},
        {"/.git/", 404, "404 Not Found\n"},
        {"/.git", 404, "404 Not Found\n"},
        {"/.well-known/acme", 200, "challenge"},
        {"/../secret", 400, "400 Bad Request\n"},
        {"/%2e%2e/secret", 400, "400 Bad Request\n"},
        {"/folder%2f..%2ffile.txt", 400, "400 Bad Request\n"},
        {"/file.txt%00", 400, "400 Bad Request\n"},
        {"/%", 400, "400 Bad Request\n"},
    };
    char line[128];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)snprintf(line, sizeof line, "GET %s", cases[i].target);
        ask(line, "");
        if (answer.status != cases[i].status)
            print_error("%s: %u\n", cases[i].target, answer.status);
        assert_int_equal(answer.status, cases[i].status);
        assert_string_equal(exchange_body(), cases[i].body);
    }
}

static void test_long_paths(void **state)
{
    static char line[PATH_MAX + 16];

    (void)state;
    for (size_t length = PATH_MAX - 20; length < PATH_MAX + 4; length++) {
        (void)snprintf(line, sizeof line, "GET /%0*d/", (int)length - 2, 0);
        ask(line, "");
        assert_int_equal(answer.status, 404);
        line[strlen(line) - 1] = '\0';
        ask(line, "");
        assert_int_equal(answer.status, 404);
    }
    /* A folder that exists, where only the name of the index file is too much. */
    memset(line, '/', sizeof line);
    memcpy(line, "GET /two", 8);
    line[4 + PATH_MAX - 1] = '\0';
    ask(line, "");
    assert_int_equal(answer.status, 200); /* slashes are merged first */
}

static void test_configured_fields(void **state)
{
    (void)state;
    ask("GET /file.txt", "");
    assert_field("Content-Type", "text/plain; charset=utf-8");
    assert_field("Cache-Control", NULL);
    assert_field("Vary", NULL);
    ask("GET /bare/file", "");
    assert_field("Content-Type", "application/octet-stream");

    route.cache_control = "max-age=60";
    route.precompressed = true;
    ask("GET /file.txt", "");
    assert_field("Cache-Control", "max-age=60");
    assert_field("Vary", "Accept-Encoding");
    ask("GET /none", "");
    assert_string_equal(exchange_fields(), "Content-Type: text/plain; charset=utf-8\r\n");
}

static void test_outcomes_of_a_file(void **state)
{
    (void)state;
    ask("GET /file.txt", "If-None-Match: *\r\n");
    assert_int_equal(answer.status, 304);
    ask("GET /file.txt", "Range: bytes=0-0,2-2,4-4,6-6\r\n");
    assert_int_equal(answer.status, 206);
    ask("GET /file.txt", "Range: bytes=0-0,2-2,4-4,6-6,8-8\r\n"); /* over the route's limit */
    assert_int_equal(answer.status, 200);
    ask("GET /file.txt", "Range: bytes=10-\r\n");
    assert_int_equal(answer.status, 416);
    assert_string_equal(exchange_body(), "416 Range Not Satisfiable\n");
    assert_field("Content-Range", "bytes */10");
    ask("GET /file.txt", "If-Match: \"other\"\r\n");
    assert_int_equal(answer.status, 412);
    assert_string_equal(exchange_body(), "412 Precondition Failed\n");
    ask("GET /none", "If-Match: *\r\n"); /* nothing there to have conditions on */
    assert_int_equal(answer.status, 404);
}

static void test_head_is_as_get(void **state)
{
    static const char *const targets[] = {
        "/file.txt", "/", "/nothing.txt", "/two", "/none", "/bare/"};
    char line[64], expected[1024];

    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        (void)snprintf(line, sizeof line, "GET %s", targets[i]);
        ask(line, "");
        (void)snprintf(expected, sizeof expected, "%s", exchange_fields());
        unsigned status = answer.status;
        uint64_t length = answer_length(&answer);
        (void)snprintf(line, sizeof line, "HEAD %s", targets[i]);
        ask(line, "Range: bytes=0-0\r\n"); /* means nothing here (RFC 9110 §14.2) */
        assert_int_equal(answer.status, status);
        assert_string_equal(exchange_fields(), expected);
        assert_int_equal(answer_length(&answer), length);
    }
}

static void test_methods(void **state)
{
    static const char *const others[] = {"POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"};
    char line[64];

    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        (void)snprintf(line, sizeof line, "%s /file.txt", others[i]);
        ask(line, "");
        assert_int_equal(answer.status, 405);
        assert_field("Allow", "GET, HEAD, OPTIONS");
        assert_string_equal(exchange_body(), "405 Method Not Allowed\n");
    }
    ask("OPTIONS /file.txt", "");
    assert_int_equal(answer.status, 204);
    assert_string_equal(exchange_fields(), "Allow: GET, HEAD, OPTIONS\r\n");
    assert_int_equal(answer_length(&answer), 0);
}

static void test_redirects(void **state)
{
    static const struct {
        const char *target, *location;
    } cases[] = {
        {"/two", "/two/"},
        {"/two?a=b&c", "/two/?a=b&c"},
        {"/two?", "/two/?"},
        {"/two?//evil.example/", "/two/?//evil.example/"},
        {"//two", "/two/"},
        {"///two", "/two/"},
        {"//evil.example/../two", "/two/"},
        {"/%2ftwo", NULL},
        {"/odd%20name%3F", "/odd%20name%3F/"},
        {"/odd%20name%3F/%5chost", "/odd%20name%3F/%5Chost/"},
        {"http://evil.example/two", "/two/"},
    };
    char line[128];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)snprintf(line, sizeof line, "GET %s", cases[i].target);
        ask(line, "");
        assert_int_equal(answer.status, cases[i].location ? 301 : 400);
        assert_field("Location", cases[i].location);
    }
}

static void test_compressed_siblings(void **state)
{
    static const struct {
        const char *line, *fields;
        unsigned status;
        const char *body, *coding, *etag;
    } cases[] = {
        {"GET /script.js", "", 200, "original script", NULL, ETAG("f")},
        {"GET /script.js", "Accept-Encoding: gzip\r\n", 200, "gzipped", "gzip", ETAG("7-gzip")},
        {"GET /script.js", "Accept-Encoding: gzip, br\r\n", 200, "brotli", "br", ETAG("6-br")},
        {"GET /script.js", "Accept-Encoding: gzip, br;q=0.5\r\n", 200, "gzipped", "gzip",
            ETAG("7-gzip")},
        {"GET /script.js", "Accept-Encoding: gzip;q=0\r\n", 200, "original script", NULL,
            ETAG("f")},
        {"GET /only.css", "Accept-Encoding: br, zstd, gzip\r\n", 200, "gzipped style", "gzip",
            ETAG("d-gzip")},
        {"GET /only.css", "Accept-Encoding: br\r\n", 200, "original style", NULL, ETAG("e")},
        {"GET /script.js", "Accept-Encoding: gzip\r\nIf-None-Match: " ETAG("7-gzip") "\r\n", 304,
            "", NULL, ETAG("7-gzip")},
        {"GET /script.js", "Accept-Encoding: gzip\r\nIf-None-Match: " ETAG("f") "\r\n", 200,
            "gzipped", "gzip", ETAG("7-gzip")},
        {"GET /script.js", "Accept-Encoding: gzip\r\nRange: bytes=1-2\r\n", 206, "zi", "gzip",
            ETAG("7-gzip")},
        {"GET /script.js.gz", "Accept-Encoding: gzip\r\n", 200, "gzipped", NULL, ETAG("7")},
    };

    (void)state;
    route.precompressed = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask(cases[i].line, cases[i].fields);
        assert_int_equal(answer.status, cases[i].status);
        assert_string_equal(exchange_body(), cases[i].body);
        assert_field("Content-Encoding", cases[i].coding);
        assert_field("ETag", cases[i].etag);
        assert_field("Vary", "Accept-Encoding");
        if (cases[i].coding)
            assert_field("Content-Type", strstr(cases[i].line, "js")
                                             ? "text/javascript; charset=utf-8"
                                             : "text/css; charset=utf-8");
    }
    ask("GET /script.js", "Accept-Encoding: gzip\r\nRange: bytes=0-0,-1\r\n");
    assert_field("Content-Encoding", NULL); /* that of the parts */
    assert_non_null(strstr(exchange_body(), "\r\nContent-Encoding: gzip\r\n"));

    route.precompressed = false;
    ask("GET /script.js", "Accept-Encoding: gzip\r\n");
    assert_string_equal(exchange_body(), "original script");
    assert_field("Vary", NULL);
}

static void test_fallback(void **state)
{
    (void)state;
    route.fallback = "/app.html";
    route.error_pages = error_pages;
    route.error_page_count = 4;
    ask("GET /some/page?x", "");
    assert_int_equal(answer.status, 200);
    assert_string_equal(exchange_body(), "fallback");
    assert_field("Content-Type", "text/html; charset=utf-8");
    assert_field("ETag", ETAG("8"));
    ask("GET /some/page", "If-None-Match: " ETAG("8") "\r\n");
    assert_int_equal(answer.status, 304);
    ask("GET /some/page/", "");
    assert_string_equal(exchange_body(), "fallback");
    ask("GET /file.txt", "");
    assert_string_equal(exchange_body(), "0123456789");

    ask("GET /.hidden", "");
    assert_int_equal(answer.status, 404);
    ask("GET /bare/", "");
    assert_int_equal(answer.status, 403);
    ask("POST /some/page", "");
    assert_int_equal(answer.status, 405);

    static char *const wrong[] = {"/none.html", "/two", "/../secret"};
    for (size_t i = 0; i < 3; i++) {
        route.fallback = wrong[i];
        ask("GET /some/page", "");
        assert_int_equal(answer.status, 404);
        assert_string_equal(exchange_body(), "<not found>");
    }
}

static void test_error_pages(void **state)
{
    (void)state;
    route.error_pages = error_pages;
    route.error_page_count = 4;
    route.cache_control = "max-age=60";
    route.precompressed = true;
    ask("GET /none", "Range: bytes=0-0\r\nIf-None-Match: *\r\nAccept-Encoding: gzip\r\n");
    assert_int_equal(answer.status, 404);
    assert_string_equal(exchange_body(), "<not found>");
    assert_string_equal(exchange_fields(), "Content-Type: text/html; charset=utf-8\r\n");

    ask("DELETE /file.txt", "");
    assert_int_equal(answer.status, 405);
    assert_string_equal(exchange_body(), "<not allowed>");
    assert_field("Allow", "GET, HEAD, OPTIONS");

    ask("GET /file.txt", "Range: bytes=10-\r\n");
    assert_int_equal(answer.status, 416);
    assert_string_equal(exchange_body(), "<range>");
    assert_string_equal(exchange_fields(),
        "Content-Type: text/html; charset=utf-8\r\nContent-Range: bytes */10\r\n");

    ask("GET /bare/", ""); /* its page does not exist: not a 404 about the page */
    assert_int_equal(answer.status, 403);
    assert_string_equal(exchange_body(), "403 Forbidden\n");
}

static void test_links(void **state)
{
    (void)state;
    assert_int_equal(symlink("file.txt", below("www/link")), 0);
    assert_int_equal(symlink("../secret", below("www/escape")), 0);
    assert_int_equal(mkfifo(below("www/fifo"), 0644), 0);
    ask("GET /link", "");
    assert_string_equal(exchange_body(), "0123456789");
    ask("GET /escape", "");
    assert_int_equal(answer.status, 404);
    ask("GET /fifo", "");
    assert_int_equal(answer.status, 403);
}

static void test_out_of_fds(void **state)
{
    struct rlimit old, none;

    (void)state;
    route.error_pages = error_pages;
    route.error_page_count = 4;
    answer_reset(&answer);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    ask("GET /file.txt", "");
    unsigned file = answer.status;
    ask("GET /two/", "");
    unsigned index = answer.status;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(file, 503);
    assert_int_equal(index, 503);
}

static int lowest_free_fd(void)
{
    int fd = dup(0);

    (void)fd_close(fd);
    return fd;
}

/* An answer owns one file at the most, and nothing else stays open. */
static void test_nothing_leaks(void **state)
{
    static const char *const requests[][2] = {
        {"GET /file.txt", ""},
        {"GET /file.txt", "If-None-Match: *\r\n"},
        {"GET /file.txt", "If-Match: \"x\"\r\n"},
        {"GET /file.txt", "Range: bytes=99-\r\n"},
        {"GET /file.txt", "Range: bytes=0-0,2-2\r\n"},
        {"GET /script.js", "Accept-Encoding: gzip\r\n"},
        {"GET /script.js", "Accept-Encoding: gzip\r\nIf-None-Match: *\r\n"},
        {"GET /two", ""},
        {"GET /bare/", ""},
        {"GET /none", ""},
        {"POST /file.txt", ""},
    };
    int lowest = lowest_free_fd();

    (void)state;
    route.precompressed = true;
    route.error_pages = error_pages;
    route.error_page_count = 4;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        ask(requests[i][0], requests[i][1]);
        answer_reset(&answer);
        assert_int_equal(lowest_free_fd(), lowest);
    }
}

/* Now they are settled, and held. */
static void let_settle(void)
{
    now += 10;
}

/* What a client gets in this second and in the next one. */
static void check_held(const char *line, const char *fields, unsigned status, const char *body,
    unsigned next_status, const char *next_body)
{
    ask(line, fields);
    assert_int_equal(answer.status, status);
    assert_string_equal(exchange_body(), body);
    now++;
    ask(line, fields);
    assert_int_equal(answer.status, next_status);
    assert_string_equal(exchange_body(), next_body);
}

static void test_held_for_a_second(void **state)
{
    (void)state;
    let_settle();
    make_file("www/held.txt", "old");
    ask("GET /held.txt", "");
    assert_true(answer.file >= 0);
    ask("GET /held.txt", "");
    assert_int_equal(answer.file, -1);

    make_file("www/new", "new"); /* of the same size and time */
    assert_int_equal(rename(below("www/new"), strdupa(below("www/held.txt"))), 0);
    check_held("GET /held.txt", "", 200, "old", 200, "new");
    make_file("www/held.txt", "changed in place");
    check_held("GET /held.txt", "", 200, "new", 200, "changed in place");
    assert_int_equal(truncate(below("www/held.txt"), 7), 0);
    check_held("GET /held.txt", "", 200, "changed in place", 200, "changed");
    check_held("GET /held.txt", "", 200, "changed", 200, "changed");
    assert_int_equal(answer.file, -1); /* looked up again, and still the same */
    assert_int_equal(unlink(below("www/held.txt")), 0);
    check_held("GET /held.txt", "", 200, "changed", 404, "404 Not Found\n");
    make_file("www/held.txt", "back"); /* that there is nothing is not held */
    ask("GET /held.txt", "");
    assert_string_equal(exchange_body(), "back");
    assert_int_equal(unlink(below("www/held.txt")), 0);
}

/* Of a large file only what is said of it is held, and that is never old. */
static void test_held_fields(void **state)
{
    static char content[CACHE_FILE_MAX + 2];
    char etag[512];

    (void)state;
    let_settle();
    memset(content, 'x', sizeof content - 1);
    make_file("www/large.txt", content);
    for (int i = 0; i < 3; i++) {
        ask("GET /large.txt", "");
        assert_int_equal(answer.status, 200);
        assert_true(answer.file >= 0);
        assert_int_equal(answer_length(&answer), sizeof content - 1);
        assert_field("Content-Type", "text/plain; charset=utf-8");
        now += i;
    }
    (void)snprintf(etag, sizeof etag, "%s", exchange_field("ETag"));
    make_file("www/large.txt", content + 1);
    ask("GET /large.txt", "");
    assert_int_equal(answer_length(&answer), sizeof content - 2);
    assert_string_not_equal(exchange_field("ETag"), etag);
    assert_int_equal(unlink(below("www/large.txt")), 0);
}

/* A larger file stays open within the second in which its path led to it. */
static void test_held_open(void **state)
{
    static char content[CACHE_FILE_MAX + 3];

    (void)state;
    let_settle();
    memset(content, 'x', sizeof content - 1);
    make_file("www/large.txt", content);
    for (int i = 0; i < 2; i++) {
        ask("GET /large.txt", "");
        assert_true(answer.file >= 0);
        assert_int_equal(
            answer.lent, i > 0); /* it is the second time that shows what is asked for */
        ask("HEAD /large.txt", "");
        ask("GET /large.txt", "Range: bytes=-2\r\n");
        assert_true(answer.lent);
        assert_string_equal(exchange_body(), "xx");
        now++;
    }
    now--;
    make_file("www/large.txt", content + 1); /* in place: head and body are of the same content */
    ask("GET /large.txt", "");
    assert_int_equal(answer_length(&answer), sizeof content - 2);
    make_file("www/large.txt", content);
    ask("GET /large.txt", "");
    assert_int_equal(answer_length(&answer), sizeof content - 1);
    assert_int_equal(unlink(below("www/large.txt")), 0);
}

static void test_held_beneath_what_changes(void **state)
{
    (void)state;
    let_settle();
    assert_int_equal(mkdir(below("www/1"), 0755), 0);
    assert_int_equal(mkdir(below("www/2"), 0755), 0);
    make_file("www/1/file", "one");
    make_file("www/2/file", "two");
    assert_int_equal(symlink("1", below("www/current")), 0);
    ask("GET /current/file", "");
    assert_int_equal(symlink("2", below("www/next")), 0);
    assert_int_equal(rename(below("www/next"), strdupa(below("www/current"))), 0);
    check_held("GET /current/file", "", 200, "one", 200, "two");
    assert_int_equal(rename(below("www/2"), strdupa(below("www/gone"))), 0);
    check_held("GET /current/file", "", 200, "two", 404, "404 Not Found\n");
    assert_int_equal(rename(below("www/gone"), strdupa(below("www/2"))), 0);
    ask("GET /current/file", "");
    assert_int_equal(unlink(below("www/current")), 0);
    assert_int_equal(symlink("../..", below("www/current")), 0); /* out of the root */
    check_held("GET /current/file", "", 200, "two", 404, "404 Not Found\n");
    assert_int_equal(unlink(below("www/current")), 0);
}

/* A new root is served as a whole, however much of the old one is in memory. */
static void test_held_of_another_root(void **state)
{
    (void)state;
    let_settle();
    make_file("www/file", "old root");
    ask("GET /file", "");
    assert_int_equal(rename(below("www"), strdupa(below("old"))), 0);
    assert_int_equal(mkdir(below("www"), 0755), 0);
    make_file("www/file", "new root");
    check_held("GET /file", "", 200, "old root", 200, "new root");
    ask("GET /file.txt", "");
    assert_int_equal(answer.status, 404);
    assert_int_equal(unlink(below("www/file")), 0);
    assert_int_equal(rmdir(below("www")), 0);
    assert_int_equal(rename(below("old"), strdupa(below("www"))), 0);
}

static void test_held_answers_as_from_disk(void **state)
{
    static const char *const fields[] = {"", "Range: bytes=1-2\r\n", "Range: bytes=99-\r\n",
        "Range: bytes=0-0,2-2\r\n", "If-None-Match: *\r\n", "If-Match: \"x\"\r\n",
        "If-None-Match: " ETAG("a") "\r\n", "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n",
        "If-Range: \"x\"\r\nRange: bytes=1-2\r\n"};
    static const char *const targets[] = {"GET /file.txt", "HEAD /file.txt", "GET /nothing.txt",
        "GET /two/", "GET /script.js", "GET /none"};
    char expected[1024], first[4096];

    (void)state;
    let_settle();
    route.precompressed = true;
    route.cache_control = "no-cache";
    route.fallback = "/app.html";
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        for (size_t j = 0; j < sizeof targets / sizeof *targets; j++) {
            now++; /* the first answer is from disk: nothing was found in this second */
            cache_free(cache);
            assert_int_equal(cache_new(1 << 20, NULL, &cache), 0);
            files_free(files);
            assert_int_equal(files_new(&route, types, 4, cache, &files, NULL), 0);
            ask(targets[j], fields[i]);
            unsigned status = answer.status;
            (void)snprintf(expected, sizeof expected, "%s", exchange_fields());
            (void)snprintf(first, sizeof first, "%s", exchange_body());
            ask(targets[j], "");
            assert_int_equal(answer.status, 200);
            ask(targets[j], fields[i]);
            assert_int_equal(answer.status, status);
            if (strstr(expected, "boundary=")) /* which is another one each time */
                continue;
            assert_string_equal(exchange_fields(), expected);
            assert_string_equal(exchange_body(), first);
            assert_int_equal(answer.file, -1);
        }
    }
}

static void test_held_siblings(void **state)
{
    (void)state;
    let_settle();
    route.precompressed = true;
    for (int i = 0; i < 2; i++) {
        ask("GET /script.js", "Accept-Encoding: br\r\n");
        assert_string_equal(exchange_body(), "brotli");
        assert_field("Content-Encoding", "br");
        assert_field("Content-Type", "text/javascript; charset=utf-8");
        ask("GET /script.js.br", "");
        assert_string_equal(exchange_body(), "brotli");
        assert_field("Content-Encoding", NULL);
        ask("GET /script.js", "");
        assert_string_equal(exchange_body(), "original script");
        assert_field("Content-Encoding", NULL);
        ask("GET /script.js", "Accept-Encoding: gzip\r\n");
        assert_string_equal(exchange_body(), "gzipped");
    }
    assert_int_equal(answer.file, -1);
    make_file("www/new", "better");
    assert_int_equal(rename(below("www/new"), strdupa(below("www/script.js.br"))), 0);
    check_held("GET /script.js", "Accept-Encoding: br\r\n", 200, "brotli", 200, "better");
    make_file("www/script.js.br", "brotli");
}

static void test_root_is_closed(void **state)
{
    int lowest = lowest_free_fd();
    struct files *other;

    (void)state;
    assert_int_equal(files_new(&route, types, 4, cache, &other, NULL), 0);
    assert_int_not_equal(lowest_free_fd(), lowest);
    files_free(other);
    files_free(NULL);
    assert_int_equal(lowest_free_fd(), lowest);
}

static void test_missing_root(void **state)
{
    struct files *none = NULL;
    struct reason reason;

    (void)state;
    route.root = "/nonexistent/www";
    assert_int_equal(files_new(&route, types, 4, cache, &none, &reason), -ENOENT);
    assert_null(none);
    assert_string_equal(
        reason.text, "[Route site] Root=/nonexistent/www: No such file or directory");
    route.root = "/etc/passwd";
    assert_int_equal(files_new(&route, types, 4, cache, &none, &reason), -ENOTDIR);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lookup),
        TEST(test_long_paths),
        TEST(test_configured_fields),
        TEST(test_outcomes_of_a_file),
        TEST(test_head_is_as_get),
        TEST(test_methods),
        TEST(test_redirects),
        TEST(test_compressed_siblings),
        TEST(test_fallback),
        TEST(test_error_pages),
        TEST(test_links),
        TEST(test_out_of_fds),
        TEST(test_nothing_leaks),
        TEST(test_held_for_a_second),
        TEST(test_held_fields),
        TEST(test_held_open),
        TEST(test_held_beneath_what_changes),
        TEST(test_held_of_another_root),
        TEST(test_held_answers_as_from_disk),
        TEST(test_held_siblings),
        TEST(test_root_is_closed),
        TEST(test_missing_root),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
