#include "process/inbox.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

#define SEND_BUFFER (8 << 20)

int inbox_open(struct inbox *ret)
{
    int pair[2], size = SEND_BUFFER;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    /* Room for the connections of a whole generation, where the system grants it (wmem_max). */
    if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
        (void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    *ret = (struct inbox){.read = pair[0], .write = pair[1]};
    return 0;
}

void inbox_close(struct inbox *inbox)
{
    inbox->read = fd_close(inbox->read);
    inbox->write = fd_close(inbox->write);
}

union control_space {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof((struct inbox_fds *)0)->fds)];
};

int inbox_send(int fd, struct span message, const struct inbox_fds *fds)
{
    union control_space control;
    size_t size = fds->count * sizeof *fds->fds;
    struct iovec bytes = {(void *)message.at, message.length};
    struct msghdr head = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(size),
    };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&head);

    memset(&control, 0, sizeof control);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(rights), fds->fds, size);
    if (sendmsg(fd, &head, MSG_NOSIGNAL) >= 0)
        return INBOX_DONE;
    switch (errno) {
    case EAGAIN:
        return INBOX_FULL;
    case ETOOMANYREFS: /* unix(7): RLIMIT_NOFILE bounds the fds in flight, too */
    case ENOBUFS:
    case ENOMEM:
        return INBOX_CROWDED;
    }
    return -errno;
}

static void take_fds(struct msghdr *head, struct inbox_fds *ret)
{
    ret->count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(head); part; part = CMSG_NXTHDR(head, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t size = part->cmsg_len - CMSG_LEN(0);
        memcpy(ret->fds + ret->count, CMSG_DATA(part), size);
        ret->count += size / sizeof *ret->fds;
    }
}

int inbox_receive(int fd, struct buffer *message, struct inbox_fds *ret_fds)
{
    union control_space control;
    struct msghdr head = {.msg_control = control.bytes, .msg_controllen = sizeof control};

    message->length = 0;
    int r = buffer_reserve(message, RECORD_MESSAGE_MAX);
    if (r < 0)
        return r;
    struct iovec bytes = {message->bytes, RECORD_MESSAGE_MAX};
    head.msg_iov = &bytes;
    head.msg_iovlen = 1;
    ssize_t n = recvmsg(fd, &head, MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? INBOX_EMPTY : -errno;
    message->length = (size_t)n;
    take_fds(&head, ret_fds);
    return head.msg_flags & MSG_CTRUNC ? -EMFILE : INBOX_DONE;
}
