#include "handler/representation.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/fd.h"
#include "exchange.h"

/* Some nanoseconds after this date. */
static const struct timespec written = {1000000000, 0xabc};
#define MODIFIED "Sun, 09 Sep 2001 01:46:40 GMT"
#define BEFORE "Sun, 09 Sep 2001 01:46:39 GMT"
#define AFTER "Sun, 09 Sep 2001 01:46:41 GMT"
#define ETAG(size) "\"3b9aca00.abc-" size "\""

static struct representation original; /* what ask() answers with a copy of */
static size_t max_ranges;

static void use_file(const char *content, struct timespec time)
{
    const struct timespec times[] = {time, time};

    representation_close(&original);
    original.fd = memfd_create("representation", MFD_CLOEXEC);
    assert_true(original.fd >= 0);
    assert_int_equal(fd_write_all(original.fd, content, strlen(content)), 0);
    assert_int_equal(futimens(original.fd, times), 0);
    assert_int_equal(fstat(original.fd, &original.stat), 0);
}

static int set_up(void **state)
{
    (void)state;
    original = (struct representation){.fd = -1, .media_type = "text/plain; charset=utf-8"};
    max_ranges = 4;
    use_file("0123456789", written);
    answer_init(&answer);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    representation_close(&original);
    answer_destroy(&answer);
    return 0;
}

/* Returns the status, of the answer or for the caller to answer with. */
static int ask(const char *method, const char *fields)
{
    char line[64];

    (void)snprintf(line, sizeof line, "%s /", method);
    const struct request *request = exchange_request(line, fields);
    CLEANUP_REPRESENTATION struct representation representation = original;
    representation.fd = fcntl(original.fd, F_DUPFD_CLOEXEC, 0);
    answer_reset(&answer);
    int r = representation_answer(&representation, request, max_ranges, time(NULL), &answer);
    assert_false(answer.failed);
    assert_true(representation.fd == -1 || answer.file == -1); /* one of them owns it */
    if (r != 0)
        assert_int_equal(answer_length(&answer) + answer.fields.length, 0);
    return r != 0 ? r : (int)answer.status;
}

/* All fields, in full. */
static void test_fields(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", ""), 200);
    assert_string_equal(exchange_fields(), "Content-Type: text/plain; charset=utf-8\r\n"
                                           "ETag: " ETAG("a") "\r\n"
                                                              "Last-Modified: " MODIFIED "\r\n"
                                                              "Accept-Ranges: bytes\r\n");

    original.cache_control = "max-age=60";
    original.negotiated = true;
    original.coding = "gzip";
    assert_int_equal(ask("GET", ""), 200);
    assert_string_equal(exchange_fields(), "Content-Type: text/plain; charset=utf-8\r\n"
                                           "Content-Encoding: gzip\r\n"
                                           "ETag: " ETAG("a-gzip") "\r\n"
                                                                   "Cache-Control: max-age=60\r\n"
                                                                   "Vary: Accept-Encoding\r\n"
                                                                   "Last-Modified: " MODIFIED "\r\n"
                                                                   "Accept-Ranges: bytes\r\n");
    assert_string_equal(exchange_body(), "0123456789");

    assert_int_equal(ask("GET", "Range: bytes=2-4\r\n"), 206);
    assert_string_equal(exchange_fields(),
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Encoding: gzip\r\n"
        "ETag: " ETAG("a-gzip") "\r\n"
                                "Cache-Control: max-age=60\r\n"
                                "Vary: Accept-Encoding\r\n"
                                "Last-Modified: " MODIFIED "\r\n"
                                "Accept-Ranges: bytes\r\n"
                                "Content-Range: bytes 2-4/10\r\n");
    assert_string_equal(exchange_body(), "234");

    assert_int_equal(ask("GET", "If-None-Match: " ETAG("a-gzip") "\r\n"), 304);
    assert_string_equal(exchange_fields(), "ETag: " ETAG("a-gzip") "\r\n"
                                                                   "Cache-Control: max-age=60\r\n"
                                                                   "Vary: Accept-Encoding\r\n");
    assert_int_equal(answer_length(&answer), 0);
    assert_int_equal(answer.file, -1);
}

