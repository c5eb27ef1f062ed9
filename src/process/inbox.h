#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "connection/record.h"

/*
 * The inbox: one SOCK_SEQPACKET pair, made once and handed on at every succession, through which
 * retiring workers hand their connections to current ones. What lies in it lives in the kernel,
 * whoever dies. Where systemd keeps both ends in its fd store (park.h), it outlives the server.
 *
 * A message is small, whatever it carries: its records lie in a memfd that travels as its first fd.
 * The socket's buffer, which an unprivileged server cannot enlarge, counts only the message.
 */

/* What the ends are called in systemd's fd store, and what is there for a moment before (park.h).
 */
#define INBOX_READ_NAME "inbox-read"
#define INBOX_WRITE_NAME "inbox-write"
#define INBOX_PROBE_NAME "inbox-probe"

struct inbox {
    int read, write;
};

/* The connections' fds of a message, beside its records. */
struct inbox_fds {
    int fds[RECORD_FDS_MAX];
    size_t count;
};

/* A new pair, nonblocking and close-on-exec. Returns 0 or -errno. */
int inbox_open(struct inbox *ret);
/* Whether @fd can be an end of one: how those that systemd passes are checked. */
bool inbox_is_end(int fd);
void inbox_close(struct inbox *inbox);

/* Whether no message lies in it now (ioctl(2) FIONREAD on the reading end). */
bool inbox_is_empty(int fd);

enum {
    INBOX_DONE,
    INBOX_FULL,    /* send: wait until it is writable */
    INBOX_CROWDED, /* send: the kernel lacks room for so many fds in flight, or memory: try later */
    INBOX_EMPTY,   /* receive */
};

/* Sends one message; the fds stay the caller's. Returns one of the above, or -errno. */
int inbox_send(int fd, struct span message, const struct inbox_fds *fds);
/*
 * Receives one message into @message and @ret_fds, whose fds are the caller's and close-on-exec.
 * There must be RECORD_FDS_MAX + 3 fds to spare, or the kernel closes those for which there is no
 * room: -EMFILE says that this happened, and what there is can be used. Returns one of the above,
 * or -errno: -EBADMSG (it was none of ours: its fds are closed), -EPIPE (nobody holds the other
 * end).
 */
int inbox_receive(int fd, struct buffer *message, struct inbox_fds *ret_fds);
