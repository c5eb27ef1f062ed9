#pragma once

#include <ev.h>
#include <stdbool.h>

#include "process/inbox.h"

/*
 * Whether connections can be parked: whether systemd keeps the inbox in its fd store, so that what
 * lies in it waits for the next instance. Only systemd's behaviour tells: FileDescriptorStoreMax=
 * may be too small, NOTIFY_SOCKET may be somebody else's. So a probe is stored in the place of the
 * second end, and found to be kept, or dropped. There are never more than two fds in the store.
 */
struct park {
    struct ev_loop *loop;
    const struct inbox *inbox;
    int probe;  /* our end: it breaks when systemd drops the other */
    ev_io said; /* systemd has read all that was sent to it before (BARRIER=1, sd_notify(3)) */
    void (*found)(void *owner, bool kept);
    void *owner;
};

/*
 * Begins to find out, and stores both ends of @inbox if they are kept. @found is called at most
 * once, and never without systemd. A park that is all zero may be destroyed.
 */
void park_begin(struct park *park, struct ev_loop *loop, const struct inbox *inbox,
    void (*found)(void *owner, bool kept), void *owner);
void park_destroy(struct park *park);
