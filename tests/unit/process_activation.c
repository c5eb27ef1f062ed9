#include "process/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "fds.h"
#include "process/inbox.h"

#define FIRST 3 /* SD_LISTEN_FDS_START */

static char folder[64], path[80];
static struct activation activation;
static struct reason reason;
static struct config config;
static struct config_listen listens[4];
static struct address addresses[8];
static size_t address_count;

static int set_up(void **state)
{
    (void)state;
    (void)strcpy(folder, "/tmp/process_activation.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof path, "unix:%s/a.sock", folder);
    activation = (struct activation){.stored = {-1, -1}};
    config = (struct config){.listens = listens};
    address_count = 0;
    reason.text[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    activation_close(&activation);
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    (void)unsetenv("LISTEN_PID");
    (void)unlink(path + strlen("unix:"));
    return rmdir(folder);
}

/* A [Listen NAME] with these addresses: none, one, or two. */
static void add_listen(const char *name, const char *first, const char *second)
{
    struct config_listen *listen = &listens[config.listen_count++];

    *listen = (struct config_listen){.name = (char *)name, .addresses = addresses + address_count};
    for (int i = 0; i < 2; i++) {
        const char *text = i == 0 ? first : second;
        if (!text)
            continue;
        assert_int_equal(address_parse(text, &addresses[address_count++], NULL), 0);
        listen->address_count++;
    }
}

static void forget_listens(void)
{
    config.listen_count = address_count = 0;
}

/* An address that no other test has: every process has its own part of 127.0.0.0/8. */
static const char *free_address(void)
{
    static char texts[8][ADDRESS_TEXT_MAX];
    static unsigned next;
    unsigned pid = (unsigned)getpid(), number = next++;
    char *text = texts[number % 8];

    (void)snprintf(text, ADDRESS_TEXT_MAX, "127.%u.%u.%u:4242", 1 + pid / 250 % 250, 1 + pid % 250,
        1 + number % 250);
    return text;
}

static void assert_socket(size_t index, const char *name, const char *text, bool ours)
{
    const struct activation_socket *socket = &activation.sockets[index];
    char bound_text[ADDRESS_TEXT_MAX];
    struct address bound;
    int listening = 0;
    socklen_t length = sizeof listening;

    assert_string_equal(socket->name, name);
    assert_int_equal(socket->ours, ours);
    assert_int_equal(address_of_socket(socket->fd, &bound), 0);
    assert_string_equal(address_format(&bound, bound_text), text);
    assert_int_equal(fcntl(socket->fd, F_GETFD), FD_CLOEXEC);
    assert_true(fcntl(socket->fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(getsockopt(socket->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length), 0);
    assert_int_equal(listening, 1);
}

/* Whether somebody listens there. */
static bool answers(const char *text)
{
    struct address address;

    assert_int_equal(address_parse(text, &address, NULL), 0);
    CLEANUP_FD int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, &address.any, address.length) == 0;
}

static void test_bind(void **state)
{
    const char *port = free_address();
    char ours[ACTIVATION_SOCKETS_MAX + 1];

    (void)state;
    add_listen("http", port, path);
    add_listen("abstract", "unix:@baton-test-activation", NULL);
    assert_int_equal(activation_bind(&activation, &config, &reason), 0);
    assert_int_equal(activation.count, 3);
    assert_socket(0, "http", port, true);
    assert_socket(1, "http", path, true);
    assert_socket(2, "abstract", "unix:@baton-test-activation", true);
    activation_ours(&activation, ours);
    assert_string_equal(ours, "111");
    assert_int_equal(activation_end(&activation), FIRST + 3);
    /* They have sockets now. */
    assert_int_equal(activation_bind(&activation, &config, &reason), 0);
    assert_int_equal(activation.count, 3);
    activation_close(&activation);
    assert_int_equal(activation.count, 0);
    assert_false(answers(port));
    assert_int_equal(access(path + 5, F_OK), -1); /* its file went with it */
}

static void test_bind_fails(void **state)
{
    const char *port = free_address(), *taken;

    (void)state;
    add_listen("http", port, NULL);
    assert_int_equal(activation_bind(&activation, &config, &reason), 0);
    taken = free_address();
    struct address address;
    assert_int_equal(address_parse(taken, &address, NULL), 0);
    CLEANUP_FD int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(other, &address.any, address.length), 0);
    assert_int_equal(listen(other, 1), 0);
    add_listen("more", path, taken);
    assert_int_equal(activation_bind(&activation, &config, &reason), -EADDRINUSE);
    assert_non_null(strstr(reason.text, "cannot listen on 127."));
    assert_int_equal(activation.count, 1); /* everything is as it was */
    assert_int_equal(access(path + 5, F_OK), -1);
    assert_socket(0, "http", port, true);
}

/* The other half: sockets that were passed are used as they are. */
static void pass(const char *name, const char *text)
{
    struct address address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_int_equal(address_parse(text, &address, NULL), 0);
    assert_int_equal(bind(fd, &address.any, address.length), 0);
    assert_int_equal(listen(fd, 1), 0);
    activation.sockets[activation.count++] =
        (struct activation_socket){.fd = fd, .name = strdup(name)};
}

static void test_passed(void **state)
{
    (void)state;
    pass("http", path);
    add_listen("http", "192.0.2.1:1", NULL); /* an address that is not ours: it is not asked for */
    assert_int_equal(activation_bind(&activation, &config, &reason), 0);
    assert_int_equal(activation.count, 1);
    assert_socket(0, "http", path, false);
    add_listen("more", NULL, NULL);
    assert_int_equal(activation_bind(&activation, &config, &reason), -ENOENT);
    assert_string_equal(
        reason.text, "[Listen more] has no Address=, and no socket of that name was passed");
    forget_listens();
    add_listen("http", NULL, NULL);
    add_listen("more", path, NULL); /* systemd's socket has that address */
    assert_int_equal(activation_bind(&activation, &config, &reason), -EADDRINUSE);
    assert_true(answers(path));
    forget_listens();
    add_listen("other", "unix:@baton-test-other", NULL);
    assert_int_equal(activation_bind(&activation, &config, &reason), -ENOENT);
    assert_string_equal(reason.text, "a socket named 'http' was passed (FileDescriptorName=), but "
                                     "there is no [Listen http]");
    assert_int_equal(activation.count, 1);
    activation_prune(&activation, &config);
    assert_int_equal(activation.count, 1); /* it is not ours to close */
    activation_close(&activation);
    assert_int_equal(access(path + 5, F_OK), 0); /* nor is its file */
}

static void test_most_sockets(void **state)
{
    (void)state;
    char name[64];
    for (int i = 0; i < ACTIVATION_SOCKETS_MAX; i++) {
        (void)snprintf(name, sizeof name, "unix:@baton-test-most-%d", i);
        pass("http", name);
    }
    add_listen("http", NULL, NULL);
    assert_int_equal(activation_bind(&activation, &config, &reason), 0);
    add_listen("more", path, NULL);
    assert_int_equal(activation_bind(&activation, &config, &reason), -E2BIG);
    assert_int_equal(activation.count, ACTIVATION_SOCKETS_MAX);
}

/* What a server that was killed has left is removed; what anybody else has there is not. */
static void test_files_in_the_way(void **state)
{
    const char *file = path + strlen("unix:");
    struct stat status;

    (void)state;
    add_listen("http", path, NULL);
    assert_int_equal(activation_bind(&activation, &config, &reason), 0);
    fd_close(activation.sockets[0].fd);
    activation_forget(&activation);
    assert_int_equal(access(file, F_OK), 0);
    assert_int_equal(activation_bind(&activation, &config, &reason), 0);
    assert_true(answers(path));

    struct activation other = {.stored = {-1, -1}};
    assert_int_equal(activation_bind(&other, &config, &reason), -EADDRINUSE);
    assert_true(answers(path));
    activation_close(&activation);

    struct address address;
    assert_int_equal(address_parse(path, &address, NULL), 0);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0); /* of another kind */
    assert_int_equal(bind(fd, &address.any, address.length), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(activation_bind(&activation, &config, &reason), -EADDRINUSE);
    fd_close(fd);
    assert_int_equal(unlink(file), 0);

    fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    fd_close(fd);
    assert_int_equal(activation_bind(&activation, &config, &reason), -EADDRINUSE);
    assert_int_equal(stat(file, &status), 0);
    assert_true(S_ISREG(status.st_mode));
}

static void test_prune(void **state)
{
    const char *port = free_address(), *gone = free_address();

    (void)state;
    add_listen("gone", path, NULL);
    add_listen("http", port, gone);
    assert_int_equal(activation_bind(&activation, &config, &reason), 0);
    assert_int_equal(activation.count, 3);
    forget_listens();
    add_listen("http", port, NULL);
    assert_false(activation_wants(&activation.sockets[0], &config));
    assert_true(activation_wants(&activation.sockets[1], &config));
    assert_false(activation_wants(&activation.sockets[2], &config));
    activation_prune(&activation, &config);
    assert_int_equal(activation.count, 1);
    assert_socket(0, "http", port, true);
    assert_true(answers(port));
    assert_false(answers(gone));
    assert_int_equal(access(path + 5, F_OK), -1);
}

/*
 * A reload gives an address to another [Listen]: nobody is refused, whether the reload is committed
 * or not, and when it is over the socket has one name.
 */
static void test_renamed(void **state)
{
    (void)state;
    for (int committed = 0; committed < 2; committed++) {
        forget_listens();
        add_listen("former", path, NULL);
        assert_int_equal(activation_bind(&activation, &config, &reason), 0);
        struct config serving = config;
        serving.listens = &listens[0];
        struct config candidate = {.listens = &listens[1], .listen_count = 1};
        add_listen("later", path, NULL);
        assert_int_equal(activation_bind(&activation, &candidate, &reason), 0);
        assert_int_equal(activation.count, 2);
        assert_socket(1, "later", path, true);
        activation_prune(&activation, committed ? &candidate : &serving);
        assert_int_equal(activation.count, 1);
        assert_socket(0, committed ? "later" : "former", path, true);
        assert_true(answers(path));
        activation_close(&activation);
        assert_false(answers(path));
    }
}

/* Where a successor finds them, in their order, whatever stood there. */
static void test_succession(void **state)
{
    const char *port = free_address();
    char ours[ACTIVATION_SOCKETS_MAX + 1], pid[16];

    (void)state;
    pass("http", path);
    add_listen("http", NULL, NULL);
    add_listen("other name", port, "unix:@baton-test-succession");
    assert_int_equal(activation_bind(&activation, &config, &reason), 0);
    /* Now each stands where another one goes. */
    int fd = activation.sockets[0].fd;
    activation.sockets[0].fd = activation.sockets[2].fd;
    activation.sockets[2].fd = activation.sockets[1].fd;
    activation.sockets[1].fd = fd;
    activation_ours(&activation, ours);
    assert_string_equal(ours, "011");
    size_t before = fds_open();
    assert_int_equal(activation_export(&activation), 0);
    assert_int_equal(fds_open(), before);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(activation.sockets[i].fd, FIRST + i);
        assert_int_equal(fcntl(FIRST + i, F_GETFD), 0);
    }
    assert_int_equal(fcntl(FIRST + 3, F_GETFD), -1);
    (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
    assert_string_equal(getenv("LISTEN_PID"), pid);
    assert_string_equal(getenv("LISTEN_FDS"), "3");
    assert_string_equal(getenv("LISTEN_FDNAMES"), "http:other name:other name");

    activation_forget(&activation);
    for (int again = 0; again < 2; again++) { /* the variables stay, for the one after */
        assert_int_equal(activation_take(&activation, ours, &reason), 0);
        assert_int_equal(activation.count, 3);
        assert_socket(0, "http", "unix:@baton-test-succession", false);
        assert_socket(1, "other name", path, true);
        assert_socket(2, "other name", port, true);
        assert_int_equal(activation.stored.inbox_read, -1);
        if (again)
            break;
        activation_forget(&activation);
    }
}

/* The process has just started, and these were passed to it. */
static void be_passed(const char *names, const int *fds, int count)
{
    char number[16];

    for (int i = 0; i < count; i++) { /* out of each other's way first */
        assert_int_equal(dup3(fds[i], 100 + i, O_CLOEXEC), 100 + i);
        fd_close(fds[i]);
    }
    for (int i = 0; i < count; i++) {
        assert_int_equal(dup2(100 + i, FIRST + i), FIRST + i);
        fd_close(100 + i);
    }
    (void)snprintf(number, sizeof number, "%d", count);
    (void)setenv("LISTEN_FDS", number, 1);
    (void)setenv("LISTEN_FDNAMES", names, 1);
    (void)snprintf(number, sizeof number, "%d", (int)getpid());
    (void)setenv("LISTEN_PID", number, 1);
}

static void test_nothing_passed(void **state)
{
    (void)state;
    memset(&activation, 0xff, sizeof activation);
    assert_int_equal(activation_take(&activation, "", &reason), 0);
    assert_int_equal(activation.count, 0);
    (void)setenv("LISTEN_FDS", "3", 1);
    (void)setenv("LISTEN_PID", "1", 1); /* to another process */
    assert_int_equal(activation_take(&activation, "", &reason), 0);
    assert_int_equal(activation.count, 0);
}

static void test_passed_others(void **state)
{
    static const struct {
        int family, type;
        const char *why;
    } rows[] = {
        {AF_UNIX, SOCK_DGRAM, "is not a listening stream socket"},
        {AF_UNIX, SOCK_SEQPACKET, "is not a listening stream socket"},
        {AF_UNIX, SOCK_STREAM, "is not a listening stream socket"}, /* it does not listen */
        {AF_INET, SOCK_DGRAM, "is not a listening stream socket"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int fd = socket(rows[i].family, rows[i].type | SOCK_CLOEXEC, 0);
        be_passed("http", &fd, 1);
        assert_int_equal(activation_take(&activation, "", &reason), -EINVAL);
        assert_non_null(strstr(reason.text, "fd 3 ('http')"));
        assert_non_null(strstr(reason.text, rows[i].why));
        assert_int_equal(activation.count, 0);
        fd_close(FIRST);
    }
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    be_passed("http", &file, 1);
    assert_int_equal(activation_take(&activation, "", &reason), -EINVAL);
    fd_close(FIRST);
    (void)setenv("LISTEN_FDS", "many", 1);
    assert_true(activation_take(&activation, "", &reason) < 0);
    assert_non_null(strstr(reason.text, "LISTEN_FDS"));
    (void)setenv("LISTEN_FDS", "1000", 1);
    (void)unsetenv("LISTEN_FDNAMES");
    assert_true(activation_take(&activation, "", &reason) < 0);
}

/* What systemd kept for us comes with the sockets, in any order, and is known by its name. */
static void test_stored(void **state)
{
    struct address address;
    struct inbox inbox, other;
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int none = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)state;
    assert_int_equal(address_parse(path, &address, NULL), 0);
    assert_int_equal(bind(listening, &address.any, address.length), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(inbox_open(&inbox), 0);
    assert_int_equal(inbox_open(&other), 0);
    int fds[] = {inbox.write, listening, none, inbox.read, dup(none), other.read};
    be_passed("inbox-write:http:inbox-read:inbox-read:inbox-probe:inbox-read", fds, 6);
    assert_int_equal(activation_take(&activation, "", &reason), 0);
    assert_int_equal(activation.count, 1);
    assert_socket(0, "http", path, false);
    assert_int_equal(activation.stored.inbox_write, FIRST);
    assert_int_equal(activation.stored.inbox_read, FIRST + 3);
    assert_int_equal(fcntl(FIRST, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(FIRST + 3, F_GETFD), FD_CLOEXEC);
    /* What is no end of an inbox is closed, and so is one too many. */
    assert_int_equal(fcntl(FIRST + 2, F_GETFD), -1);
    assert_int_equal(fcntl(FIRST + 4, F_GETFD), -1);
    assert_int_equal(fcntl(FIRST + 5, F_GETFD), -1);
    fd_close(FIRST);
    fd_close(FIRST + 3);
    fd_close(other.write);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bind_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_passed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_most_sockets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files_in_the_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_prune, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_renamed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_succession, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_passed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_passed_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stored, set_up, tear_down),
    };

    closefrom(FIRST); /* what whoever runs the test has left open */
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
