#include "process/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/fd.h"
#include "process/inbox.h"

#define BACKLOG 4096 /* listen(2) cuts it to net.core.somaxconn */

static int check_type(int fd, const char *name, struct reason *reason)
{
    if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
        return reason_set(reason, -EINVAL,
            "fd %d ('%s'), passed as a socket, is not a listening stream socket (ListenStream=)",
            fd, name);
    if (sd_is_socket(fd, AF_INET, SOCK_STREAM, 1) <= 0 &&
        sd_is_socket(fd, AF_INET6, SOCK_STREAM, 1) <= 0 &&
        sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) <= 0)
        return reason_set(reason, -EAFNOSUPPORT,
            "fd %d ('%s'), passed as a socket, is neither IPv4 nor IPv6 nor AF_UNIX", fd, name);
    return 0;
}

/* What is no end of an inbox was not stored by us: it is closed. */
static bool take_stored(struct activation *activation, int fd, const char *name)
{
    int *end = strcmp(name, INBOX_READ_NAME) == 0    ? &activation->stored.inbox_read
               : strcmp(name, INBOX_WRITE_NAME) == 0 ? &activation->stored.inbox_write
                                                     : NULL;

    if (!end && strcmp(name, INBOX_PROBE_NAME) != 0)
        return false;
    if (end && *end < 0 && inbox_is_end(fd) && fd_set_cloexec(fd, true) == 0)
        *end = fd;
    else
        fd_close(fd);
    return true;
}

static int take_one(
    struct activation *activation, int fd, const char *name, bool ours, struct reason *reason)
{
    struct activation_socket *socket = &activation->sockets[activation->count];

    if (take_stored(activation, fd, name))
        return 0;
    int r = check_type(fd, name, reason);
    if (r == 0)
        r = fd_set_cloexec(fd, true);
    if (r == 0)
        r = fd_set_nonblock(fd, true);
    if (r < 0)
        return r;
    *socket = (struct activation_socket){.fd = fd, .name = strdup(name), .ours = ours};
    if (!socket->name)
        return -ENOMEM;
    activation->count++;
    return 0;
}

int activation_take(struct activation *activation, const char *ours, struct reason *reason)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(0, &names), r = 0;

    *activation = (struct activation){.stored = {-1, -1}};
    if (count < 0)
        return reason_set(
            reason, count, "the passed sockets (LISTEN_FDS) cannot be read: %s", strerror(-count));
    if (count > ACTIVATION_SOCKETS_MAX) /* with the two that may have been stored */
        r = reason_set(reason, -E2BIG, "%d sockets were passed; at most %d are taken", count,
            ACTIVATION_SOCKETS_MAX);
    size_t known = strlen(ours);
    for (int i = 0; i < count && r == 0; i++)
        r = take_one(activation, SD_LISTEN_FDS_START + i, names[i],
            (size_t)i < known && ours[i] == '1', reason);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return r;
}

static const struct config_listen *find_listen(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->listen_count; i++)
        if (strcmp(config->listens[i].name, name) == 0)
            return &config->listens[i];
    return NULL;
}

static bool has_socket(const struct activation *activation, const char *name, bool ours)
{
    for (size_t i = 0; i < activation->count; i++)
        if (activation->sockets[i].ours == ours && strcmp(activation->sockets[i].name, name) == 0)
            return true;
    return false;
}

static int check(
    const struct activation *activation, const struct config *config, struct reason *reason)
{
    for (size_t i = 0; i < activation->count; i++) {
        const struct activation_socket *socket = &activation->sockets[i];
        if (!socket->ours && !find_listen(config, socket->name))
            return reason_set(reason, -ENOENT,
                "a socket named '%s' was passed (FileDescriptorName=), but there is no [Listen %s]",
                socket->name, socket->name);
    }
    for (size_t i = 0; i < config->listen_count; i++) {
        const struct config_listen *listen = &config->listens[i];
        if (listen->address_count == 0 && !has_socket(activation, listen->name, false))
            return reason_set(reason, -ENOENT,
                "[Listen %s] has no Address=, and no socket of that name was passed", listen->name);
    }
    return 0;
}

