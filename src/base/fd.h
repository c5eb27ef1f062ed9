#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * File descriptors. Every fd is close-on-exec unless a succession clears it on purpose.
 */

/* Closes @fd if it is one (>= 0), keeps errno, returns -1: `fd = fd_close(fd)`. */
int fd_close(int fd);
void fd_close_at(int *fd);
/* The fd is closed when the variable goes out of scope, unless it was given away. */
#define CLEANUP_FD __attribute__((cleanup(fd_close_at)))
/* Gives the fd away: yields it and leaves -1 behind. */
#define TAKE_FD(variable)                                                                          \
    ({                                                                                             \
        int *at_ = &(variable), fd_ = *at_;                                                        \
        *at_ = -1;                                                                                 \
        fd_;                                                                                       \
    })

/* fcntl(2) F_SETFD and F_SETFL. Return 0 or -errno. */
int fd_set_cloexec(int fd, bool on);
int fd_set_nonblock(int fd, bool on);

/* Writes all @length bytes, over EINTR and short writes (blocking fds). Returns 0 or -errno. */
int fd_write_all(int fd, const void *bytes, size_t length);

/*
 * Reads until the end, from the fd's current position; @limit bytes at the most. *ret_bytes is
 * allocated, terminated with a NUL that *ret_length does not count, and owned by the caller.
 * Returns 0, -EFBIG (more than @limit), or -errno.
 */
int fd_read_all(int fd, size_t limit, char **ret_bytes, size_t *ret_length);
