#include "net/send.h"

#include <string.h>
#include <sys/socket.h>

#define FEW 4096

/* Returns their length, or 0 when they are more than @size bytes. */
static size_t join(const struct iovec *spans, size_t count, char *bytes, size_t size)
{
    size_t length = 0;

    for (size_t i = 0; i < count; i++) {
        if (spans[i].iov_len > size - length)
            return 0;
        memcpy(bytes + length, spans[i].iov_base, spans[i].iov_len);
        length += spans[i].iov_len;
    }
    return length;
}

ssize_t send_spans(int fd, struct iovec *spans, size_t count, int flags)
{
    struct msghdr message = {.msg_iov = spans, .msg_iovlen = count};
    char few[FEW];

    flags |= MSG_NOSIGNAL;
    if (count == 1)
        return send(fd, spans[0].iov_base, spans[0].iov_len, flags);
    size_t length = join(spans, count, few, sizeof few);
    return length > 0 ? send(fd, few, length, flags) : sendmsg(fd, &message, flags);
}
