#include "handler/cache.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

#define FIELDS SPAN("Content-Type: text/plain\r\n")

static const int routes[2]; /* only their addresses matter */
static struct cache *cache;
static time_t later; /* when what the tests write is settled */

static int set_up(void **state)
{
    (void)state;
    later = time(NULL) + 1000;
    return cache_new(64 * 1024, NULL, &cache);
}

static int tear_down(void **state)
{
    (void)state;
    cache_free(cache);
    return 0;
}

static struct cache_key key_of(const char *path)
{
    return (struct cache_key){.route = &routes[0], .path = span_of(path)};
}

static struct representation make_file(size_t size)
{
    static char content[CACHE_FILE_MAX + 1];
    struct representation file = {
        .fd = memfd_create("cache", MFD_CLOEXEC),
        .media_type = "text/plain",
        .validators = {.modified = 7, .etag = "\"tag\""},
    };

    assert_true(file.fd >= 0);
    for (size_t i = 0; i < size; i++)
        content[i] = "0123456789"[i % 10];
    assert_int_equal(fd_write_all(file.fd, content, size), 0);
    assert_int_equal(fstat(file.fd, &file.stat), 0);
    return file;
}

static void add(const struct cache_key *key, size_t size)
{
    CLEANUP_REPRESENTATION struct representation file = make_file(size);

    cache_add(cache, key, file.fd, &file, FIELDS, later);
}

static void test_holds_all_of_it(void **state)
{
    CLEANUP_REPRESENTATION struct representation file = make_file(10);
    char path[] = "/a";
    struct cache_key key = key_of(path);

    (void)state;
    assert_null(cache_find(cache, &key));
    cache_add(cache, &key, file.fd, &file, FIELDS, later);
    path[1] = 'x'; /* it has a copy */
    key = key_of("/a");
    struct cached *cached = cache_find(cache, &key);
    assert_non_null(cached);
    assert_int_equal(cached->checked, later);
    assert_string_equal(cached->media_type, "text/plain");
    assert_string_equal(cached->validators.etag, "\"tag\"");
    assert_int_equal(cached->validators.modified, 7);
    assert_true(span_equal(cached->fields, FIELDS));
    assert_true(span_equal(cached->content, SPAN("0123456789")));
    assert_true(cached_is_same(cached, &file.stat));
    cache_drop(cache, cached);
    assert_null(cache_find(cache, &key));
    assert_int_equal(cache_used(cache), 0);
}

static void test_nothing_is_a_content_too(void **state)
{
    struct cache_key key = key_of("/empty");

    (void)state;
    add(&key, 0);
    assert_non_null(cache_find(cache, &key));
    assert_non_null(cache_find(cache, &key)->content.at);
    assert_int_equal(cache_find(cache, &key)->content.length, 0);
}

static void test_all_of_the_key_counts(void **state)
{
    static const char gzip[] = "gzip";
    const struct cache_key keys[] = {
        {&routes[0], NULL, SPAN("/a")},
        {&routes[1], NULL, SPAN("/a")},
        {&routes[0], gzip, SPAN("/a")},
        {&routes[0], NULL, SPAN("/ab")},
    };

    (void)state;
    for (size_t i = 0; i < 4; i++)
        add(&keys[i], i);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(cache_find(cache, &keys[i])->content.length, i);
}

static void test_what_is_not_held(void **state)
{
    struct cache_key key = key_of("/a");

    (void)state;
    later -= 1000; /* written just now */
    add(&key, 10);
    assert_null(cache_find(cache, &key));

    later += 1000; /* its time is not over */
    CLEANUP_REPRESENTATION struct representation file = make_file(10);
    struct timespec times[] = {{later, 0}, {later, 0}};
    assert_int_equal(futimens(file.fd, times), 0);
    assert_int_equal(fstat(file.fd, &file.stat), 0);
    cache_add(cache, &key, file.fd, &file, FIELDS, later);
    assert_null(cache_find(cache, &key));

    add(&key, CACHE_FILE_MAX);
    assert_non_null(cache_find(cache, &key)->content.at);
}

static void test_of_larger_ones_the_fields(void **state)
{
    struct cache_key key = key_of("/large");

    (void)state;
    add(&key, CACHE_FILE_MAX + 1);
    const struct cached *cached = cache_find(cache, &key);
    assert_non_null(cached);
    assert_null(cached->content.at);
    assert_true(span_equal(cached->fields, FIELDS));
    assert_in_range(cache_used(cache), 1, 1000);
}

/* It is looked at before and after it is read. */
static void test_a_file_that_changes_meanwhile(void **state)
{
    struct cache_key key = key_of("/a");
    CLEANUP_REPRESENTATION struct representation file = make_file(10);

    (void)state;
    assert_int_equal(ftruncate(file.fd, 5), 0);
    cache_add(cache, &key, file.fd, &file, FIELDS, later);
    assert_null(cache_find(cache, &key));
    assert_int_equal(ftruncate(file.fd, 10), 0);
    file.stat.st_ctim.tv_nsec ^= 1;
    cache_add(cache, &key, file.fd, &file, FIELDS, later);
    assert_null(cache_find(cache, &key));
    assert_int_equal(cache_used(cache), 0);
}

