#include "connection/expiry.h"

#include <sys/socket.h>

#include "connection/requests.h"

/* What fits: the connection ends now. */
static void send_unavailable(struct connection *connection)
{
    static const char unavailable[] =
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

    (void)send(connection->io.fd, unavailable, sizeof unavailable - 1, MSG_NOSIGNAL);
    connection_count(connection, COUNTER_ANSWERS_5XX, 1);
    connection->status = 503;
    connection->head_sent = connection->sent = 0;
}

void connection_cut(struct connection *connection)
{
    switch (connection->state) {
    case CONNECTION_IDLE:
        connection_end(connection, COUNTER_END_STOPPED);
        return;
    case CONNECTION_LINGER:
        connection_end(connection, connection->reason);
        return;
    case CONNECTION_PROXY:
    case CONNECTION_TUNNEL:
        connection_end(connection, COUNTER_END_CUT);
        return;
    case CONNECTION_EXCHANGE:
        if (!exchange_has_answered(connection->exchange) &&
            !exchange_client_takes(connection->exchange))
            send_unavailable(connection);
        break;
    case CONNECTION_HEAD:
        connection->reading->began = ev_now(connection->server->loop);
        __attribute__((fallthrough));
    case CONNECTION_BODY:
        send_unavailable(connection);
        break;
    default: /* the answer under way stays incomplete */
        break;
    }
    connection_log_access(connection);
    connection_end(connection, COUNTER_END_CUT);
}

static struct connection *of_deadline(struct deadline *deadline)
{
    return CONTAINER_OF(deadline, struct connection, deadline);
}

void connection_idle_expired(struct deadline *deadline)
{
    connection_end(of_deadline(deadline), COUNTER_END_IDLE);
}

static void time_out_request(struct connection *connection, enum counter reason)
{
    connection->reading->began = ev_now(connection->server->loop);
    requests_refuse(connection, 408, reason);
}

void connection_header_expired(struct deadline *deadline)
{
    struct connection *connection = of_deadline(deadline);

    if (connection->state != CONNECTION_HEAD) /* it never sent a request: nothing to answer to */
        connection_end(connection, COUNTER_END_HEADER);
    else
        time_out_request(connection, COUNTER_END_HEADER);
}

void connection_body_expired(struct deadline *deadline)
{
    struct connection *connection = of_deadline(deadline);

    if (connection->exchange && exchange_has_answered(connection->exchange)) {
        connection_log_access(connection);
        connection_end(connection, COUNTER_END_BODY);
        return;
    }
    exchange_free(connection->exchange);
    connection->exchange = NULL;
    time_out_request(connection, COUNTER_END_BODY);
}

void connection_send_expired(struct deadline *deadline)
{
    struct connection *connection = of_deadline(deadline);

    if (connection_bytes_taken(connection) > connection->taken) {
        connection_settle(connection);
        return;
    }
    connection_log_access(connection);
    connection_end(connection, COUNTER_END_SEND);
}

void connection_linger_expired(struct deadline *deadline)
{
    struct connection *connection = of_deadline(deadline);

    connection_end(connection, connection->reason);
}
