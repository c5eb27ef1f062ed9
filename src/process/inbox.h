#pragma once

#include <stddef.h>

#include "base/buffer.h"
#include "connection/record.h"

/*
 * The inbox: one SOCK_SEQPACKET pair, made once and handed on at every succession, through which
 * retiring workers hand their connections to current ones. What lies in it lives in the kernel,
 * whoever dies.
 */

struct inbox {
    int read, write;
};

/* Fds of a message, beside its bytes. */
struct inbox_fds {
    int fds[RECORD_FDS_MAX + 3];
    size_t count;
};

/* A new pair, nonblocking and close-on-exec. Returns 0 or -errno. */
int inbox_open(struct inbox *ret);
void inbox_close(struct inbox *inbox);

enum {
    INBOX_DONE,
    INBOX_FULL,    /* send: wait until it is writable */
    INBOX_CROWDED, /* send: the kernel holds too many fds in flight (ETOOMANYREFS): some time later
                    */
    INBOX_EMPTY,   /* receive */
};

/* Sends one message; the fds stay the caller's. Returns one of the above, or -errno. */
int inbox_send(int fd, struct span message, const struct inbox_fds *fds);
/*
 * Receives one message into @message and @ret_fds, whose fds are the caller's and close-on-exec.
 * There must be RECORD_FDS_MAX + 3 fds to spare, or the kernel closes those for which there is no
 * room: -EMFILE says that this happened. Returns one of the above, or -errno.
 */
int inbox_receive(int fd, struct buffer *message, struct inbox_fds *ret_fds);
