#include "connection/gateway.h"

#include <sys/socket.h>

#include "http/proxy_protocol.h"

void backend_watch(struct backend *backend, int events)
{
    struct ev_loop *loop = backend->gateway->loop;

    if ((backend->io.events & (EV_READ | EV_WRITE)) != events) {
        ev_io_stop(loop, &backend->io);
        ev_io_modify(&backend->io, events);
    }
    if (events)
        ev_io_start(loop, &backend->io); /* nothing to do if it is started */
}

/* Of the client's address, without its port. */
static uint32_t hash_of(const struct sockaddr_in6 *peer)
{
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)peer;
    const uint8_t *bytes = peer->sin6_addr.s6_addr;
    size_t length = sizeof peer->sin6_addr;
    uint32_t hash = 2166136261u; /* FNV-1a */

    if (peer->sin6_family == AF_INET) {
        bytes = (const uint8_t *)&ipv4->sin_addr;
        length = sizeof ipv4->sin_addr;
    }
    for (size_t i = 0; i < length && peer->sin6_family != AF_UNIX; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

void demand_init(struct demand *demand, struct gateway *gateway, const struct sockaddr_in6 *peer)
{
    *demand = (struct demand){
        .gateway = gateway,
        .hash = hash_of(peer),
        .patience = -1,
    };
    list_init(&demand->link);
    deadline_init(&demand->deadline);
}

double demand_patience(const struct demand *demand)
{
    return demand->postponed ? demand->patience : deadline_left(&demand->deadline);
}

int gateway_preface(const struct gateway *gateway, const struct sockaddr_in6 *peer, int client_fd,
    struct buffer *out)
{
    struct address from = {.ipv6 = *peer, .length = sizeof *peer}, to;

    if (gateway->proxy_version == 0)
        return 0;
    int r = address_of_socket(client_fd, &to);
    return r < 0 ? r : proxy_header_write(gateway->proxy_version, &from, &to, out);
}