static void test_conditions(void **state)
{
    static const struct {
        const char *fields;
        int status;
    } cases[] = {
        {"If-None-Match: " ETAG("a") "\r\n", 304},
        {"If-None-Match: W/" ETAG("a") "\r\n", 304},
        {"If-None-Match: \"other\", " ETAG("a") "\r\n", 304},
        {"If-None-Match: *\r\n", 304},
        {"If-None-Match: \"other\"\r\n", 200},
        {"If-None-Match: \"other\"\r\nIf-Modified-Since: " MODIFIED "\r\n", 200},
        {"If-Modified-Since: " MODIFIED "\r\n", 304},
        {"If-Modified-Since: " AFTER "\r\n", 304},
        {"If-Modified-Since: " BEFORE "\r\n", 200},
        {"If-Match: " ETAG("a") "\r\n", 200},
        {"If-Match: *\r\n", 200},
        {"If-Match: \"other\"\r\n", 412},
        {"If-Unmodified-Since: " MODIFIED "\r\n", 200},
        {"If-Unmodified-Since: " BEFORE "\r\n", 412},
        {"If-Match: \"other\"\r\nRange: bytes=0-0\r\n", 412},
        {"If-None-Match: " ETAG("a") "\r\nRange: bytes=0-0\r\n", 304},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = ask("GET", cases[i].fields);
        if (status != cases[i].status)
            print_error("%s: %d\n", cases[i].fields, status);
        assert_int_equal(status, cases[i].status);
        assert_int_equal(ask("HEAD", cases[i].fields), status);
    }
}

static void test_single_ranges(void **state)
{
    static const struct {
        const char *fields;
        int status;
        const char *body, *content_range;
    } cases[] = {
        {"Range: bytes=0-0\r\n", 206, "0", "bytes 0-0/10"},
        {"Range: bytes=2-4\r\n", 206, "234", "bytes 2-4/10"},
        {"Range: bytes=7-\r\n", 206, "789", "bytes 7-9/10"},
        {"Range: bytes=-3\r\n", 206, "789", "bytes 7-9/10"},
        {"Range: bytes=0-99\r\n", 206, "0123456789", "bytes 0-9/10"},
        {"Range: bytes=1-2,3-4\r\n", 206, "1234", "bytes 1-4/10"},
        {"Range: bytes=1-2,50-\r\n", 206, "12", "bytes 1-2/10"},
        {"Range: bytes=10-\r\n", 416, "", NULL}, {"Range: lines=1-2\r\n", 200, "0123456789", NULL},
        {"Range: bytes=4-2\r\n", 200, "0123456789", NULL},
        {"Range: bytes=0-0\r\nRange: bytes=1-1\r\n", 200, "0123456789", NULL},
        {"Range: bytes=0-0\r\nIf-Range: " ETAG("a") "\r\n", 206, "0", "bytes 0-0/10"},
        {"Range: bytes=0-0\r\nIf-Range: W/" ETAG("a") "\r\n", 200, "0123456789", NULL},
        {"Range: bytes=0-0\r\nIf-Range: \"other\"\r\n", 200, "0123456789", NULL},
        {"Range: bytes=0-0\r\nIf-Range: " MODIFIED "\r\n", 206, "0", "bytes 0-0/10"},
        {"Range: bytes=0-0\r\nIf-Range: " AFTER "\r\n", 200, "0123456789", NULL},
        {"Range: bytes=99-\r\nIf-Range: \"other\"\r\n", 200, "0123456789", NULL},
        {"Range: bytes=0-8,9-9,0-5\r\n", 206, "0123456789", "bytes 0-9/10"},
        /* Bytes asked for twice: more than there is to send. */
        {"Range: bytes=0-4,6-9,0-4\r\n", 200, "0123456789", NULL},
        {"Range: bytes=0-0,2-2,4-4,6-6,8-8\r\n", 200, "0123456789", NULL}, /* over the limit */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = ask("GET", cases[i].fields);
        if (status != cases[i].status)
            print_error("%s: %d\n", cases[i].fields, status);
        assert_int_equal(status, cases[i].status);
        assert_string_equal(exchange_body(), cases[i].body);
        assert_field("Content-Range", cases[i].content_range);
        if (status == 206) /* RFC 9110 §14.2: for GET alone */
            assert_int_equal(ask("HEAD", cases[i].fields), 200);
    }
}

static void test_empty_file(void **state)
{
    (void)state;
    use_file("", written);
    assert_int_equal(ask("GET", ""), 200);
    assert_string_equal(exchange_body(), "");
    assert_int_equal(ask("GET", "Range: bytes=0-\r\n"), 416);
    assert_int_equal(ask("GET", "Range: bytes=-5\r\n"), 200);
}

