#include "connection/move_backend.h"

#include <errno.h>

#include "base/clock.h"
#include "base/fd.h"
#include "connection/forwarding.h"
#include "connection/requests.h"

static int64_t usec_of(double seconds)
{
    if (seconds < 0 || seconds > usec_to_seconds(RECORD_USEC_MAX))
        return -1;
    return (int64_t)(seconds * (double)USEC_PER_SEC);
}

static double seconds_left(const struct record_backend *record)
{
    return record->deadline_usec < 0 ? -1 : usec_to_seconds((uint64_t)record->deadline_usec);
}

/* ---- describing ---- */

static void describe_socket(const struct backend *backend, struct record *record)
{
    record->with_backend = true;
    record->backend.upstream = span_of(backend->gateway->name);
    record->backend.server = backend->gateway->calls->server_name(backend);
    record->backend.deadline_usec = usec_of(deadline_left(&backend->deadline));
    record->backend.reused = backend->reused;
}

static void describe_exchange(const struct exchange *exchange, struct record *record)
{
    struct record_backend *ret = &record->backend;
    const struct upload *upload = &exchange->upload;
    const struct download *download = &exchange->download;

    ret->upstream = span_of(exchange->demand.gateway->name);
    ret->attempts = exchange->attempts;
    record->unsent = flow_span(&download->flow);
    if (exchange->waiting) {
        ret->deadline_usec = usec_of(demand_patience(&exchange->demand));
        return;
    }
    if (exchange->backend)
        describe_socket(exchange->backend, record);
    ret->whole = upload->whole;
    ret->replayable = upload->replayable;
    ret->broken = exchange->broken;
    ret->trailer = buffer_span(&upload->trailer);
    ret->unsent = flow_span(&upload->flow);
    ret->state = download->state;
    ret->framing = download->framing;
    ret->body = download->body;
    ret->keep_alive = download->keep_alive;
    ret->left = download->left;
    ret->chunked = download->chunked;
    ret->pending = buffer_span(&download->pending);
}

static void describe_tunnel(const struct tunnel *tunnel, struct record *record)
{
    struct record_backend *ret = &record->backend;

    ret->upstream = span_of(tunnel->demand.gateway->name);
    if (tunnel->waiting)
        ret->deadline_usec = usec_of(demand_patience(&tunnel->demand));
    if (tunnel->backend)
        describe_socket(tunnel->backend, record);
    ret->client_ended = tunnel->client_ended;
    ret->backend_ended = tunnel->backend_ended;
    ret->client_told = tunnel->client_told;
    ret->backend_told = tunnel->backend_told;
    ret->unsent = flow_span(&tunnel->to_backend);
    record->unsent = flow_span(&tunnel->to_client);
}

void move_describe_backend(const struct connection *connection, struct record *ret)
{
    ret->backend.deadline_usec = -1;
    if (connection->exchange)
        describe_exchange(connection->exchange, ret);
    if (connection->tunnel)
        describe_tunnel(connection->tunnel, ret);
}

/* ---- adopting ---- */

static struct gateway *find_gateway(struct connection *connection, const struct record *record)
{
    struct server *server = connection->server;

    return server->calls->find_gateway(server->owner, record->backend.upstream);
}

static int fill_exchange(struct exchange *exchange, const struct record *record)
{
    const struct record_backend *from = &record->backend;
    struct upload *upload = &exchange->upload;
    struct download *download = &exchange->download;

    exchange->attempts = from->attempts;
    exchange->broken = from->broken;
    upload->whole = from->whole;
    upload->replayable = from->replayable;
    download->state = from->state;
    download->framing = from->framing;
    download->body = from->body;
    download->keep_alive = from->keep_alive;
    download->left = from->left;
    download->chunked = from->chunked;
    int r = buffer_append(&upload->trailer, from->trailer);
    if (r == 0)
        r = buffer_append(&download->pending, from->pending);
    if (r == 0)
        r = flow_keep(&upload->flow, from->unsent);
    if (r == 0)
        r = flow_keep(&download->flow, record->unsent);
    return r;
}

/* It begins anew, behind what is left of the answers before it. */
static int adopt_waiting(struct connection *connection, const struct record *record)
{
    int r = buffer_append(&connection->server->held.bytes, record->unsent);

    if (r == 0)
        requests_resume(connection, seconds_left(&record->backend), record->backend.attempts);
    return r;
}

/* Its route may have another upstream by now: that is who a further attempt is made with. */
static int adopt_exchange(struct connection *connection, const struct record *record, int fd)
{
    struct gateway *gateway = find_gateway(connection, record);
    struct handler *handler = forwarding_find_handler(connection);
    struct backend *backend = NULL;

    connection->exchange = exchange_new(connection, handler, handler ? handler->gateway : gateway);
    if (fd >= 0)
        backend = gateway->calls->adopt(gateway, fd, record->backend.server);
    if (backend)
        backend->reused = record->backend.reused;
    if (connection->exchange && backend)
        exchange_take(connection->exchange, backend);
    else if (backend)
        gateway->calls->give_back(backend, BACKEND_CLOSED);
    if (!connection->exchange || (fd >= 0 && !backend))
        return -ENOMEM;
    int r = fill_exchange(connection->exchange, record);
    if (r == 0)
        connection_resume_exchange(
            connection, record->deadline_usec, seconds_left(&record->backend));
    return r;
}

static int adopt_tunnel(struct connection *connection, const struct record *record, int fd)
{
    const struct record_backend *from = &record->backend;
    struct gateway *gateway = find_gateway(connection, record);
    struct flow none = {0};

    if (fd < 0) {
        connection_set_state(connection, CONNECTION_TUNNEL);
        tunnel_begin(connection, gateway, from->unsent, seconds_left(from));
        return 0;
    }
    struct backend *backend = gateway->calls->adopt(gateway, fd, from->server);
    struct tunnel *tunnel = backend ? tunnel_new(connection, backend, none, none) : NULL;
    connection->tunnel = tunnel;
    if (!tunnel || flow_keep(&tunnel->to_client, record->unsent) < 0 ||
        flow_keep(&tunnel->to_backend, from->unsent) < 0)
        return -ENOMEM;
    tunnel->client_ended = from->client_ended;
    tunnel->backend_ended = from->backend_ended;
    tunnel->client_told = from->client_told;
    tunnel->backend_told = from->backend_told;
    connection_set_state(connection, CONNECTION_TUNNEL);
    tunnel_resume(tunnel, seconds_left(from));
    return 0;
}

int move_adopt_backend(struct connection *connection, const struct record *record, int fd)
{
    switch (record->kind) {
    case RECORD_WAITING:
        return adopt_waiting(connection, record);
    case RECORD_EXCHANGE:
        return adopt_exchange(connection, record, fd);
    case RECORD_TUNNEL:
        return adopt_tunnel(connection, record, fd);
    default:
        fd_close(fd);
        return -EINVAL;
    }
}
