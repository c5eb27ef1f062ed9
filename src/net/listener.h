#pragma once

#include <ev.h>
#include <stdbool.h>

#include "base/address.h"

/*
 * A listening socket that this process accepts from. When it cannot accept (no fds, or told to
 * pause), connections wait in the kernel's queue, where other workers may take them.
 */
struct listener {
    struct ev_loop *loop;
    ev_io io;
    /* After EMFILE and its kind: another process may free what we lack. Or what is left to others.
     */
    ev_timer retry;
    void *owner;
    const struct listener_calls *calls;
};

struct listener_calls {
    /*
     * One connection, nonblocking and close-on-exec; the callee owns @fd. Returns false when no
     * more is wanted for now; the callee has then paused the listener.
     */
    bool (*accepted)(struct listener *listener, int fd, const struct address *peer);
    /* accept4(2) failed with @error (EMFILE, ENFILE, ENOBUFS, ENOMEM): a pause of a second began.
     */
    void (*exhausted)(struct listener *listener, int error);
    /*
     * Whether another process should take the next one. All wake when a connection comes, and one
     * that is quick would take them all. What nobody takes for two milliseconds is taken here.
     * NULL: never.
     */
    bool (*yields)(struct listener *listener);
};

/* The fd stays the caller's, is nonblocking, and must outlive the listener. Starts paused. */
void listener_init(struct listener *listener, struct ev_loop *loop, int fd,
    const struct listener_calls *calls, void *owner);
void listener_pause(struct listener *listener);
void listener_resume(struct listener *listener);
/* Takes every connection that is in the kernel's queue now. */
void listener_accept_queued(struct listener *listener);
