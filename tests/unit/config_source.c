#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "config/source.h"

/* Each test runs in an empty folder of its own, and names files relative to it. */
static int enter_folder(void **state)
{
    char *folder = strdup("/tmp/baton-source-XXXXXX");

    *state = folder;
    return folder && mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int leave_folder(void **state)
{
    int r = chdir("/");

    r |= nftw(*state, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return r;
}

static void write_file(const char *path, const char *bytes, size_t length)
{
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, bytes, length), 0);
}

static void write_text(const char *path, const char *text)
{
    write_file(path, text, strlen(text));
}

static void refuses(int error, const char *text)
{
    struct config_sources sources = {.count = 77};
    struct reason reason;

    assert_int_equal(config_sources_read("b.conf", &sources, &reason), error);
    assert_string_equal(reason.text, text);
    assert_int_equal(sources.count, 77); /* untouched */
}

static void test_main_file_alone(void **state)
{
    CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};

    (void)state;
    write_text("b.conf", "[Server]\n");
    assert_int_equal(config_sources_read("b.conf", &sources, NULL), 0);
    assert_int_equal(sources.count, 1);
    assert_string_equal(sources.items[0].name, "b.conf");
    assert_string_equal(sources.items[0].text, "[Server]\n");
}

static void test_drop_ins_by_bytes(void **state)
{
    static const char *const expected[] = {
        "b.conf", "b.conf.d/10-b.conf", "b.conf.d/9.conf", "b.conf.d/B.conf", "b.conf.d/a.conf"};
    CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};

    (void)state;
    write_text("b.conf", "");
    assert_int_equal(mkdir("b.conf.d", 0700), 0);
    for (size_t i = 5; i-- > 1;)
        write_text(expected[i], expected[i]);
    write_text("b.conf.d/.hidden.conf", "no");
    write_text("b.conf.d/backup.conf~", "no");
    write_text("b.conf.d/conf", "no");
    write_text("b.conf.d/.conf", "no");
    assert_int_equal(config_sources_read("b.conf", &sources, NULL), 0);
    assert_int_equal(sources.count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(sources.items[i].name, expected[i]);
        assert_string_equal(sources.items[i].text, i == 0 ? "" : expected[i]);
    }
}

static void test_masked_drop_in(void **state)
{
    CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};

    (void)state;
    write_text("b.conf", "x");
    assert_int_equal(mkdir("b.conf.d", 0700), 0);
    assert_int_equal(symlink("/dev/null", "b.conf.d/a.conf"), 0);
    assert_int_equal(config_sources_read("b.conf", &sources, NULL), 0);
    assert_int_equal(sources.count, 2);
    assert_string_equal(sources.items[1].text, "");
}

static void test_missing(void **state)
{
    (void)state;
    refuses(-ENOENT, "b.conf: No such file or directory");
}

static void test_folder_is_no_folder(void **state)
{
    (void)state;
    write_text("b.conf", "");
    write_text("b.conf.d", "");
    refuses(-ENOTDIR, "b.conf.d: Not a directory");
}

static void test_drop_in_is_a_folder(void **state)
{
    (void)state;
    write_text("b.conf", "");
    assert_int_equal(mkdir("b.conf.d", 0700), 0);
    assert_int_equal(mkdir("b.conf.d/x.conf", 0700), 0);
    refuses(-EISDIR, "b.conf.d/x.conf: Is a directory");
}

static void test_broken_link(void **state)
{
    (void)state;
    write_text("b.conf", "");
    assert_int_equal(mkdir("b.conf.d", 0700), 0);
    assert_int_equal(symlink("nowhere", "b.conf.d/x.conf"), 0);
    write_text("b.conf.d/y.conf", "");
    refuses(-ENOENT, "b.conf.d/x.conf: No such file or directory");
}

static void test_nul(void **state)
{
    (void)state;
    write_file("b.conf", "a\0b", 3);
    refuses(-EINVAL, "b.conf: holds a NUL byte, so it is not text");
    write_file("b.conf", "a\0", 2);
    refuses(-EINVAL, "b.conf: holds a NUL byte, so it is not text");
}

static void test_size_limit(void **state)
{
    size_t limit = 1024 * 1024;
    CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};
    char *bytes = malloc(limit + 1);

    (void)state;
    assert_non_null(bytes);
    memset(bytes, '#', limit + 1);
    write_file("b.conf", bytes, limit + 1);
    refuses(-EFBIG, "b.conf: over 1 MiB, which no configuration is");
    write_file("b.conf", bytes, limit);
    free(bytes);
    assert_int_equal(config_sources_read("b.conf", &sources, NULL), 0);
    assert_int_equal(strlen(sources.items[0].text), limit);
}

static void test_add_copies(void **state)
{
    CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};
    char name[] = "command line", text[] = "[Server]";

    (void)state;
    assert_int_equal(config_sources_add(&sources, name, text), 0);
    assert_int_equal(config_sources_add(&sources, "two", ""), 0);
    name[0] = text[0] = '?';
    assert_int_equal(sources.count, 2);
    assert_string_equal(sources.items[0].name, "command line");
    assert_string_equal(sources.items[0].text, "[Server]");
    config_sources_clear(&sources);
    assert_int_equal(sources.count, 0);
    assert_null(sources.items);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_main_file_alone),
        IN_FOLDER(test_drop_ins_by_bytes),
        IN_FOLDER(test_masked_drop_in),
        IN_FOLDER(test_missing),
        IN_FOLDER(test_folder_is_no_folder),
        IN_FOLDER(test_drop_in_is_a_folder),
        IN_FOLDER(test_broken_link),
        IN_FOLDER(test_nul),
        IN_FOLDER(test_size_limit),
        cmocka_unit_test(test_add_copies),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
