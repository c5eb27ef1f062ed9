#include "handler/root.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

/*
 * The tree, in a folder of its own:
 *     secret                      outside of the root
 *     www/                        the root
 */
static char base[] = "/tmp/baton-root-XXXXXX";
static const char *const folders[] = {"www", "www/dir", "www/dir/sub", "www/closed", "www/passed"};
static const struct {
    const char *name, *content;
} files[] = {
    {"secret", "secret"},
    {"www/file", "file"},
    {"www/empty", ""},
    {"www/dir/inner", "inner"},
    {"www/dir/sub/deep", "deep"},
    {"www/closed/file", "never read"},
    {"www/passed/file", "passed"},
    {"www/unreadable", "never read"},
    {"www/na\\me\n", "odd"},
};
static const struct {
    const char *name, *target;
} links[] = {
    {"www/to-file", "file"},
    {"www/to-dir", "dir"},
    {"www/to-dir-slash", "dir/"},
    {"www/to-inner", "dir/inner"},
    {"www/to-file-slash", "file/"},
    {"www/dir/up-to-file", "../file"},
    {"www/dir/sub/up-twice", "../../file"},
    {"www/dir/sub/around", "../.././to-dir/./sub/../inner"},
    {"www/dir/to-root", ".."},
    {"www/dangling", "nothing"},
    {"www/loop", "loop"},
    {"www/loop-a", "loop-b"},
    {"www/loop-b", "loop-a"},
    {"www/out", "../secret"},
    {"www/out-and-in", "../www/file"},
    {"www/dir/out", "../../secret"},
    {"www/absolute", "/etc/passwd"},
    {"www/absolute-file", "/file"},
    {"www/through-file", "file/../file"},
};

static const struct {
    const char *path;
    int outcome;
    const char *content; /* of a file */
} cases[] = {
    {"/file", ROOT_FILE, "file"},
    {"file", ROOT_FILE, "file"},
    {"//file", ROOT_FILE, "file"},
    {"/empty", ROOT_FILE, ""},
    {"/dir/inner", ROOT_FILE, "inner"},
    {"/dir//inner", ROOT_FILE, "inner"},
    {"/dir/./inner", ROOT_FILE, "inner"},
    {"/./dir/.//./inner", ROOT_FILE, "inner"},
    {"/dir/sub/deep", ROOT_FILE, "deep"},
    {"/dir/../file", ROOT_FILE, "file"},
    {"/dir/./../file", ROOT_FILE, "file"},
    {"/dir/sub/../../file", ROOT_FILE, "file"},
    {"/dir//sub//..//inner", ROOT_FILE, "inner"},
    {"/na\\me\n", ROOT_FILE, "odd"},

    {"/", ROOT_FOLDER, NULL},
    {"", ROOT_FOLDER, NULL},
    {"/.", ROOT_FOLDER, NULL},
    {"/dir", ROOT_FOLDER, NULL},
    {"/dir/", ROOT_FOLDER, NULL},
    {"/dir/.", ROOT_FOLDER, NULL},
    {"/dir/..", ROOT_FOLDER, NULL},
    {"/dir/sub//", ROOT_FOLDER, NULL},

    {"/nothing", ROOT_NOT_FOUND, NULL},
    {"/nothing/file", ROOT_NOT_FOUND, NULL},
    {"/nothing/../file", ROOT_NOT_FOUND, NULL},
    {"/nothing/", ROOT_NOT_FOUND, NULL},
    {"/file/", ROOT_NOT_FOUND, NULL},
    {"/file/.", ROOT_NOT_FOUND, NULL},
    {"/file/..", ROOT_NOT_FOUND, NULL},
    {"/file/more", ROOT_NOT_FOUND, NULL},

    {"/..", ROOT_NOT_FOUND, NULL},
    {"/../secret", ROOT_NOT_FOUND, NULL},
    {"/dir/../../secret", ROOT_NOT_FOUND, NULL},
    {"/dir/../../www/file", ROOT_NOT_FOUND, NULL},

    {"/to-file", ROOT_FILE, "file"},
    {"/to-file/", ROOT_NOT_FOUND, NULL},
    {"/to-file-slash", ROOT_NOT_FOUND, NULL},
    {"/to-dir", ROOT_FOLDER, NULL},
    {"/to-dir/", ROOT_FOLDER, NULL},
    {"/to-dir-slash", ROOT_FOLDER, NULL},
    {"/to-dir/inner", ROOT_FILE, "inner"},
    {"/to-dir-slash/inner", ROOT_FILE, "inner"},
    {"/to-inner", ROOT_FILE, "inner"},
    {"/to-dir/../file", ROOT_FILE, "file"},
    {"/dir/up-to-file", ROOT_FILE, "file"},
    {"/to-dir/up-to-file", ROOT_FILE, "file"},
    {"/dir/sub/up-twice", ROOT_FILE, "file"},
    {"/to-dir/sub/up-twice", ROOT_FILE, "file"},
    {"/dir/sub/around", ROOT_FILE, "inner"},
    {"/dir/to-root", ROOT_FOLDER, NULL},
    {"/dir/to-root/file", ROOT_FILE, "file"},
    {"/dir/to-root/../secret", ROOT_NOT_FOUND, NULL},
    {"/dangling", ROOT_NOT_FOUND, NULL},
    {"/dangling/", ROOT_NOT_FOUND, NULL},
    {"/loop", ROOT_NOT_FOUND, NULL},
    {"/loop-a", ROOT_NOT_FOUND, NULL},
    {"/loop-a/file", ROOT_NOT_FOUND, NULL},
    {"/out", ROOT_NOT_FOUND, NULL},
    {"/out-and-in", ROOT_NOT_FOUND, NULL},
    {"/dir/out", ROOT_NOT_FOUND, NULL},
    {"/absolute", ROOT_NOT_FOUND, NULL},
    {"/absolute-file", ROOT_NOT_FOUND, NULL},
    {"/through-file", ROOT_NOT_FOUND, NULL},

    {"/chain40", ROOT_FILE, "file"},
    {"/chain41", ROOT_NOT_FOUND, NULL},

    {"/fifo", ROOT_FORBIDDEN, NULL},
    {"/socket", ROOT_FORBIDDEN, NULL},
    {"/fifo/", ROOT_NOT_FOUND, NULL},
    {"/fifo/file", ROOT_NOT_FOUND, NULL},
};

