#include "connection/forwarding.h"

#include <sys/socket.h>

#include "connection/requests.h"

/* Whether nothing of the request is still to come; then what follows it is known. */
static bool request_is_read(struct connection *connection)
{
    struct reading *reading = connection->reading;
    const struct exchange *exchange = connection->exchange;

    if (exchange && exchange->upload.whole)
        return true;
    /* What lies behind the head of one that is not replayable is not its body's beginning. */
    if ((exchange && !exchange->upload.replayable) || !upload_is_here(reading))
        return false;
    reading_start_body(reading);
    return reading_skip_body(reading) == BODY_COMPLETE;
}

/* What the client has not taken of answers before this one, and of interim ones, goes before it. */
static int hold_unsent(struct connection *connection)
{
    const struct exchange *exchange = connection->exchange;

    if (!exchange)
        return 0;
    return buffer_append(&connection->server->held.bytes, flow_span(&exchange->download.flow));
}

/* No backend answered. Returns as requests_answered(). */
static bool answer_failure(struct connection *connection, struct handler *handler, unsigned status)
{
    struct server *server = connection->server;

    if (hold_unsent(connection) < 0) {
        connection_end(connection, COUNTER_END_FAILED);
        return false;
    }
    if (!request_is_read(connection))
        connection_close_after(connection, COUNTER_END_ANNOUNCED, true);
    exchange_free(connection->exchange);
    connection->exchange = NULL;
    answer_reset(&server->answer);
    if (handler)
        handler->fail(handler, &connection->reading->request, status, &server->answer);
    else
        answer_text(&server->answer, status);
    return requests_send(connection);
}

/* With what is left of its patience, where it has waited already. Returns as requests_answered().
 */
bool forwarding_begin(
    struct connection *connection, struct handler *handler, double patience, unsigned attempts)
{
    const struct request *request = &connection->reading->request;

    if (request->framing == FRAMING_LENGTH && request->content_length > handler->max_body_size) {
        requests_refuse(connection, 413, COUNTER_END_REFUSED);
        return false;
    }
    connection->sent = connection->head_sent = 0;
    connection->status = 0;
    connection_set_state(connection, CONNECTION_EXCHANGE);
    unsigned status = exchange_begin(connection, handler, patience, attempts);
    if (status > 0)
        return answer_failure(connection, handler, status);
    if (!requests_send_held(connection)) /* answers to requests before this one */
        exchange_send_before(connection->exchange, &connection->server->held);
    return false;
}

void forwarding_close_after(struct connection *connection)
{
    bool linger = !connection->exchange->upload.whole;

    connection_close_after(
        connection, connection->close ? connection->reason : COUNTER_END_ANNOUNCED, linger);
}

void forwarding_answered(struct connection *connection)
{
    exchange_free(connection->exchange);
    connection->exchange = NULL;
    if (requests_answered(connection))
        requests_read(connection);
}

void forwarding_fail(struct connection *connection, unsigned status)
{
    if (answer_failure(connection, connection->exchange->handler, status))
        requests_read(connection);
}

/* As nginx logs a client that was answered nothing because it had left. */
#define STATUS_CLIENT_LEFT 499

void forwarding_abandon(struct connection *connection)
{
    forwarding_end(connection, STATUS_CLIENT_LEFT, COUNTER_END_ABANDONED);
}

void forwarding_end(struct connection *connection, unsigned status, enum counter reason)
{
    if (connection->status == 0)
        connection->status = (uint16_t)status;
    connection_log_access(connection);
    connection_end(connection, reason);
}

/* A body that ends with the connection has no other sign of its end: a reset is none (tcp(7)). */
void forwarding_break_off(struct connection *connection, unsigned status)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (connection->exchange->download.body == FORWARD_CLOSE)
        (void)setsockopt(connection->io.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    forwarding_end(connection, status, COUNTER_END_FAILED);
}

void forwarding_switch(struct connection *connection, struct backend *backend,
    struct flow to_client, struct flow to_backend, struct span rest)
{
    struct reading *reading = connection->reading;
    struct span early = {reading->bytes + reading->body, reading->end - reading->body};

    connection_log_access(connection);
    exchange_free(connection->exchange);
    connection->exchange = NULL;
    connection_set_state(connection, CONNECTION_TUNNEL);
    connection_count(connection, COUNTER_TUNNELS, 1);
    connection->tunnel = tunnel_new(connection, backend, to_client, to_backend);
    if (!connection->tunnel || flow_keep(&connection->tunnel->to_client, rest) < 0 ||
        flow_keep(&connection->tunnel->to_backend, early) < 0) {
        connection_end(connection, COUNTER_END_FAILED);
        return;
    }
    connection_release_reading(connection);
    tunnel_start(connection->tunnel);
}

struct handler *forwarding_find_handler(struct connection *connection)
{
    struct handler *handler = requests_find_handler(connection);

    return handler && handler->gateway ? handler : NULL;
}
