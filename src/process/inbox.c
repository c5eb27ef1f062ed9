#include "process/inbox.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define SEND_BUFFER (8 << 20)

/* All that a message says itself: that its first fd holds the records. */
static const char marker[8] = "BTNINBOX";

int inbox_open(struct inbox *ret)
{
    int pair[2], size = SEND_BUFFER;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    /* The system may grant less (net.core.wmem_max): 416 KiB hold some 500 messages. */
    if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
        (void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    *ret = (struct inbox){.read = pair[0], .write = pair[1]};
    return 0;
}

bool inbox_is_end(int fd)
{
    int domain = 0, type = 0, listening = 1;
    socklen_t length = sizeof(int);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_SEQPACKET &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && !listening;
}

void inbox_close(struct inbox *inbox)
{
    inbox->read = fd_close(inbox->read);
    inbox->write = fd_close(inbox->write);
}

bool inbox_is_empty(int fd)
{
    int waiting = 0;

    return ioctl(fd, FIONREAD, &waiting) == 0 && waiting == 0;
}

/* The records' memfd and the connections' fds; received, as many as the kernel lets anyone send. */
struct cargo {
    int fds[254]; /* SCM_MAX_FD is 253 (unix(7)); control messages are padded to even numbers */
    size_t count;
};
_Static_assert(1 + RECORD_FDS_MAX <= 253, "what we send is one message");

union control_space {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof((struct cargo *)0)->fds)];
};

static int send_cargo(int fd, const struct cargo *cargo)
{
    union control_space control;
    size_t size = cargo->count * sizeof *cargo->fds;
    struct iovec bytes = {(void *)marker, sizeof marker};
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
    memcpy(CMSG_DATA(rights), cargo->fds, size);
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

int inbox_send(int fd, struct span message, const struct inbox_fds *fds)
{
    CLEANUP_FD int records = memfd_create("baton-records", MFD_CLOEXEC);
    struct cargo cargo = {.fds = {records}, .count = 1 + fds->count};

    if (records < 0)
        return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? INBOX_CROWDED : -errno;
    int r = fd_write_all(records, message.at, message.length);
    if (r < 0)
        return r == -ENOSPC || r == -ENOMEM ? INBOX_CROWDED : r;
    memcpy(cargo.fds + 1, fds->fds, fds->count * sizeof *fds->fds);
    return send_cargo(fd, &cargo);
}

static void take_cargo(struct msghdr *head, struct cargo *ret)
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

static int read_records(int fd, struct buffer *message)
{
    struct stat status;
    ssize_t n;

    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size < 0 ||
        status.st_size > RECORD_MESSAGE_MAX)
        return -EBADMSG;
    size_t length = (size_t)status.st_size;
    int r = buffer_reserve(message, length);
    if (r < 0)
        return r;
    while (message->length < length) {
        n = pread(
            fd, message->bytes + message->length, length - message->length, (off_t)message->length);
        if (n <= 0)
            return -EBADMSG;
        message->length += (size_t)n;
    }
    return 0;
}

/* Whatever was received, its fds end up in @ret_fds or closed. */
static int unpack(const char *said, ssize_t length, struct cargo *cargo, struct buffer *message,
    struct inbox_fds *ret)
{
    CLEANUP_FD int records = cargo->count > 0 ? cargo->fds[0] : -1;
    int r = -EBADMSG;

    ret->count = 0;
    if (length == sizeof marker && memcmp(said, marker, sizeof marker) == 0 && records >= 0 &&
        cargo->count <= 1 + RECORD_FDS_MAX)
        r = read_records(records, message);
    for (size_t i = 1; i < cargo->count; i++) {
        if (r == 0)
            ret->fds[ret->count++] = cargo->fds[i];
        else
            fd_close(cargo->fds[i]);
    }
    return r;
}

int inbox_receive(int fd, struct buffer *message, struct inbox_fds *ret_fds)
{
    union control_space control;
    char said[sizeof marker + 1]; /* one more, so that a longer message shows */
    struct iovec bytes = {said, sizeof said};
    struct msghdr head = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control,
    };
    struct cargo cargo;

    message->length = 0;
    ret_fds->count = 0;
    ssize_t n = recvmsg(fd, &head, MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? INBOX_EMPTY : -errno;
    take_cargo(&head, &cargo);
    if (n == 0 && cargo.count == 0)
        return -EPIPE; /* nobody holds the other end any more */
    int r = unpack(said, n, &cargo, message, ret_fds);
    if (head.msg_flags & MSG_CTRUNC && (r == 0 || cargo.count == 0))
        return -EMFILE;
    return r < 0 ? r : INBOX_DONE;
}
