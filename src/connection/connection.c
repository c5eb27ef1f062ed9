#include "connection/connection.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "connection/opening.h"
#include "connection/reply.h"
#include "connection/requests.h"

static const char *const state_names[] = {
    [CONNECTION_IDLE] = "idle",
    [CONNECTION_HEAD] = "head",
    [CONNECTION_BODY] = "body",
    [CONNECTION_REPLY] = "reply",
    [CONNECTION_LINGER] = "linger",
    [CONNECTION_CLOSED] = "closed",
    [CONNECTION_PROXY] = "proxy",
    [CONNECTION_EXCHANGE] = "exchange",
    [CONNECTION_TUNNEL] = "tunnel",
};

static bool has_second_fd(enum connection_state state)
{
    return state == CONNECTION_REPLY || state == CONNECTION_EXCHANGE || state == CONNECTION_TUNNEL;
}

/* The one place where a connection changes its state. */
void connection_set_state(struct connection *connection, enum connection_state state)
{
    size_t *count = &connection->server->second_fd_count;

    *count -= has_second_fd(connection->state);
    *count += has_second_fd(state);
    log_debug("connection %d: %s -> %s", connection->io.fd, state_names[connection->state],
        state_names[state]);
    connection->state = state;
}

static struct deadline_list *deadline_for(struct connection *connection)
{
    struct server *server = connection->server;

    switch (connection->state) {
    case CONNECTION_IDLE: /* until its first byte a connection is waited for like for a head */
        return connection->requests == 0 ? &server->header : &server->idle;
    case CONNECTION_HEAD:
    case CONNECTION_PROXY:
        return &server->header;
    case CONNECTION_BODY:
        return &server->body;
    case CONNECTION_EXCHANGE:
        if (exchange_client_takes(connection->exchange))
            return &server->send;
        return exchange_client_sends(connection->exchange) ? &server->body : NULL;
    case CONNECTION_REPLY:
        return &server->send;
    case CONNECTION_LINGER:
        return &server->linger;
    case CONNECTION_TUNNEL: /* the backend's deadline is that of both sides */
    case CONNECTION_CLOSED:
        break;
    }
    return NULL;
}

static int events_for(const struct connection *connection)
{
    switch (connection->state) {
    case CONNECTION_REPLY:
        return EV_WRITE;
    case CONNECTION_EXCHANGE:
        return exchange_client_events(connection->exchange);
    case CONNECTION_TUNNEL:
        return tunnel_client_events(connection->tunnel);
    default:
        return EV_READ;
    }
}

/*
 * Of the answer's bytes, those that have left for good: the kernel wakes us only when much of its
 * buffer is free again, which a slow client can take longer for than any timeout. Below 0 while
 * former answers are on their way.
 */
int64_t connection_bytes_taken(const struct connection *connection)
{
    int waiting = 0;

    (void)ioctl(connection->io.fd, SIOCOUTQ, &waiting); /* tcp(7), unix(7): cannot fail for these */
    return (int64_t)connection->sent - waiting;
}

static void watch(struct connection *connection, int events)
{
    struct ev_loop *loop = connection->server->loop;

    if ((connection->io.events & (EV_READ | EV_WRITE)) != events) {
        ev_io_stop(loop, &connection->io);
        ev_io_modify(&connection->io, events);
    }
    if (events)
        ev_io_start(loop, &connection->io); /* nothing to do if it is started */
}

/*
 * The deadline of a head is not moved by its further bytes, and that of an answer not by what the
 * client sends; all are moved by progress.
 */
static bool keeps_deadline(const struct connection *connection, bool sending, int64_t taken)
{
    if (connection->state != connection->settled)
        return false;
    if (sending)
        return connection->sending && taken <= connection->taken;
    return connection->state == CONNECTION_HEAD || connection->state == CONNECTION_PROXY;
}

void connection_settle(struct connection *connection)
{
    struct deadline_list *list = deadline_for(connection);
    bool sending = list == &connection->server->send;
    int64_t taken = sending ? connection_bytes_taken(connection) : 0;

    watch(connection, events_for(connection));
    if (!list)
        deadline_disarm(&connection->deadline);
    else if (!keeps_deadline(connection, sending, taken))
        deadline_arm(list, &connection->deadline);
    connection->taken = taken;
    connection->sending = sending;
    connection->settled = connection->state;
}

static void on_event(struct ev_loop *loop, ev_io *io, int events);

struct connection *connection_new(
    struct server *server, int fd, const struct address *peer, unsigned listener)
{
    struct connection *connection = calloc(1, sizeof *connection);

    if (!connection) {
        fd_close(fd);
        server->counters->values[COUNTER_END_FAILED]++;
        return NULL;
    }
    connection->server = server;
    connection->listener = (uint16_t)listener;
    if (peer->length <= sizeof connection->peer)
        memcpy(&connection->peer, &peer->any, peer->length);
    else
        connection->peer.sin6_family = peer->any.sa_family;
    connection->settled = CONNECTION_CLOSED; /* none yet */
    deadline_init(&connection->deadline);
    ev_io_init(&connection->io, on_event, fd, EV_READ);
    connection->io.data = connection;
    list_append(&server->connections, &connection->link);
    server->connection_count++;
    connection_settle(connection);
    return connection;
}

void connection_release_reading(struct connection *connection)
{
    if (connection->reading)
        reading_return(&connection->server->readings, connection->reading);
    connection->reading = NULL;
}

void connection_end(struct connection *connection, enum counter reason)
{
    struct server *server = connection->server;

    connection_set_state(connection, CONNECTION_CLOSED);
    held_drop(&server->held);
    connection_count(connection, reason, 1);
    ev_io_stop(server->loop, &connection->io);
    deadline_disarm(&connection->deadline);
    fd_close(connection->io.fd);
    output_free(connection->output);
    exchange_free(connection->exchange);
    tunnel_free(connection->tunnel);
    connection_release_reading(connection);
    list_remove(&connection->link);
    server->connection_count--;
    free(connection);
    server->calls->ended(server->owner);
}

