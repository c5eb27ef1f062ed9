#include "process/control.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/address.h"
#include "base/buffer.h"
#include "base/fd.h"

#define CONNECTIONS_MAX                                                                            \
    48 /* fewer than STATE_CONNECTIONS_MAX: all of them survive a succession                       \
        */
#define ANSWER_MAX (1u << 20)
#define ANSWER_PIECE 65536

static int make_address(const char *path, struct address *ret, struct reason *reason)
{
    char text[sizeof ret->local.sun_path + 8];

    if (path[0] != '/' || strlen(path) >= sizeof ret->local.sun_path)
        return reason_set(reason, -EINVAL,
            "the control socket's path '%s' is not absolute, or longer than %zu bytes", path,
            sizeof ret->local.sun_path - 1);
    (void)snprintf(text, sizeof text, "unix:%s", path);
    return address_parse(text, ret, reason);
}

static int connect_to(const struct address *address)
{
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, &address->any, address->length) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* unix(7): connecting to any other file is refused just the same. */
static bool is_socket_file(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0 && S_ISSOCK(status.st_mode);
}

int control_listen(const char *path, int *ret_fd, struct reason *reason)
{
    struct address address;
    int r = make_address(path, &address, reason);

    if (r < 0)
        return r;
    int other = connect_to(&address);
    if (other >= 0) {
        fd_close(other);
        return reason_set(
            reason, -EADDRINUSE, "another server answers on the control socket %s", path);
    }
    /* Left over from a server that was killed. */
    if (other == -ECONNREFUSED && is_socket_file(path))
        (void)unlink(path);
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t mask = umask(0177);
    int failed = fd < 0 || bind(fd, &address.any, address.length) < 0 || listen(fd, 64) < 0;
    int error = errno;
    (void)umask(mask);
    if (failed)
        return reason_set(
            reason, -error, "cannot make the control socket %s: %s", path, strerror(error));
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void close_connection(struct control_connection *connection)
{
    fd_close(control_release_connection(connection));
}

/* One of a long answer's pieces; -errno when the client does not take it. */
static int send_piece(int fd, const char *text, size_t length)
{
    struct timeval patience = {.tv_sec = 1}; /* a client that asks and then does not read */

    (void)fd_set_nonblock(fd, false);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return send(fd, text, length, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void control_answer(struct control_connection *connection, int ok, const char *text)
{
    CLEANUP_BUFFER struct buffer answer = {0};
    int r = buffer_printf(&answer, "%s\n%s", ok ? "ok" : "failed", text);

    for (size_t at = 0; at < answer.length && r == 0; at += ANSWER_PIECE) {
        size_t left = answer.length - at;
        r = send_piece(
            connection->io.fd, answer.bytes + at, left < ANSWER_PIECE ? left : ANSWER_PIECE);
    }
    close_connection(connection);
}

static void on_request(struct ev_loop *loop, ev_io *io, int events)
{
    struct control_connection *connection = io->data;
    char request[CONTROL_REQUEST_MAX];

    (void)loop;
    (void)events;
    ssize_t n = recv(io->fd, request, sizeof request - 1, MSG_TRUNC);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) { /* it does not want to know any more */
        close_connection(connection);
        return;
    }
    if ((size_t)n >= sizeof request) {
        control_answer(connection, 0, "the request is too long");
        return;
    }
    if (memchr(request, '\0', (size_t)n)) {
        control_answer(connection, 0, "the request holds a NUL byte");
        return;
    }
    request[n] = '\0';
    connection->control->asked(connection->control->owner, connection, request);
}

struct control_connection *control_adopt(struct control *control, int fd)
{
    struct control_connection *connection = calloc(1, sizeof *connection);

    if (!connection) {
        fd_close(fd);
        return NULL;
    }
    connection->control = control;
    ev_io_init(&connection->io, on_request, fd, EV_READ);
    connection->io.data = connection;
    ev_io_start(control->loop, &connection->io);
    list_append(&control->connections, &connection->link);
    control->connection_count++;
    return connection;
}

static int may_ask(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof peer;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

/* Who has not asked yet goes before whoever comes: silence must not keep an administrator out. */
static bool make_room(struct control *control)
{
    if (control->connection_count < CONNECTIONS_MAX)
        return true;
    if (list_empty(&control->connections)) /* all wait for an answer */
        return false;
    close_connection(CONTAINER_OF(control->connections.next, struct control_connection, link));
    return true;
}

static void on_connection(struct ev_loop *loop, ev_io *io, int events)
{
    struct control *control = io->data;
    CLEANUP_FD int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)loop;
    (void)events;
    if (fd >= 0 && may_ask(fd) && make_room(control))
        (void)control_adopt(control, TAKE_FD(fd)); /* without memory the client sees its end */
}

void control_init(struct control *control, struct ev_loop *loop, int fd,
    void (*asked)(void *owner, struct control_connection *connection, const char *request),
    void *owner)
{
    *control = (struct control){.loop = loop, .asked = asked, .owner = owner};
    list_init(&control->connections);
    ev_io_init(&control->io, on_connection, fd, EV_READ);
    control->io.data = control;
    if (fd >= 0)
        ev_io_start(loop, &control->io);
}

int control_release_connection(struct control_connection *connection)
{
    int fd = connection->io.fd;

    ev_io_stop(connection->control->loop, &connection->io);
    list_remove(&connection->link);
    connection->control->connection_count--;
    free(connection);
    return fd;
}

int control_release(struct control *control)
{
    int fd = control->io.fd;

    ev_io_stop(control->loop, &control->io);
    control->io.fd = -1;
    return fd;
}

void control_abandon(struct control *control)
{
    LIST_EACH (link, &control->connections)
        close_connection(CONTAINER_OF(link, struct control_connection, link));
    fd_close(control_release(control));
}

void control_destroy(struct control *control)
{
    struct address address;

    if (control->io.fd >= 0 && address_of_socket(control->io.fd, &address) == 0)
        (void)unlink(address.local.sun_path);
    control_abandon(control);
}

static int receive_answer(int fd, struct buffer *answer)
{
    for (;;) {
        int r = buffer_reserve(answer, ANSWER_PIECE);
        if (r < 0)
            return r;
        ssize_t n = recv(fd, answer->bytes + answer->length, ANSWER_PIECE, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        answer->length += (size_t)n;
        if (answer->length > ANSWER_MAX)
            return -EMSGSIZE;
    }
}

int control_ask(const char *path, const char *request, char **ret_text, struct reason *reason)
{
    CLEANUP_BUFFER struct buffer answer = {0};
    struct address address;
    int r = make_address(path, &address, reason);

    if (r < 0)
        return r;
    CLEANUP_FD int fd = connect_to(&address);
    if (fd < 0)
        return reason_set(
            reason, fd, "no server answers on the control socket %s: %s", path, strerror(-fd));
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
        return reason_set(reason, -errno, "cannot ask the server: %m");
    r = receive_answer(fd, &answer);
    if (r < 0)
        return reason_set(reason, r, "cannot read the server's answer: %s", strerror(-r));
    struct span text = buffer_span(&answer), verdict = span_cut(&text, '\n');
    bool ok = span_equal(verdict, SPAN("ok"));
    if (!text.at || (!ok && !span_equal(verdict, SPAN("failed"))))
        return reason_set(reason, -ECONNRESET, "the server went away before it answered");
    *ret_text = strndup(text.at, text.length);
    return *ret_text ? !ok : -ENOMEM;
}

const char *control_path(const char *option, const struct config *config, char *ret)
{
    const char *runtime = getenv("RUNTIME_DIRECTORY"), *session = getenv("XDG_RUNTIME_DIR");

    if (option || (config && config->control_socket))
        (void)snprintf(ret, PATH_MAX, "%s", option ? option : config->control_socket);
    else if (runtime && runtime[0]) /* systemd.exec(5): several are separated by colons */
        (void)snprintf(ret, PATH_MAX, "%.*s/control.sock", (int)strcspn(runtime, ":"), runtime);
    else if (geteuid() == 0)
        (void)snprintf(ret, PATH_MAX, "/run/baton/control.sock");
    else if (session && session[0])
        (void)snprintf(ret, PATH_MAX, "%s/baton/control.sock", session);
    else
        return NULL;
    return ret;
}
