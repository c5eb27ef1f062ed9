#include "net/listener.h"

#include <errno.h>

/* Enough to empty a burst, few enough that established connections are not kept waiting. */
#define ACCEPTS_PER_EVENT 64
#define RETRY_SECONDS 1.0
/* What is left to others, and how many it takes at once when they do not. */
#define YIELD_SECONDS 0.002
#define ACCEPTS_INSISTED 8

enum accept_result { ACCEPT_TOOK, ACCEPT_EMPTY, ACCEPT_STOP };

static void rest(struct listener *listener, double seconds)
{
    ev_io_stop(listener->loop, &listener->io);
    ev_timer_set(&listener->retry, seconds, 0);
    ev_timer_start(listener->loop, &listener->retry);
}

static enum accept_result accept_one(struct listener *listener)
{
    struct address peer = {.length = sizeof(struct sockaddr_un)};
    int fd = accept4(listener->io.fd, &peer.any, &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);

    int error = errno;

    if (peer.length > sizeof peer.local) /* as in address_of_socket() */
        peer.length = sizeof peer.local;
    if (fd >= 0)
        return listener->calls->accepted(listener, fd, &peer) ? ACCEPT_TOOK : ACCEPT_STOP;
    switch (error) {
    case EAGAIN:
        return ACCEPT_EMPTY;
    case EINTR: /* accept(2): these concern the one connection that would have come: go on */
    case ECONNABORTED:
    case EPERM:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
        return ACCEPT_TOOK;
    }
    rest(listener, RETRY_SECONDS);
    listener->calls->exhausted(listener, error);
    return ACCEPT_STOP;
}

static bool yields(struct listener *listener)
{
    return listener->calls->yields && listener->calls->yields(listener);
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
    struct listener *listener = io->data;

    (void)loop;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        if (yields(listener)) {
            rest(listener, YIELD_SECONDS);
            return;
        }
        if (accept_one(listener) != ACCEPT_TOOK)
            return;
    }
}

/* What was left to others may still be there: nobody is waited for twice. */
static void on_retry(struct ev_loop *loop, ev_timer *retry, int events)
{
    struct listener *listener = retry->data;

    (void)events;
    ev_io_start(loop, &listener->io);
    for (int i = 0; i < ACCEPTS_INSISTED && yields(listener); i++)
        if (accept_one(listener) != ACCEPT_TOOK)
            return;
}

void listener_init(struct listener *listener, struct ev_loop *loop, int fd,
    const struct listener_calls *calls, void *owner)
{
    listener->loop = loop;
    listener->calls = calls;
    listener->owner = owner;
    ev_io_init(&listener->io, on_readable, fd, EV_READ);
    listener->io.data = listener;
    ev_timer_init(&listener->retry, on_retry, 0, 0);
    listener->retry.data = listener;
}

void listener_pause(struct listener *listener)
{
    ev_io_stop(listener->loop, &listener->io);
    ev_timer_stop(listener->loop, &listener->retry);
}

void listener_resume(struct listener *listener)
{
    ev_timer_stop(listener->loop, &listener->retry);
    ev_io_start(listener->loop, &listener->io);
}

void listener_accept_queued(struct listener *listener)
{
    while (accept_one(listener) == ACCEPT_TOOK)
        ;
}