/* The socket of ours at that address; where @name is not NULL, of that name. NULL: none. */
static const struct activation_socket *find_bound(
    const struct activation *activation, const struct address *address, const char *name)
{
    for (size_t i = 0; i < activation->count; i++) {
        const struct activation_socket *socket = &activation->sockets[i];
        struct address bound;
        if (socket->ours && (!name || strcmp(socket->name, name) == 0) &&
            address_of_socket(socket->fd, &bound) == 0 && address_equal(&bound, address))
            return socket;
    }
    return NULL;
}

/* A socket file that nobody listens on any more is left over from a server that was killed. */
static void remove_stale(const struct address *address)
{
    struct stat status;

    if (address->any.sa_family != AF_UNIX || address->local.sun_path[0] == '\0' ||
        lstat(address->local.sun_path, &status) < 0 || !S_ISSOCK(status.st_mode))
        return;
    CLEANUP_FD int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe >= 0 && connect(probe, &address->any, address->length) < 0 && errno == ECONNREFUSED)
        (void)unlink(address->local.sun_path); /* if it stays, bind says so */
}

static int bind_socket(const struct address *address, int *ret, struct reason *reason)
{
    char text[ADDRESS_TEXT_MAX];
    int one = 1;
    CLEANUP_FD int fd =
        socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return reason_set(
            reason, -errno, "cannot make a socket for %s: %m", address_format(address, text));
    remove_stale(address);
    if (address->any.sa_family !=
        AF_UNIX) { /* as systemd.socket(5): restarts do not wait for TIME_WAIT */
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    if (bind(fd, &address->any, address->length) < 0 || listen(fd, BACKLOG) < 0)
        return reason_set(reason, -errno, "cannot listen on %s: %m", address_format(address, text));
    *ret = TAKE_FD(fd);
    return 0;
}

/* An address that a reload gives to another [Listen]: one socket has two names until it is over. */
static int share_socket(const struct activation_socket *other, int *ret, struct reason *reason)
{
    int fd = fcntl(other->fd, F_DUPFD_CLOEXEC, SD_LISTEN_FDS_START);

    if (fd < 0)
        return reason_set(reason, -errno, "cannot share the socket of '%s': %m", other->name);
    *ret = fd;
    return 0;
}

static int bind_one(struct activation *activation, const char *name, const struct address *address,
    struct reason *reason)
{
    const struct activation_socket *bound = find_bound(activation, address, NULL);
    struct activation_socket *socket = &activation->sockets[activation->count];

    if (activation->count == ACTIVATION_SOCKETS_MAX)
        return reason_set(reason, -E2BIG, "more than %d listening sockets", ACTIVATION_SOCKETS_MAX);
    *socket = (struct activation_socket){.fd = -1, .name = strdup(name), .ours = true};
    if (!socket->name)
        return -ENOMEM;
    int r = bound ? share_socket(bound, &socket->fd, reason)
                  : bind_socket(address, &socket->fd, reason);
    if (r < 0) {
        free(socket->name);
        return r;
    }
    activation->count++;
    return 0;
}

static void close_socket(const struct activation *activation, struct activation_socket *socket)
{
    struct address address;
    bool has_file = socket->ours && address_of_socket(socket->fd, &address) == 0 &&
                    address.any.sa_family == AF_UNIX && address.local.sun_path[0] != '\0';

    socket->fd = fd_close(socket->fd);
    /* A socket file outlives its socket: ours is removed with the last that has it. */
    if (has_file && !find_bound(activation, &address, NULL))
        (void)unlink(address.local.sun_path);
    free(socket->name);
    socket->name = NULL;
}

/*
 * What is accepted is then a request: none is lost in between when the server stops. But where a
 * backend may speak first, its client would wait for a word as long as we do.
 */
static void defer_accept(const struct activation *activation, const struct config_listen *listen)
{
    int client_speaks_first = !listen->tunnel || listen->accept_proxy;

    for (size_t i = 0; i < activation->count; i++) {
        const struct activation_socket *socket = &activation->sockets[i];
        if (socket->ours && strcmp(socket->name, listen->name) == 0) /* a hint; none of AF_UNIX */
            (void)setsockopt(socket->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &client_speaks_first,
                sizeof client_speaks_first);
    }
}

int activation_bind(
    struct activation *activation, const struct config *config, struct reason *reason)
{
    size_t before = activation->count;
    int r = check(activation, config, reason);

    for (size_t i = 0; i < config->listen_count && r == 0; i++) {
        const struct config_listen *listen = &config->listens[i];
        if (has_socket(activation, listen->name, false))
            continue; /* systemd passed it: Address= is for starts without systemd */
        for (size_t j = 0; j < listen->address_count && r == 0; j++)
            if (!find_bound(activation, &listen->addresses[j], listen->name))
                r = bind_one(activation, listen->name, &listen->addresses[j], reason);
        defer_accept(activation, listen);
    }
    while (r < 0 && activation->count > before)
        close_socket(activation, &activation->sockets[--activation->count]);
    return r;
}

bool activation_wants(const struct activation_socket *socket, const struct config *config)
{
    const struct config_listen *listen = find_listen(config, socket->name);
    struct address bound;

    if (!socket->ours)
        return true;
    if (!listen || address_of_socket(socket->fd, &bound) < 0)
        return false;
    for (size_t i = 0; i < listen->address_count; i++)
        if (address_equal(&bound, &listen->addresses[i]))
            return true;
    return false;
}

void activation_prune(struct activation *activation, const struct config *config)
{
    size_t kept = 0;

    for (size_t i = 0; i < activation->count; i++) {
        struct activation_socket *socket = &activation->sockets[i];
        if (activation_wants(socket, config))
            activation->sockets[kept++] = *socket;
        else
            close_socket(activation, socket);
    }
    activation->count = kept;
}

int activation_end(const struct activation *activation)
{
    return SD_LISTEN_FDS_START + (int)activation->count;
}

static int set_variables(const struct activation *activation)
{
    CLEANUP_BUFFER struct buffer names = {0};
    char number[16];
    int r = 0;

    for (size_t i = 0; i < activation->count && r == 0; i++)
        r = buffer_printf(&names, "%s%s", i ? ":" : "", activation->sockets[i].name);
    if (r < 0)
        return r;
    (void)snprintf(number, sizeof number, "%zu", activation->count);
    if (setenv("LISTEN_FDS", number, 1) < 0 ||
        setenv("LISTEN_FDNAMES", names.length ? buffer_string(&names) : "", 1) < 0)
        return -errno;
    (void)snprintf(number, sizeof number, "%d", (int)getpid());
    return setenv("LISTEN_PID", number, 1) < 0 ? -errno : 0;
}

int activation_export(struct activation *activation)
{
    int end = activation_end(activation);

    /* Above the layout first, so that no move below overwrites a socket that is still to be moved.
     */
    for (size_t i = 0; i < activation->count; i++) {
        int fd = fcntl(activation->sockets[i].fd, F_DUPFD_CLOEXEC, end);
        if (fd < 0)
            return -errno;
        fd_close(activation->sockets[i].fd);
        activation->sockets[i].fd = fd;
    }
    for (size_t i = 0; i < activation->count; i++) {
        int fd = SD_LISTEN_FDS_START + (int)i;
        if (dup2(activation->sockets[i].fd, fd) < 0) /* clears close-on-exec */
            return -errno;
        fd_close(activation->sockets[i].fd);
        activation->sockets[i].fd = fd;
    }
    /* libsystemd >= 259 also checks LISTEN_PIDFDID; the process is the same, so it still holds. */
    return set_variables(activation);
}

void activation_ours(const struct activation *activation, char *ret)
{
    for (size_t i = 0; i < activation->count; i++)
        ret[i] = activation->sockets[i].ours ? '1' : '0';
    ret[activation->count] = '\0';
}

void activation_close(struct activation *activation)
{
    while (activation->count > 0) /* in reverse order of acquisition */
        close_socket(activation, &activation->sockets[--activation->count]);
}

void activation_forget(struct activation *activation)
{
    while (activation->count > 0)
        free(activation->sockets[--activation->count].name);
}
