/*
 * floor PORT [BACKEND]: what a request costs at the least. One epoll loop that reads whatever comes
 * and writes one fixed answer to it, without parsing, timing, counting or logging anything. Also
 * the backend of the proxies. Not a server: it answers once for each read.
 *
 * With BACKEND, a port: what a proxied request costs at the least. Each client has a connection of
 * its own there, and whatever comes from one goes to the other.
 */
#include <err.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 64
#define FDS_MAX 32768

static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Date: Sun, 22 Nov 2026 04:07:10 GMT\r\n"
                             "Content-Length: 13\r\n"
                             "Content-Type: text/plain; charset=utf-8\r\n"
                             "ETag: \"6b02692e.124110a2-d\"\r\n"
                             "Last-Modified: Sun, 22 Nov 2026 04:01:50 GMT\r\n"
                             "Accept-Ranges: bytes\r\n"
                             "\r\n"
                             "Hello, World\n";

static int peers[FDS_MAX]; /* 0: none */

static struct sockaddr_in address_of(const char *port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(port)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

static int listen_on(const char *port)
{
    struct sockaddr_in address = address_of(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0)
        err(1, "port %s", port);
    return fd;
}

static void serve(int fd)
{
    char bytes[16384];
    ssize_t n = read(fd, bytes, sizeof bytes);
    int peer = peers[fd];

    if (n > 0 && peer > 0)
        n = write(peer, bytes, (size_t)n);
    else if (n > 0)
        n = write(fd, answer, sizeof answer - 1);
    if (n > 0)
        return;
    close(fd);
    if (peer > 0)
        close(peer);
    peers[fd] = peers[peer] = 0;
}

static void add(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (fd < 0 || fd >= FDS_MAX || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        err(1, "fd %d", fd);
}

static void welcome(int epoll, int listener, const char *backend)
{
    int fd = accept(listener, NULL, NULL);

    if (fd < 0)
        return;
    add(epoll, fd);
    if (!backend)
        return;
    struct sockaddr_in address = address_of(backend);
    int peer = socket(AF_INET, SOCK_STREAM, 0);
    if (peer < 0 || connect(peer, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "port %s", backend);
    add(epoll, peer);
    peers[fd] = peer;
    peers[peer] = fd;
}

int main(int argc, char **argv)
{
    int listener = listen_on(argc > 1 ? argv[1] : "0"), epoll = epoll_create1(0);
    struct epoll_event ready[EVENTS_MAX];

    add(epoll, listener);
    for (;;) {
        int count = epoll_wait(epoll, ready, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd == listener)
                welcome(epoll, listener, argc > 2 ? argv[2] : NULL);
            else
                serve(ready[i].data.fd);
        }
    }
}
