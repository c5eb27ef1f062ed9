#include "load_dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>

#include "base/fd.h"

#define CLIENTS_PER_SOURCE 16000
#define SOURCES_MAX 200

void dialer_init(struct dialer *dialer, const struct address *target, unsigned clients)
{
    *dialer = (struct dialer){.target = *target, .sources = 1 + clients / CLIENTS_PER_SOURCE};
}

static bool has_sources(const struct dialer *dialer)
{
    return dialer->target.any.sa_family == AF_INET &&
           ntohl(dialer->target.ipv4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

/* Without IP_BIND_ADDRESS_NO_PORT, bind(2) would take a port for this socket alone (ip(7)). */
static int bind_source(int fd, unsigned source)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + source)};
    int r = set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);

    if (r < 0)
        return r;
    return bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
}

static int prepare(const struct dialer *dialer, int fd, int receive_buffer)
{
    int r = 0;

    if (dialer->target.any.sa_family != AF_UNIX)
        r = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (r == 0 && receive_buffer > 0) /* before connect(2): it sets the window, tcp(7) */
        r = set_option(fd, SOL_SOCKET, SO_RCVBUF, receive_buffer);
    if (r == 0 && dialer->sources > 1 && has_sources(dialer))
        r = bind_source(fd, dialer->next % dialer->sources);
    return r;
}

static int dial_once(struct dialer *dialer, int receive_buffer, int *ret_fd)
{
    const struct address *target = &dialer->target;
    CLEANUP_FD int fd =
        socket(target->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r = fd < 0 ? -errno : prepare(dialer, fd, receive_buffer);

    dialer->next++;
    if (r < 0)
        return r;
    if (connect(fd, &target->any, target->length) < 0) {
        if (errno == EAGAIN && target->any.sa_family == AF_UNIX)
            return DIAL_FULL;
        if (errno != EINPROGRESS)
            return -errno;
        r = DIAL_PENDING;
    }
    *ret_fd = TAKE_FD(fd);
    return r;
}

int dialer_dial(struct dialer *dialer, int receive_buffer, int *ret_fd)
{
    for (;;) {
        int r = dial_once(dialer, receive_buffer, ret_fd);
        if (r != -EADDRNOTAVAIL || !has_sources(dialer) || dialer->sources >= SOURCES_MAX)
            return r;
        dialer->next = dialer->sources++; /* no ports left: the new address is next */
    }
}
