#pragma once

/* For tests of what goes through sockets. A test includes <cmocka.h> before this. */

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A pair, nonblocking; @small: the first one takes a few kilobytes and then blocks. */
static inline void sockets_pair(int pair[static 2], bool small)
{
    int least = 1;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    if (small)
        assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
}

/* Fills what @fd, a small one, takes; it takes more only when its peer has read all of this. */
static inline size_t sockets_stuff(int fd)
{
    static const char stuffing[4096];
    size_t total = 0;
    ssize_t n;

    while ((n = write(fd, stuffing, sizeof stuffing)) > 0)
        total += (size_t)n;
    assert_int_equal(errno, EAGAIN);
    return total;
}

/* Drops so many bytes. */
static inline void sockets_skip(int fd, size_t count)
{
    static char bytes[65536];

    while (count > 0) {
        ssize_t n = read(fd, bytes, count < sizeof bytes ? count : sizeof bytes);
        assert_true(n > 0);
        count -= (size_t)n;
    }
}

/* All that @fd holds now, as text. *ret_ended (NULL allowed): its peer has closed. */
static inline const char *sockets_read(int fd, bool *ret_ended)
{
    static char text[1 << 20];
    size_t length = 0;
    ssize_t n;

    while ((n = read(fd, text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)n;
    if (ret_ended)
        *ret_ended = n == 0 || (n < 0 && errno != EAGAIN);
    text[length] = '\0';
    return text;
}

static inline void sockets_say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}
