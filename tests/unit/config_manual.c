#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "config/config.h"
#include "config/keys.h"

/*
 * What people read about the keys, held against the table of keys: baton.conf(5), and the
 * configuration that is installed. Run from the top of the source tree.
 */
#define PAGE "packaging/man/baton.conf.5"
#define INSTALLED "packaging/baton.conf"

static char *read_whole(const char *path)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length;
    char *text;

    if (fd < 0)
        fail_msg("cannot open %s: is this the top of the source tree?", path);
    assert_int_equal(fd_read_all(fd, 1024 * 1024, &text, &length), 0);
    return text;
}

/* The keys that a page says there are, each as "[Section] Key=: how its text ends". */
static void list_page(char *page, struct buffer *list)
{
    char section[32] = "", key[32] = "", ending[100];

    for (char *line = strtok(page, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, ".Sh ", 4) == 0)
            section[0] = key[0] = '\0';
        else if (sscanf(line, ".Ss [%31[A-Za-z]", section) == 1)
            key[0] = '\0';
        else if (sscanf(line, ".It Ic %31[^=]", key) == 1)
            assert_int_equal(buffer_printf(list, "[%s] %s=: ", section, key), 0);
        else if (sscanf(line, "Default: %99[^\n]", ending) == 1)
            assert_int_equal(buffer_printf(list, "Default: %s\n", ending), 0);
    }
}

static void list_table(struct buffer *list)
{
    for (size_t i = 0; i < CONFIG_SECTION_TYPES; i++) {
        const struct config_section_info *info = &config_section_infos[i];
        for (size_t j = 0; j < info->key_count; j++) {
            const struct config_key *key = &info->keys[j];
            const char *value = key->inherited ? "that of [Server]" : key->default_value;
            assert_int_equal(buffer_printf(list, "[%s] %s=: Default: %s", info->type, key->name,
                                 value ? value : "none"),
                0);
            if (key->minimum)
                assert_int_equal(
                    buffer_printf(list, "; from %s to %s", key->minimum, key->maximum), 0);
            assert_int_equal(buffer_append_string(list, ".\n"), 0);
        }
    }
}

/* Each key, in the order of the table, with its true default and range; and no other. */
static void test_page(void **state)
{
    CLEANUP_BUFFER struct buffer found = {0}, expected = {0};
    char *page = read_whole(PAGE);

    (void)state;
    list_page(page, &found);
    list_table(&expected);
    assert_string_equal(buffer_string(&found), buffer_string(&expected));
    free(page);
}

/* Lines "#Key=value" of [Server]: every key, commented out, with its default. */
static void test_installed_defaults(void **state)
{
    CLEANUP_BUFFER struct buffer found = {0}, expected = {0};
    const struct config_section_info *server = &config_section_infos[CONFIG_SERVER];
    char *text = read_whole(INSTALLED);

    (void)state;
    *strstr(text, "[Listen ") = '\0'; /* [Server] is the first section */
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (line[0] == '#' && line[1] != ' ')
            assert_int_equal(buffer_printf(&found, "%s\n", line), 0);
    for (size_t i = 0; i < server->key_count; i++) {
        const char *value = server->keys[i].default_value;
        assert_int_equal(
            buffer_printf(&expected, "#%s=%s\n", server->keys[i].name, value ? value : ""), 0);
    }
    assert_string_equal(buffer_string(&found), buffer_string(&expected));
    free(text);
}

/* The configuration is valid as installed, and with everything that is commented out. */
static void test_installed_is_valid(void **state)
{
    char *text = read_whole(INSTALLED);

    (void)state;
    char *site = strstr(text, "@site@"); /* an absolute path once installed */
    assert_non_null(site);
    *site = '/';
    for (int uncommented = 0; uncommented <= 1; uncommented++) {
        CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};
        CLEANUP_CONFIG struct config *config = NULL;
        CLEANUP_BUFFER struct buffer problems = {0};
        for (char *c = text; uncommented && *c; c++)
            if (c[0] == '#' && c[1] != ' ')
                c[0] = ' ';
        assert_int_equal(config_sources_add(&sources, INSTALLED, text), 0);
        (void)config_parse(&sources, &config, &problems);
        assert_string_equal(buffer_string(&problems), "");
        assert_int_equal(config->listen_count, 2);
        assert_string_equal(config->listens[0].name, "http");
        assert_string_equal(config->listens[1].name, "admin");
        assert_true(config->listens[1].admin);
        assert_int_equal(config->drain_timeout_usec, 25000000);
        assert_int_equal(config->upstream_count, uncommented);
    }
    free(text);
}

/* The text of the next example, cut off *page; NULL: there is none. */
static char *next_example(char **page)
{
    static const char begin[] = ".Bd -literal -offset indent\n", end[] = ".Ed\n";
    char *text = strstr(*page, begin);

    if (!text)
        return NULL;
    text += strlen(begin);
    *page = strstr(text, end);
    assert_non_null(*page);
    *(*page)++ = '\0';
    return text;
}

/* All examples are valid; the last one is a drop-in of the one before. */
static void test_examples(void **state)
{
    char *page = read_whole(PAGE), *rest = page, *text = next_example(&rest), *next;

    (void)state;
    for (; text; text = next) {
        CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};
        CLEANUP_CONFIG struct config *config = NULL;
        CLEANUP_BUFFER struct buffer problems = {0};
        next = next_example(&rest);
        assert_int_equal(config_sources_add(&sources, PAGE, text), 0);
        if (next && !strstr(next, "[Listen")) {
            assert_int_equal(config_sources_add(&sources, "drop-in", next), 0);
            next = NULL;
        }
        (void)config_parse(&sources, &config, &problems);
        assert_string_equal(buffer_string(&problems), "");
    }
    assert_null(next_example(&rest));
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_installed_defaults),
        cmocka_unit_test(test_installed_is_valid),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
