#include "connection/tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "connection/connection.h"

/* One direction. */
struct direction {
    int from, to;
    struct flow *flow;
    bool *ended, *told;
    enum counter counter; /* of the bytes */
};

static struct direction from_client(struct tunnel *tunnel)
{
    return (struct direction){tunnel->connection->io.fd, tunnel->backend->io.fd,
        &tunnel->to_backend, &tunnel->client_ended, &tunnel->backend_told, COUNTER_BYTES_RECEIVED};
}

static struct direction from_backend(struct tunnel *tunnel)
{
    return (struct direction){tunnel->backend->io.fd, tunnel->connection->io.fd, &tunnel->to_client,
        &tunnel->backend_ended, &tunnel->client_told, COUNTER_BYTES_SENT};
}

int tunnel_client_events(const struct tunnel *tunnel)
{
    return (flow_is_empty(&tunnel->to_backend) && !tunnel->client_ended ? EV_READ : 0) |
           (flow_is_empty(&tunnel->to_client) ? 0 : EV_WRITE);
}

static int backend_events(const struct tunnel *tunnel)
{
    return (flow_is_empty(&tunnel->to_client) && !tunnel->backend_ended ? EV_READ : 0) |
           (flow_is_empty(&tunnel->to_backend) ? 0 : EV_WRITE);
}

static bool is_over(const struct tunnel *tunnel)
{
    return tunnel->client_told && tunnel->backend_told;
}

static void settle(struct tunnel *tunnel)
{
    if (is_over(tunnel)) {
        connection_end(tunnel->connection, COUNTER_END_TUNNEL);
        return;
    }
    if (tunnel->backend) {
        backend_watch(tunnel->backend, backend_events(tunnel));
        deadline_arm(&tunnel->backend->gateway->tunnel, &tunnel->backend->deadline);
    }
    connection_settle(tunnel->connection);
}