static void test_many_ranges(void **state)
{
    static const char start[] = "multipart/byteranges; boundary=";
    char boundary[64], expected[1024];

    (void)state;
    original.coding = "br";
    assert_int_equal(ask("GET", "Range: bytes=0-1,4-5,-1\r\n"), 206);
    const char *type = exchange_field("Content-Type");
    assert_memory_equal(type, start, strlen(start));
    (void)snprintf(boundary, sizeof boundary, "%.60s", type + strlen(start));
    assert_int_equal(strlen(boundary), 32);
    (void)snprintf(expected, sizeof expected,
        "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Encoding: br\r\n"
        "Content-Range: bytes 0-1/10\r\n\r\n01"
        "\r\n--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Encoding: br\r\n"
        "Content-Range: bytes 4-5/10\r\n\r\n45"
        "\r\n--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Encoding: br\r\n"
        "Content-Range: bytes 9-9/10\r\n\r\n9"
        "\r\n--%s--\r\n",
        boundary, boundary, boundary, boundary);
    assert_string_equal(exchange_body(), expected);
    assert_field("Content-Range", NULL); /* RFC 9110 §15.3.7.2 */
    assert_field("Content-Encoding", NULL);
    assert_field("ETag", ETAG("a-br"));

    original.coding = NULL;
    assert_int_equal(ask("GET", "Range: bytes=0-1,4-5\r\n"), 206);
    assert_null(strstr(exchange_body(), "Content-Encoding"));
    assert_null(strstr(exchange_field("Content-Type"), boundary)); /* another one each time */
}

/* As many ranges as the highest limit allows fit in an answer. */
static void test_most_ranges(void **state)
{
    char content[2 * REPRESENTATION_RANGES_MAX + 1], range[1024], last[1100];
    size_t length = 0;

    (void)state;
    memset(content, 'x', sizeof content - 1);
    content[sizeof content - 1] = '\0';
    use_file(content, written);
    max_ranges = 1000;
    for (int i = 0; i < REPRESENTATION_RANGES_MAX; i++)
        length += (size_t)snprintf(range + length, sizeof range - length, "%s%d-%d",
            i == 0 ? "Range: bytes=" : ",", 2 * i, 2 * i);
    (void)snprintf(last, sizeof last, "%s\r\n", range);
    assert_int_equal(ask("GET", last), 206);
    assert_int_equal(answer.part_count, 2 * REPRESENTATION_RANGES_MAX + 1);
    (void)snprintf(last, sizeof last, "%s,127-127\r\n", range); /* touches the one before it */
    assert_int_equal(ask("GET", last), 206);
    (void)snprintf(last, sizeof last, "%s,0-0\r\n", range);
    assert_int_equal(ask("GET", last), 200);
}

static void test_entity_tags(void **state)
{
    const struct timespec second = {1000000000, 0};
    char first[512];

    (void)state;
    /* Tools set whole seconds: the same one, and the same size, for another content. */
    use_file("one", second);
    int one = fcntl(original.fd, F_DUPFD_CLOEXEC, 0); /* keeps its inode number */
    assert_int_equal(ask("GET", ""), 200);
    (void)snprintf(first, sizeof first, "%s", exchange_field("ETag"));
    assert_memory_equal(first, "\"3b9aca00.0-3-", 14);
    use_file("two", second);
    assert_int_equal(ask("GET", ""), 200);
    assert_string_not_equal(exchange_field("ETag"), first);
    (void)fd_close(one);

    /* A copy with its times, as on another machine. */
    use_file("one", written);
    assert_int_equal(ask("GET", ""), 200);
    assert_field("ETag", ETAG("3"));
    use_file("one", written);
    assert_int_equal(ask("GET", ""), 200);
    assert_field("ETag", ETAG("3"));

    use_file("two", (struct timespec){written.tv_sec, written.tv_nsec + 1});
    assert_int_equal(ask("GET", ""), 200);
    assert_field("ETag", "\"3b9aca00.abd-3\"");
    use_file("three", written);
    assert_int_equal(ask("GET", ""), 200);
    assert_field("ETag", ETAG("5"));
}

static void test_extreme_times(void **state)
{
    (void)state;
    use_file("x", (struct timespec){4102444800, 5}); /* 2100 */
    assert_int_equal(ask("GET", ""), 200);
    assert_null(strstr(exchange_field("Last-Modified"), " 2100 ")); /* RFC 9110 §8.8.2.1 */
    assert_field("ETag", "\"f4865700.5-1\"");
    use_file("x", (struct timespec){-1, 5});
    assert_int_equal(ask("GET", ""), 200);
    assert_field("Last-Modified", "Wed, 31 Dec 1969 23:59:59 GMT");
    assert_field("ETag", "\"ffffffffffffffff.5-1\"");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_fields),
        TEST(test_conditions),
        TEST(test_single_ranges),
        TEST(test_empty_file),
        TEST(test_many_ranges),
        TEST(test_most_ranges),
        TEST(test_entity_tags),
        TEST(test_extreme_times),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