/* What permissions decide; run without the rights of root. */
static const struct {
    const char *path;
    int outcome;
} permission_cases[] = {
    {"/file", ROOT_FILE},
    {"/unreadable", ROOT_FORBIDDEN},
    {"/closed", ROOT_FOLDER},
    {"/closed/", ROOT_FOLDER},
    {"/closed/file", ROOT_FORBIDDEN},
    {"/closed/nothing", ROOT_FORBIDDEN},
    {"/passed", ROOT_FOLDER},
    {"/passed/", ROOT_FOLDER},
    {"/passed/file", ROOT_FILE},
    {"/passed/nothing", ROOT_NOT_FOUND},
};

static struct root root;

static void below(const char *name, char path[static PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%s/%s", base, name);
}

static void make_file(const char *path, const char *content)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, content, strlen(content)), 0);
    (void)fd_close(fd);
}

static void make_special_files(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char path[PATH_MAX];

    below("www/fifo", path);
    assert_int_equal(mkfifo(path, 0644), 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%.60s/www/socket", base);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    (void)fd_close(fd);
}

/* chain1 is a link to "file", chainN one to chainN-1. */
static void make_chain(void)
{
    char path[PATH_MAX], name[32], target[32] = "file";

    for (int i = 1; i <= 41; i++) {
        (void)snprintf(name, sizeof name, "www/chain%d", i);
        below(name, path);
        assert_int_equal(symlink(target, path), 0);
        (void)snprintf(target, sizeof target, "chain%d", i);
    }
}

static int set_up(void **state)
{
    char path[PATH_MAX];

    (void)state;
    (void)umask(022);
    assert_non_null(mkdtemp(base));
    assert_int_equal(chmod(base, 0755), 0);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        below(folders[i], path);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        below(files[i].name, path);
        make_file(path, files[i].content);
    }
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        below(links[i].name, path);
        assert_int_equal(symlink(links[i].target, path), 0);
    }
    make_chain();
    make_special_files();
    below("www", path);
    assert_int_equal(root_init(&root, path), 0);
    return 0;
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
    (void)stat;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    root_destroy(&root);
    return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int lowest_free_fd(void)
{
    int fd = dup(0);

    (void)fd_close(fd);
    return fd;
}

