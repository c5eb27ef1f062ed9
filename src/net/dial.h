#pragma once

#include <ev.h>
#include <stdbool.h>

#include "base/address.h"
#include "net/deadline.h"

/*
 * A connection to somebody else that is being made (connect(2)), without waiting for it. One dial
 * makes one connection; it may be in its owner's struct, and is used again for the next.
 */
struct dial {
    struct ev_loop *loop;
    ev_io io;
    struct deadline deadline;
    /*
     * @fd is the callee's: nonblocking, close-on-exec, without Nagle's delay. Or it is -1, and
     * @error an errno: ECONNREFUSED, ENOENT, ETIMEDOUT, ... The dial may be started again in the
     * call.
     */
    void (*done)(struct dial *dial, int fd, int error);
    void *owner;
};

void dial_init(struct dial *dial, struct ev_loop *loop,
    void (*done)(struct dial *dial, int fd, int error), void *owner);
/* Whether it is under way. */
static inline bool dial_is_active(const struct dial *dial)
{
    return dial->io.fd >= 0;
}
/*
 * Begins; done() comes later, at the latest when its time in the list is over, whose expired() is
 * dial_expired() (NULL: no such time). Returns 0, or -errno where it cannot even begin (then done()
 * does not come). -EAGAIN: the queue of an AF_UNIX socket is full (unix(7)).
 */
int dial_start(struct dial *dial, const struct address *address, struct deadline_list *timeout);
/* Gives up what is under way, if anything is; done() does not come. */
void dial_cancel(struct dial *dial);
void dial_expired(struct deadline *deadline);