/* What one side did is done to the other: a reset is not mistaken for an end. */
static void break_off(struct tunnel *tunnel)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    /* tcp(7); a hint: without it the other side sees an end */
    (void)setsockopt(tunnel->connection->io.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    (void)setsockopt(tunnel->backend->io.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    connection_end(tunnel->connection, COUNTER_END_TUNNEL);
}

/* The end follows the last byte. */
static void pass_end_on(const struct direction *direction)
{
    if (!*direction->ended || *direction->told || !flow_is_empty(direction->flow))
        return;
    (void)shutdown(direction->to, SHUT_WR); /* ENOTCONN: it is closed already */
    *direction->told = true;
}

/* Returns false when a side is broken. */
static bool pass_on(struct tunnel *tunnel, const struct direction *direction)
{
    struct workspace *workspace = &tunnel->connection->server->workspace;
    ssize_t n = recv(direction->from, workspace->piece, PIECE_SIZE, 0);
    uint64_t sent = 0;

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        *direction->ended = true;
    tunnel->connection->server->counters->values[direction->counter] += (uint64_t)n;
    int r = flow_send_span(
        direction->flow, direction->to, (struct span){workspace->piece, (size_t)n}, &sent);
    if (r >= 0)
        pass_end_on(direction);
    return r >= 0;
}

static bool flush(const struct direction *direction)
{
    uint64_t sent = 0;

    if (flow_flush(direction->flow, direction->to, &sent) < 0)
        return false;
    pass_end_on(direction);
    return true;
}

/* @in: what comes from the side that has events; @out: what goes to it. */
static void on_side(struct tunnel *tunnel, int events, struct direction in, struct direction out)
{
    if ((events & EV_WRITE && !flush(&out)) || (events & EV_READ && !pass_on(tunnel, &in)))
        break_off(tunnel);
    else
        settle(tunnel);
}

/* Nobody is there to pass it on to: one piece is kept, and who leaves without a word is let go. */
static void keep_first_piece(struct tunnel *tunnel)
{
    struct connection *connection = tunnel->connection;
    struct workspace *workspace = &connection->server->workspace;
    ssize_t n = recv(connection->io.fd, workspace->piece, PIECE_SIZE, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && flow_keep(&tunnel->to_backend, (struct span){workspace->piece, (size_t)n}) == 0) {
        connection->server->counters->values[COUNTER_BYTES_RECEIVED] += (uint64_t)n;
        settle(tunnel);
    } else {
        connection_end(connection, n == 0 ? COUNTER_END_CLIENT : COUNTER_END_ABANDONED);
    }
}

void tunnel_on_client(struct tunnel *tunnel, int events)
{
    if (tunnel->backend)
        on_side(tunnel, events, from_client(tunnel), from_backend(tunnel));
    else
        keep_first_piece(tunnel);
}

static void on_backend(struct ev_loop *loop, ev_io *io, int events)
{
    struct tunnel *tunnel = io->data;

    (void)loop;
    on_side(tunnel, events, from_backend(tunnel), from_client(tunnel));
}

void tunnel_expired(struct deadline *deadline)
{
    struct backend *backend = CONTAINER_OF(deadline, struct backend, deadline);
    struct tunnel *tunnel = backend->io.data;

    connection_end(tunnel->connection, COUNTER_END_IDLE);
}

/* ---- beginning and end ---- */

static void take(struct tunnel *tunnel, struct backend *backend)
{
    tunnel->backend = backend;
    ev_set_cb(&backend->io, on_backend);
    backend->io.data = tunnel;
}

void tunnel_start(struct tunnel *tunnel)
{
    struct direction up = from_client(tunnel), down = from_backend(tunnel);

    if (flush(&up) && flush(&down))
        settle(tunnel);
    else
        break_off(tunnel);
}

/* A backend is there: what it gets first is what it begins with, then what the client sent. */
static void begin(struct tunnel *tunnel, struct backend *backend)
{
    struct connection *connection = tunnel->connection;
    struct flow early = tunnel->to_backend;
    struct buffer *preface = &connection->server->workspace.head;

    take(tunnel, backend);
    preface->length = 0;
    tunnel->to_backend = (struct flow){0};
    int r = gateway_preface(backend->gateway, &connection->peer, connection->io.fd, preface);
    if (r == 0)
        r = flow_keep(&tunnel->to_backend, buffer_span(preface));
    if (r == 0)
        r = flow_keep(&tunnel->to_backend, flow_span(&early));
    flow_clear(&early);
    if (r < 0)
        break_off(tunnel);
    else
        tunnel_start(tunnel);
}

static void on_granted(struct demand *demand, struct backend *backend)
{
    struct tunnel *tunnel = CONTAINER_OF(demand, struct tunnel, demand);

    tunnel->waiting = false;
    begin(tunnel, backend);
}

static void refuse(struct tunnel *tunnel, unsigned status, const char *why)
{
    struct server *server = tunnel->connection->server;

    server->calls->failed(
        server->owner, NULL, tunnel->demand.gateway->name, (struct span){NULL, 0}, status, why);
    connection_end(tunnel->connection, COUNTER_END_FAILED);
}

static void on_refused(struct demand *demand, unsigned status, const char *why)
{
    struct tunnel *tunnel = CONTAINER_OF(demand, struct tunnel, demand);

    tunnel->waiting = false;
    refuse(tunnel, status, why);
}

static struct tunnel *make(struct connection *connection, struct gateway *gateway)
{
    struct tunnel *tunnel = calloc(1, sizeof *tunnel);

    if (!tunnel)
        return NULL;
    tunnel->connection = connection;
    demand_init(&tunnel->demand, gateway, &connection->peer);
    tunnel->demand.granted = on_granted;
    tunnel->demand.refused = on_refused;
    return tunnel;
}

void tunnel_begin(
    struct connection *connection, struct gateway *gateway, struct span early, double patience)
{
    struct tunnel *tunnel = make(connection, gateway);
    struct backend *backend;
    unsigned status;
    const char *why;

    connection->tunnel = tunnel;
    if (!tunnel || flow_keep(&tunnel->to_backend, early) < 0) {
        connection_end(connection, COUNTER_END_FAILED);
        return;
    }
    tunnel->demand.patience = patience;
    switch (gateway->calls->ask(gateway, &tunnel->demand, &backend, &status, &why)) {
    case DEMAND_GRANTED:
        begin(tunnel, backend);
        return;
    case DEMAND_WAITS:
        tunnel->waiting = true;
        settle(tunnel);
        return;
    default:
        refuse(tunnel, status, why);
    }
}

struct tunnel *tunnel_new(struct connection *connection, struct backend *backend,
    struct flow to_client, struct flow to_backend)
{
    struct tunnel *tunnel = make(connection, backend->gateway);

    if (!tunnel) {
        backend->gateway->calls->give_back(backend, BACKEND_CLOSED);
        flow_clear(&to_client);
        flow_clear(&to_backend);
        return NULL;
    }
    take(tunnel, backend);
    tunnel->to_client = to_client;
    tunnel->to_backend = to_backend;
    return tunnel;
}

void tunnel_resume(struct tunnel *tunnel, double seconds_left)
{
    struct backend *backend = tunnel->backend;

    settle(tunnel);
    if (seconds_left >= 0)
        deadline_shorten(&backend->gateway->tunnel, &backend->deadline, seconds_left);
}

void tunnel_free(struct tunnel *tunnel)
{
    if (!tunnel)
        return;
    if (tunnel->waiting)
        tunnel->demand.gateway->calls->cancel(&tunnel->demand);
    if (tunnel->backend)
        tunnel->backend->gateway->calls->give_back(tunnel->backend, BACKEND_CLOSED);
    flow_clear(&tunnel->to_client);
    flow_clear(&tunnel->to_backend);
    free(tunnel);
}
