/*
 * backend [--raw] ADDRESS ...: a server for tests of the proxy, fast, and without limits of its
 * own. Behind --raw the addresses are for tunnels: what comes is sent back. Else HTTP/1.1:
 *
 *   /websocket  a WebSocket that sends every frame back (the handshake of websocket.h alone)
 *   /slow       numbers, by its query: backend_stream.h
 *   /events     server-sent events without end, one each ms=MILLISECONDS (20): load_events.h
 *   POST ...    the length of the body, and FNV-1a of it: "5 HASH\n"
 *   ...         "hello"
 *
 * A port of 0 is chosen by the kernel. Writes the addresses, a line each, and then "ready".
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend_visitor.h"
#include "base/address.h"
#include "base/fd.h"
#include "net/listener.h"

#define ADDRESSES_MAX 8

static bool on_accepted(struct listener *listener, int fd, const struct address *peer)
{
    (void)peer;
    visitor_receive(listener->loop, fd, listener->owner != NULL);
    return true;
}

static void on_exhausted(struct listener *listener, int error)
{
    (void)listener;
    fprintf(stderr, "backend: accept: %s\n", strerror(error));
}

/* With a port of 0, which address_parse() knows no use for: 1 stands in for it. */
static int parse(const char *text, struct address *ret, struct reason *reason)
{
    char stand_in[ADDRESS_TEXT_MAX];
    size_t length = strlen(text);
    bool any = length > 2 && length < sizeof stand_in && strcmp(text + length - 2, ":0") == 0;

    if (!any)
        return address_parse(text, ret, reason);
    memcpy(stand_in, text, length + 1);
    stand_in[length - 1] = '1';
    int r = address_parse(stand_in, ret, reason);
    if (r == 0)
        ret->ipv4.sin_port = 0; /* at the same place in IPv6 */
    return r;
}

static int open_socket(const char *text, struct reason *reason)
{
    struct address address;
    char name[ADDRESS_TEXT_MAX];
    int on = 1, r = parse(text, &address, reason);

    if (r < 0)
        return r;
    CLEANUP_FD int fd =
        socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return reason_set(reason, -errno, "socket: %s", strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address.any.sa_family == AF_UNIX && address.local.sun_path[0])
        (void)unlink(address.local.sun_path); /* of an earlier one */
    if (bind(fd, &address.any, address.length) < 0 || listen(fd, SOMAXCONN) < 0 ||
        address_of_socket(fd, &address) < 0)
        return reason_set(reason, -errno, "%s: %s", text, strerror(errno));
    puts(address_format(&address, name));
    return TAKE_FD(fd);
}

int main(int argc, char **argv)
{
    static const struct listener_calls calls = {.accepted = on_accepted, .exhausted = on_exhausted};
    static struct listener listeners[ADDRESSES_MAX];
    struct ev_loop *loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    struct reason reason = {"see tests/support/backend.c"};
    struct rlimit limit;
    bool raw = false;
    int count = 0;

    (void)signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    for (int i = 1; i < argc && loop; i++) {
        if (strcmp(argv[i], "--raw") == 0) {
            raw = true;
            continue;
        }
        int fd = count < ADDRESSES_MAX ? open_socket(argv[i], &reason) : -E2BIG;
        if (fd < 0) {
            count = 0;
            break;
        }
        listener_init(&listeners[count], loop, fd, &calls, raw ? &raw : NULL);
        listener_resume(&listeners[count++]);
    }
    if (count == 0) {
        fprintf(stderr, "backend: %s\n", reason.text);
        return 2;
    }
    puts("ready");
    fflush(stdout);
    ev_run(loop, 0);
    return 0;
}