void connection_log_access(struct connection *connection)
{
    struct server *server = connection->server;

    if (!server->access_log)
        return;
    uint64_t body =
        connection->sent > connection->head_sent ? connection->sent - connection->head_sent : 0;
    reply_log_access(server, &connection->peer, connection->reading, connection->status, body);
}

/* Closes after the answer under way, which says so where that is still possible. */
void connection_close_after(struct connection *connection, enum counter reason, bool linger)
{
    connection->close = true;
    connection->linger = linger;
    connection->reason = reason;
}

/* The client has closed its side, or the connection broke. */
static void on_end_of_input(struct connection *connection, ssize_t n)
{
    switch (connection->state) {
    case CONNECTION_IDLE:
    case CONNECTION_PROXY:
        connection_end(connection, n == 0 ? COUNTER_END_CLIENT : COUNTER_END_ABANDONED);
        return;
    case CONNECTION_LINGER:
        connection_end(connection, connection->reason);
        return;
    default:
        connection_end(connection, COUNTER_END_ABANDONED);
    }
}

ssize_t connection_receive(struct connection *connection)
{
    struct server *server = connection->server;

    if (connection->state == CONNECTION_LINGER) { /* read, and forget */
        char dropped[4096];
        return recv(connection->io.fd, dropped, sizeof dropped, 0);
    }
    size_t room = reading_room(connection->reading, &server->head_limits);
    ssize_t n =
        recv(connection->io.fd, connection->reading->bytes + connection->reading->end, room, 0);
    if (n > 0)
        connection->reading->end += (size_t)n;
    return n;
}

static void on_nothing_to_read(struct connection *connection)
{
    if (connection->state != CONNECTION_IDLE)
        return;
    if (connection->server->retirement == RETIRING_STOP)
        connection_end(connection, connection->reason == COUNTER_END_ANNOUNCED
                                       ? COUNTER_END_ANNOUNCED
                                       : COUNTER_END_STOPPED);
    else
        connection_release_reading(connection);
}

void connection_on_readable(struct connection *connection)
{
    struct server *server = connection->server;

    if (!connection->reading && connection->state != CONNECTION_LINGER) {
        connection->reading = reading_take(&server->readings, &server->head_limits);
        if (!connection->reading) {
            connection_end(connection, COUNTER_END_FAILED);
            return;
        }
    }
    ssize_t n = connection_receive(connection);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        on_nothing_to_read(connection);
        return;
    }
    if (n <= 0) {
        on_end_of_input(connection, n);
        return;
    }
    connection_count(connection, COUNTER_BYTES_RECEIVED, (uint64_t)n);
    switch (connection->state) {
    case CONNECTION_IDLE:
        connection_set_state(connection, CONNECTION_HEAD);
        __attribute__((fallthrough));
    case CONNECTION_HEAD:
        requests_read(connection);
        return;
    case CONNECTION_PROXY:
        opening_read_header(connection);
        return;
    case CONNECTION_BODY:
        requests_read_body(connection);
        return;
    default: /* LINGER; its deadline stands, however much the client sends */
        return;
    }
}

static void on_event(struct ev_loop *loop, ev_io *io, int events)
{
    struct connection *connection = io->data;

    (void)loop;
    switch (connection->state) {
    case CONNECTION_REPLY:
        requests_on_writable(connection);
        return;
    case CONNECTION_EXCHANGE:
        exchange_on_client(connection->exchange, events);
        return;
    case CONNECTION_TUNNEL:
        tunnel_on_client(connection->tunnel, events);
        return;
    default:
        connection_on_readable(connection);
    }
}

void connection_retire(struct connection *connection)
{
    /* What the kernel has received of it counts as received: it is read before it is closed. */
    if (connection->state == CONNECTION_IDLE && connection->server->retirement == RETIRING_STOP)
        connection_on_readable(connection);
}

static void shorten_deadline(struct connection *connection, uint64_t usec)
{
    struct deadline_list *list = deadline_for(connection);

    if (list)
        deadline_shorten(list, &connection->deadline, usec_to_seconds(usec));
}

/*
 * Its time runs on, and progress made in it counts; of the present configuration's timeout and what
 * was left, the shorter holds.
 */
static void resume_deadline(struct connection *connection, int64_t deadline_usec, int64_t taken)
{
    if (deadline_usec >= 0) {
        shorten_deadline(connection, (uint64_t)deadline_usec);
        connection->taken = taken;
    }
    if (connection->drain && connection->state == CONNECTION_IDLE)
        shorten_deadline(connection, connection->server->config->drain_timeout_usec);
}

void connection_resume(
    struct connection *connection, enum connection_state state, int64_t deadline_usec)
{
    int64_t taken = connection->taken;

    connection_set_state(connection, state);
    connection_settle(connection);
    resume_deadline(connection, deadline_usec, taken);
    if (state == CONNECTION_HEAD)
        requests_read(connection);
    else if (state == CONNECTION_PROXY && connection->reading) /* else nothing of it has come */
        opening_read_header(connection);
    else if (state == CONNECTION_IDLE)
        connection_retire(connection); /* if the server stops already */
}

void connection_resume_exchange(
    struct connection *connection, int64_t deadline_usec, double seconds_left)
{
    int64_t taken = connection->taken;

    connection_set_state(connection, CONNECTION_EXCHANGE);
    exchange_resume(connection->exchange, seconds_left);
    resume_deadline(connection, deadline_usec, taken);
}