static void check_case(const struct root *way, size_t i)
{
    int lowest = lowest_free_fd(), fd = -1;
    struct stat stat = {0};
    char content[16] = "";
    int outcome = root_open(way, cases[i].path, &fd, &stat);

    if (outcome != cases[i].outcome)
        print_error("%s \"%s\": %d\n", way->walk ? "walk" : "openat2", cases[i].path, outcome);
    assert_int_equal(outcome, cases[i].outcome);
    if (outcome == ROOT_FILE) {
        assert_true(S_ISREG(stat.st_mode));
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_int_equal(read(fd, content, sizeof content - 1), stat.st_size);
        assert_string_equal(content, cases[i].content);
        fd = fd_close(fd);
    }
    if (outcome == ROOT_FOLDER)
        assert_true(S_ISDIR(stat.st_mode));
    assert_int_equal(fd, -1);
    assert_int_equal(lowest_free_fd(), lowest); /* nothing else is left open */
}

static void test_both_ways_agree(void **state)
{
    (void)state;
    (void)alarm(60); /* an open that blocks on the FIFO must not hold up the whole run */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!root.walk) /* openat2(2) is allowed where the test runs */
            check_case(&root, i);
        check_case(&(struct root){.fd = root.fd, .walk = true}, i);
    }
    (void)alarm(0);
}

static void test_permissions(void **state)
{
    uid_t uid = geteuid();
    char path[PATH_MAX];

    (void)state;
    below("www/unreadable", path);
    assert_int_equal(chmod(path, 0), 0);
    below("www/closed", path);
    assert_int_equal(chmod(path, 0), 0);
    below("www/passed", path);
    assert_int_equal(chmod(path, 0111), 0);
    if (uid == 0 && seteuid(65534) < 0)
        skip();
    for (size_t i = 0; i < sizeof permission_cases / sizeof *permission_cases; i++)
        for (int walk = root.walk; walk < 2; walk++) {
            struct root way = {.fd = root.fd, .walk = walk};
            struct stat stat;
            int fd = -1;
            int outcome = root_open(&way, permission_cases[i].path, &fd, &stat);
            (void)fd_close(fd);
            if (outcome != permission_cases[i].outcome)
                print_error("walk=%d %s: %d\n", walk, permission_cases[i].path, outcome);
            assert_int_equal(outcome, permission_cases[i].outcome);
        }
    if (uid == 0)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(path, 0755), 0);
    below("www/closed", path);
    assert_int_equal(chmod(path, 0755), 0);
}

static void test_lengths(void **state)
{
    char path[PATH_MAX + 8];
    struct stat stat;
    int fd = -1;

    (void)state;
    for (int walk = root.walk; walk < 2; walk++) {
        struct root way = {.fd = root.fd, .walk = walk};
        memset(path, 'x', sizeof path);
        path[NAME_MAX + 1] = '\0'; /* a name one too long */
        assert_int_equal(root_open(&way, path, &fd, &stat), ROOT_NOT_FOUND);
        for (size_t length = PATH_MAX - 4; length < PATH_MAX + 4; length++) {
            memset(path, '/', sizeof path);
            memcpy(path, "dir", 3);
            path[length] = '\0';
            assert_int_equal(root_open(&way, path, &fd, &stat),
                length < PATH_MAX ? ROOT_FOLDER : ROOT_NOT_FOUND);
        }
    }
}

static void test_device(void **state)
{
    struct root devices;
    struct stat stat;
    int fd = -1;

    (void)state;
    assert_int_equal(root_init(&devices, "/dev"), 0);
    assert_int_equal(root_open(&devices, "/null", &fd, &stat), ROOT_FORBIDDEN);
    devices.walk = true;
    assert_int_equal(root_open(&devices, "/null", &fd, &stat), ROOT_FORBIDDEN);
    root_destroy(&devices);
}

static void test_out_of_fds(void **state)
{
    struct rlimit old, none;
    struct stat stat;
    int fd = -1, lowest = lowest_free_fd();

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){.rlim_cur = (rlim_t)lowest, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int first = root_open(&root, "/file", &fd, &stat);
    struct root way = {.fd = root.fd, .walk = true};
    int second = root_open(&way, "/dir/inner", &fd, &stat);
    int third = root_open(&way, "/", &fd, &stat);
    none.rlim_cur++; /* one fd: enough for a step, not for two */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int fourth = root_open(&way, "/dir/inner", &fd, &stat);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(first, -EMFILE);
    assert_int_equal(second, -EMFILE);
    assert_int_equal(third, -EMFILE);
    assert_int_equal(fourth, -EMFILE);
    assert_int_equal(fd, -1);
    assert_int_equal(lowest_free_fd(), lowest);
}

