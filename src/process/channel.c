#include "process/channel.h"

#include <errno.h>
#include <sys/socket.h>

int channel_open(int ret[static 2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret) < 0)
        return -errno;
    return 0;
}

int channel_send(int fd, const struct message *message)
{
    ssize_t n = send(fd, message, sizeof *message, MSG_NOSIGNAL);

    if (n < 0)
        return -errno;
    return n == sizeof *message ? 0 : -EMSGSIZE;
}

int channel_receive(int fd, struct message *ret)
{
    ssize_t n = recv(fd, ret, sizeof *ret, MSG_TRUNC); /* MSG_TRUNC: a longer one shows its size */

    if (n < 0 && errno == EAGAIN)
        return CHANNEL_EMPTY;
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return CHANNEL_CLOSED;
    if (n < 0)
        return -errno;
    if (n != sizeof *ret)
        return -EBADMSG;
    ret->text[sizeof ret->text - 1] = '\0';
    return CHANNEL_MESSAGE;
}
