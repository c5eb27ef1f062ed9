#include "net/dial.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/fd.h"

static void finish(struct dial *dial, int error)
{
    int fd = dial->io.fd;

    ev_io_stop(dial->loop, &dial->io);
    deadline_disarm(&dial->deadline);
    dial->io.fd = -1;
    if (error != 0)
        fd = fd_close(fd);
    dial->done(dial, fd, error);
}

static void on_writable(struct ev_loop *loop, ev_io *io, int events)
{
    struct dial *dial = io->data;
    int error = 0;
    socklen_t length = sizeof error;

    (void)loop;
    (void)events;
    if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        error = errno;
    finish(dial, error);
}

void dial_init(struct dial *dial, struct ev_loop *loop,
    void (*done)(struct dial *dial, int fd, int error), void *owner)
{
    dial->loop = loop;
    dial->done = done;
    dial->owner = owner;
    deadline_init(&dial->deadline);
    ev_io_init(&dial->io, on_writable, -1, EV_WRITE);
    dial->io.data = dial;
}

int dial_start(struct dial *dial, const struct address *address, struct deadline_list *timeout)
{
    CLEANUP_FD int fd =
        socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0)
        return -errno;
    if (address->any.sa_family != AF_UNIX) {
        /* A hint: without it all works, only later. And what has vanished behind a broken network
         * is noticed by the kernel. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    if (connect(fd, &address->any, address->length) < 0 && errno != EINPROGRESS)
        return -errno;
    ev_io_set(&dial->io, TAKE_FD(fd), EV_WRITE);
    ev_io_start(dial->loop, &dial->io);
    if (timeout)
        deadline_arm(timeout, &dial->deadline);
    return 0;
}

void dial_cancel(struct dial *dial)
{
    ev_io_stop(dial->loop, &dial->io);
    deadline_disarm(&dial->deadline);
    dial->io.fd = fd_close(dial->io.fd);
}

void dial_expired(struct deadline *deadline)
{
    finish(CONTAINER_OF(deadline, struct dial, deadline), ETIMEDOUT);
}
