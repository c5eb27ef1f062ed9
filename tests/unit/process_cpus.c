#include "process/cpus.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* How many CPUs the affinity mask allows, and no cgroup takes any away: both are simulated. */
static int affinity;

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    (void)pid;
    if (affinity < 0)
        return -1;
    CPU_ZERO_S(size, set);
    for (int i = 0; i < affinity; i++)
        CPU_SET_S((size_t)(2 * i), size, set); /* not the first ones, and not side by side */
    return 0;
}

static const char *cgroup;   /* what /proc/self/cgroup says */
static const char *files[4]; /* "PATH CONTENT" of every cpu.max there is; NULL: no more */

/* A file of that content; NULL where there is none. */
static FILE *open_text(const char *text)
{
    return text ? fmemopen((void *)text, strlen(text), "r") : NULL;
}

FILE *fopen(const char *restrict path, const char *restrict mode)
{
    static const char root[] = "/sys/fs/cgroup";

    assert_string_equal(mode, "re");
    if (strcmp(path, "/proc/self/cgroup") == 0)
        return open_text(cgroup);
    assert_memory_equal(path, root, strlen(root));
    path += strlen(root);
    for (size_t i = 0; i < 4 && files[i]; i++) {
        size_t length = strlen(path);
        if (strncmp(files[i], path, length) == 0 && files[i][length] == ' ')
            return open_text(files[i] + length + 1);
    }
    return NULL;
}

static const struct {
    int affinity;
    const char *cgroup, *files[4];
    unsigned cpus;
} rows[] = {
    /* the affinity mask alone */
    {8, NULL, {NULL}, 8},
    {1, NULL, {NULL}, 1},
    {-1, NULL, {NULL}, 1}, /* more CPUs than cpu_set_t holds */
    {0, NULL, {NULL}, 1},
    {8, "0::/a/b\n", {NULL}, 8},
    /* a quota */
    {8, "0::/a\n", {"/a/cpu.max max 100000\n"}, 8},
    {8, "0::/a\n", {"/a/cpu.max 200000 100000\n"}, 2},
    {8, "0::/a\n", {"/a/cpu.max 200001 100000\n"}, 3}, /* rounded up */
    {8, "0::/a\n", {"/a/cpu.max 150000 100000\n"}, 2},
    {8, "0::/a\n", {"/a/cpu.max 1000 100000\n"}, 1},
    {8, "0::/a\n", {"/a/cpu.max 900000 100000\n"}, 8},
    {8, "0::/a\n", {"/a/cpu.max 18446744073709551615 1000\n"}, 8},
    {8, "0::/a\n", {"/b/cpu.max 200000 100000\n"}, 8}, /* of another one */
    /* and of the cgroups above */
    {8, "0::/a/b/c\n", {"/a/cpu.max 300000 100000\n"}, 3},
    {8, "0::/a/b/c\n", {"/a/b/c/cpu.max 500000 100000\n", "/a/cpu.max 300000 100000\n"}, 3},
    {8, "0::/a/b/c\n", {"/a/b/c/cpu.max 200000 100000\n", "/a/cpu.max 300000 100000\n"}, 2},
    {8, "0::/a\n", {"/cpu.max 400000 100000\n"}, 4}, /* a container's own root */
    {8, "0::/\n", {"/cpu.max 400000 100000\n"}, 4},
    /* hybrid: the hierarchy of cgroup v2 is not the only one */
    {8, "12:cpu,cpuacct:/x\n1:name=systemd:/y\n0::/a\n", {"/a/cpu.max 200000 100000\n"}, 2},
    {8, "12:cpu,cpuacct:/x\n", {"/x/cpu.max 200000 100000\n"}, 8},
    /* nonsense */
    {8, "0::/a\n", {"/a/cpu.max 200000 0\n"}, 8},
    {8, "0::/a\n", {"/a/cpu.max 0 100000\n"}, 1},
    {8, "0::/a\n", {"/a/cpu.max \n"}, 8},
    {8, "0::/a\n", {"/a/cpu.max 200000\n"}, 8},
    {8, "0::a\n", {"a/cpu.max 200000 100000\n"}, 8},
    {8, "\n", {NULL}, 8},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        affinity = rows[i].affinity;
        cgroup = rows[i].cgroup;
        memcpy(files, rows[i].files, sizeof files);
        unsigned cpus = cpus_usable();
        if (cpus != rows[i].cpus)
            fail_msg("row %zu (%s): %u", i, cgroup ? cgroup : "no cgroup", cpus);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
