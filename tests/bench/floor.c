/*
 * floor PORT: what a request costs at the least. One epoll loop that reads whatever comes and
 * writes one fixed answer to it, without parsing, timing, counting or logging anything. Also the
 * backend of the proxies. Not a server: it answers once for each read.
 */
#include <err.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 64

static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Date: Sun, 22 Nov 2026 04:07:10 GMT\r\n"
                             "Content-Length: 13\r\n"
                             "Content-Type: text/plain; charset=utf-8\r\n"
                             "ETag: \"6b02692e.124110a2-d\"\r\n"
                             "Last-Modified: Sun, 22 Nov 2026 04:01:50 GMT\r\n"
                             "Accept-Ranges: bytes\r\n"
                             "\r\n"
                             "Hello, World\n";

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0)
        err(1, "port %u", port);
    return fd;
}

static void serve(int fd)
{
    char request[16384];

    if (read(fd, request, sizeof request) <= 0 || write(fd, answer, sizeof answer - 1) < 0)
        close(fd);
}

int main(int argc, char **argv)
{
    int listener = listen_on(argc > 1 ? (uint16_t)atoi(argv[1]) : 0), epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[EVENTS_MAX];

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
        err(1, "epoll");
    for (;;) {
        int count = epoll_wait(epoll, ready, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd != listener) {
                serve(ready[i].data.fd);
                continue;
            }
            event.data.fd = accept(listener, NULL, NULL);
            if (event.data.fd >= 0)
                (void)epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
        }
    }
}
