#include "connection/opening.h"

#include "connection/requests.h"
#include "http/proxy_protocol.h"

static struct listener_manner manner_of(const struct connection *connection)
{
    struct server *server = connection->server;
    struct listener_manner manner = {0};

    server->calls->listener(server->owner, connection->listener, &manner);
    return manner;
}

static void open_tunnel(struct connection *connection, struct gateway *gateway, struct span early)
{
    connection_set_state(connection, CONNECTION_TUNNEL);
    connection_count(connection, COUNTER_TUNNELS, 1);
    tunnel_begin(connection, gateway, early, -1);
}

void opening_begin(struct connection *connection)
{
    struct listener_manner manner = manner_of(connection);

    if (manner.proxy_header) {
        connection_set_state(connection, CONNECTION_PROXY);
        connection_settle(connection);
    } else if (manner.tunnel) {
        open_tunnel(connection, manner.tunnel, (struct span){NULL, 0});
    } else {
        connection_on_readable(connection); /* most clients send their request at once */
    }
}

/* The header is complete: what follows it is the client's. */
static void begin_behind_header(struct connection *connection)
{
    struct reading *reading = connection->reading;
    struct gateway *gateway = manner_of(connection).tunnel;

    if (gateway) {
        struct server *server = connection->server;
        struct span early = {reading->bytes + reading->start, reading->end - reading->start};
        connection->reading = NULL;
        open_tunnel(connection, gateway, early);
        reading_return(&server->readings, reading);
    } else if (reading->start < reading->end) {
        connection_set_state(connection, CONNECTION_HEAD);
        requests_read(connection);
    } else {
        connection_release_reading(connection);
        connection_set_state(connection, CONNECTION_IDLE);
        connection_settle(connection);
    }
}

void opening_read_header(struct connection *connection)
{
    struct reading *reading = connection->reading;
    struct span bytes = {reading->bytes, reading->end};
    struct address peer = {.ipv6 = connection->peer, .length = sizeof connection->peer};
    size_t length;

    switch (proxy_header_parse(bytes, &peer, &length)) {
    case PROXY_COMPLETE:
        connection->peer = peer.ipv6;
        reading->start = length;
        begin_behind_header(connection);
        return;
    case PROXY_MORE:
        connection_settle(connection);
        return;
    default:
        connection_end(connection, COUNTER_END_REFUSED);
    }
}
