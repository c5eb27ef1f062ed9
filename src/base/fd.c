#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int fd_close(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        (void)close(fd); /* Linux frees the fd whatever close says */
        errno = saved;
    }
    return -1;
}

void fd_close_at(int *fd)
{
    *fd = fd_close(*fd);
}

static int change_flags(int fd, int get, int set, int flag, bool on)
{
    int flags = fcntl(fd, get);

    if (flags < 0)
        return -errno;
    int wanted = on ? flags | flag : flags & ~flag;
    if (wanted != flags && fcntl(fd, set, wanted) < 0)
        return -errno;
    return 0;
}

int fd_set_cloexec(int fd, bool on)
{
    return change_flags(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

int fd_set_nonblock(int fd, bool on)
{
    return change_flags(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_write_all(int fd, const void *bytes, size_t length)
{
    const char *at = bytes;

    while (length > 0) {
        ssize_t n = write(fd, at, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        length -= (size_t)n;
    }
    return 0;
}

int fd_read_all(int fd, size_t limit, char **ret_bytes, size_t *ret_length)
{
    size_t length = 0, capacity = 4096;
    char *bytes = malloc(capacity + 1);

    while (bytes) {
        ssize_t n = read(fd, bytes + length, capacity - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || (length += (size_t)n) > limit) {
            int r = n < 0 ? -errno : -EFBIG;
            free(bytes);
            return r;
        }
        if (n == 0) {
            bytes[length] = '\0';
            *ret_bytes = bytes;
            *ret_length = length;
            return 0;
        }
        if (length == capacity) {
            capacity *= 2;
            char *more = realloc(bytes, capacity + 1);
            if (!more)
                free(bytes);
            bytes = more;
        }
    }
    return -ENOMEM;
}
