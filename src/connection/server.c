#include "connection/server.h"

#include <string.h>

#include "base/clock.h"
#include "connection/expiry.h"
#include "connection/opening.h"

/* "infinity" in the configuration is no deadline. */
static double timeout_seconds(uint64_t usec)
{
    return usec == USEC_INFINITY ? 0 : usec_to_seconds(usec);
}

void server_init(struct server *server, struct ev_loop *loop, const struct config *config,
    struct counters *counters, struct access_log *access_log, const struct server_calls *calls,
    void *owner)
{
    memset(server, 0, sizeof *server);
    server->loop = loop;
    server->config = config;
    server->counters = counters;
    server->access_log = access_log;
    server->calls = calls;
    server->owner = owner;
    server->head_limits =
        (struct head_limits){.size = config->head_size, .fields = config->max_fields};
    list_init(&server->connections);
    reading_pool_init(&server->readings, config->head_size);
    answer_init(&server->answer);
    deadline_list_init(
        &server->idle, loop, timeout_seconds(config->idle_timeout_usec), connection_idle_expired);
    deadline_list_init(&server->header, loop, timeout_seconds(config->header_timeout_usec),
        connection_header_expired);
    deadline_list_init(
        &server->body, loop, timeout_seconds(config->body_timeout_usec), connection_body_expired);
    deadline_list_init(
        &server->send, loop, timeout_seconds(config->send_timeout_usec), connection_send_expired);
    deadline_list_init(&server->linger, loop, timeout_seconds(config->linger_timeout_usec),
        connection_linger_expired);
}

void server_destroy(struct server *server)
{
    server_cut(server);
    deadline_list_deinit(&server->idle);
    deadline_list_deinit(&server->header);
    deadline_list_deinit(&server->body);
    deadline_list_deinit(&server->send);
    deadline_list_deinit(&server->linger);
    answer_destroy(&server->answer);
    buffer_clear(&server->workspace.head);
    buffer_clear(&server->workspace.body);
    held_destroy(&server->held);
    reading_pool_destroy(&server->readings);
}

void server_accept(struct server *server, int fd, const struct address *peer, unsigned listener)
{
    server->counters->values[COUNTER_ACCEPTED]++;
    struct connection *connection = connection_new(server, fd, peer, listener);
    if (connection) /* it counts its own failure */
        opening_begin(connection);
}

void server_retire(struct server *server, enum retirement retirement)
{
    server->retirement = retirement;
    LIST_EACH (link, &server->connections)
        connection_retire(CONTAINER_OF(link, struct connection, link));
}

void server_cut(struct server *server)
{
    LIST_EACH (link, &server->connections)
        connection_cut(CONTAINER_OF(link, struct connection, link));
}

const char *server_date(struct server *server)
{
    time_t now = (time_t)ev_now(server->loop);

    if (now != server->date_second || server->date[0] == '\0') {
        server->date_second = now;
        date_format(now, server->date);
    }
    return server->date;
}