static void test_whatever_changed_shows(void **state)
{
    struct cache_key key = key_of("/a");
    CLEANUP_REPRESENTATION struct representation file = make_file(10);

    (void)state;
    cache_add(cache, &key, file.fd, &file, FIELDS, later);
    const struct cached *cached = cache_find(cache, &key);
    struct stat changed[6];
    for (size_t i = 0; i < 6; i++)
        changed[i] = file.stat;
    changed[0].st_dev++;
    changed[1].st_ino++;
    changed[2].st_size++;
    changed[3].st_mtim.tv_nsec ^= 1;
    changed[4].st_ctim.tv_nsec ^= 1;
    changed[5].st_ctim.tv_sec++;
    for (size_t i = 0; i < 6; i++)
        assert_false(cached_is_same(cached, &changed[i]));
}

/* What was used last stays. */
static void test_the_bound(void **state)
{
    char path[16];
    struct cache_key key, first = key_of("/first");
    size_t held = 0;

    (void)state;
    add(&first, 1000);
    for (int i = 0; i < 200; i++) {
        (void)snprintf(path, sizeof path, "/%d", i);
        key = key_of(path);
        add(&key, 1000);
        assert_true(cache_used(cache) <= 64 * 1024);
        assert_non_null(cache_find(cache, &key));
        assert_non_null(cache_find(cache, &first));
    }
    for (int i = 0; i < 200; i++) {
        (void)snprintf(path, sizeof path, "/%d", i);
        key = key_of(path);
        held += cache_find(cache, &key) != NULL;
    }
    assert_in_range(held, 30, 63); /* of 1,000 bytes and what is known of them */
    key = key_of("/0");
    assert_null(cache_find(cache, &key));
}

/* Has the file of @key opened, and returns what the cache holds then. */
static struct cached *keep_open(const struct cache_key *key)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    add(key, CACHE_FILE_MAX + 1);
    struct cached *cached = cache_find(cache, key);
    assert_non_null(cached);
    cache_keep_open(cache, cached, &fd);
    assert_int_equal(fd_close(fd), -1);
    return cached;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_larger_ones_stay_open_for_a_while(void **state)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct cache_key first = key_of("/first"), second = key_of("/second");

    (void)state;
    assert_int_equal(keep_open(&first)->fd, -1); /* it has no loop */
    cache_free(cache);
    assert_int_equal(cache_new(64 * 1024, loop, &cache), 0);
    struct cached *cached = keep_open(&first);
    int fd = cached->fd, other = fcntl(fd, F_DUPFD_CLOEXEC, 0), dropped;
    assert_true(is_open(fd));
    cache_keep_open(cache, cached, &other); /* the path led to it again */
    assert_int_equal(other, -1);
    assert_false(is_open(fd));
    fd = cached->fd;
    assert_true(is_open(fd));
    dropped = keep_open(&second)->fd;
    assert_true(is_open(dropped));
    cache_drop(cache, cache_find(cache, &second));
    assert_false(is_open(dropped));
    double before = ev_time();
    while (cached->fd >= 0 && ev_run(loop, EVRUN_ONCE))
        ;
    assert_int_equal(cached->fd, -1);
    assert_false(is_open(fd));
    assert_true(ev_time() - before > 0.9 * CACHE_OPEN_SECONDS);
    fd = keep_open(&second)->fd;
    assert_true(is_open(fd));
    cache_free(cache);
    assert_false(is_open(fd));
    ev_loop_destroy(loop);
    cache = NULL;
}

static void test_so_many_are_open(void **state)
{
    struct ev_loop *loop = ev_loop_new(0);
    char path[16];

    (void)state;
    cache_free(cache);
    assert_int_equal(cache_new(1 << 20, loop, &cache), 0);
    for (int i = 0; i < 2 * CACHE_OPEN_MAX; i++) {
        (void)snprintf(path, sizeof path, "/%d", i);
        struct cache_key key = key_of(path);
        assert_int_equal(keep_open(&key)->fd >= 0, i < CACHE_OPEN_MAX);
    }
    cache_free(cache);
    ev_loop_destroy(loop);
    cache = NULL;
}

static void test_no_room_at_all(void **state)
{
    struct cache_key key = key_of("/a");

    (void)state;
    cache_free(cache);
    assert_int_equal(cache_new(0, NULL, &cache), 0);
    add(&key, 0);
    assert_null(cache_find(cache, &key));
    cache_free(NULL);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_holds_all_of_it),
        TEST(test_nothing_is_a_content_too),
        TEST(test_all_of_the_key_counts),
        TEST(test_what_is_not_held),
        TEST(test_of_larger_ones_the_fields),
        TEST(test_a_file_that_changes_meanwhile),
        TEST(test_whatever_changed_shows),
        TEST(test_the_bound),
        TEST(test_larger_ones_stay_open_for_a_while),
        TEST(test_so_many_are_open),
        TEST(test_no_room_at_all),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