static void test_refused_roots(void **state)
{
    struct root other;
    char path[PATH_MAX];

    (void)state;
    below("nothing", path);
    assert_int_equal(root_init(&other, path), -ENOENT);
    below("secret", path);
    assert_int_equal(root_init(&other, path), -ENOTDIR);
}

/* A child under a filter as systemd's RestrictSUIDSGID= (ENOSYS) or a container's (EPERM). */
static int open_under_filter(int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    struct root filtered;
    struct stat stat;
    char path[PATH_MAX];
    int fd = -1;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        return 2;
    below("www", path);
    if (root_init(&filtered, path) < 0 || !filtered.walk)
        return 3;
    return root_open(&filtered, "/to-dir/sub/up-twice", &fd, &stat) == ROOT_FILE ? 0 : 4;
}

static void test_sandbox(void **state)
{
    static const int errors[] = {ENOSYS, EPERM, EACCES};
    int status;

    (void)state;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(open_under_filter(errors[i]));
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 2)
            skip(); /* a kernel without seccomp(2) */
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

/*
 * Another process keeps swapping a directory on the way for a link that leads out, and moves a
 * directory out of the root and back. Whatever a lookup meets, it must never come out with the
 * secret.
 */
static void swap_forever(void)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    assert_int_equal(chdir(base), 0);
    for (;;) {
        (void)syscall(SYS_renameat2, AT_FDCWD, "www/swap", AT_FDCWD, "www/swap-link", 2);
        (void)rename("www/moving/sub", "sub");
        (void)rename("sub", "www/moving/sub");
    }
}

static void test_races_do_not_lead_out(void **state)
{
    static const char *const paths[] = {
        "/swap/secret", "/moving/sub/../secret", "/moving/sub/link"};
    static const char *const made[] = {"www/swap", "www/moving", "www/moving/sub"};
    char path[PATH_MAX], content[16];
    struct stat stat;
    int fd = -1;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        below(made[i], path);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    below("www/swap-link", path);
    assert_int_equal(symlink("..", path), 0);
    below("www/moving/sub/link", path);
    assert_int_equal(symlink("../../../secret", path), 0);
    below("www/swap/secret", path);
    make_file(path, "public");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        swap_forever();
    for (unsigned turn = 0; turn < 30000; turn++) {
        struct root way = {.fd = root.fd, .walk = root.walk || turn % 2};
        int outcome = root_open(&way, paths[turn / 2 % 3], &fd, &stat);
        if (outcome != ROOT_FILE)
            continue;
        ssize_t length = read(fd, content, sizeof content);
        fd = fd_close(fd);
        assert_int_equal(length, 6);
        assert_memory_equal(content, "public", 6);
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* A folder put in the root's place is served from the next second on; while there is none, the old.
 */
static void test_refresh(void **state)
{
    char folder[PATH_MAX], other[PATH_MAX], moved[PATH_MAX];
    struct root swapped;
    struct stat status;
    int fd;

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/swapped", base);
    (void)snprintf(other, sizeof other, "%s/other", base);
    (void)snprintf(moved, sizeof moved, "%s/moved", base);
    assert_int_equal(mkdir(folder, 0755), 0);
    assert_int_equal(mkdir(other, 0755), 0);
    assert_int_equal(root_init(&swapped, folder), 0);
    fd = openat(swapped.fd, "old", O_CREAT | O_WRONLY, 0644);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(rename(folder, moved), 0);
    root_refresh(&swapped, 1);
    assert_int_equal(root_open(&swapped, "old", &fd, &status), ROOT_FILE);
    close(fd);
    assert_int_equal(rename(other, folder), 0);
    root_refresh(&swapped, 1); /* in the same second: not looked for */
    assert_int_equal(root_open(&swapped, "old", &fd, &status), ROOT_FILE);
    close(fd);
    root_refresh(&swapped, 2);
    assert_int_equal(root_open(&swapped, "old", &fd, &status), ROOT_NOT_FOUND);
    root_destroy(&swapped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways_agree),
        cmocka_unit_test(test_permissions),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_out_of_fds),
        cmocka_unit_test(test_refused_roots),
        cmocka_unit_test(test_sandbox),
        cmocka_unit_test(test_races_do_not_lead_out),
        cmocka_unit_test(test_refresh),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
