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
#include "connection/reply.h"
#include "http/proxy_protocol.h"

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

static void count(struct connection *connection, enum counter counter, uint64_t by)
{
    connection->server->counters->values[counter] += by;
}

static bool has_second_fd(enum connection_state state)
{
    return state == CONNECTION_REPLY || state == CONNECTION_EXCHANGE || state == CONNECTION_TUNNEL;
}

/* The one place where a connection changes its state. */
static void set_state(struct connection *connection, enum connection_state state)
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
static int64_t bytes_taken(const struct connection *connection)
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

/* The deadline of a head is not moved by its further bytes, all others are moved by any progress. */
void connection_settle(struct connection *connection)
{
    struct deadline_list *list = deadline_for(connection);
    bool head = connection->state == CONNECTION_HEAD || connection->state == CONNECTION_PROXY;

    watch(connection, events_for(connection));
    if (!list)
        deadline_disarm(&connection->deadline);
    else if (connection->state != connection->settled || !head)
        deadline_arm(list, &connection->deadline);
    if (list == &connection->server->send)
        connection->taken = bytes_taken(connection);
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

static void release_reading(struct connection *connection)
{
    if (connection->reading)
        reading_return(&connection->server->readings, connection->reading);
    connection->reading = NULL;
}

void connection_end(struct connection *connection, enum counter reason)
{
    struct server *server = connection->server;

    set_state(connection, CONNECTION_CLOSED);
    count(connection, reason, 1);
    ev_io_stop(server->loop, &connection->io);
    deadline_disarm(&connection->deadline);
    fd_close(connection->io.fd);
    output_free(connection->output);
    exchange_free(connection->exchange);
    tunnel_free(connection->tunnel);
    release_reading(connection);
    list_remove(&connection->link);
    server->connection_count--;
    free(connection);
    server->calls->ended(server->owner);
}

/* Whether the client sends, or has sent, what nobody will read. */
static bool is_sending(const struct connection *connection)
{
    const struct reading *reading = connection->reading;
    int unread = 0;

    if (connection->linger || reading->body < reading->end)
        return true;
    return ioctl(connection->io.fd, FIONREAD, &unread) == 0 && unread > 0;
}

/* RFC 9112 §9.6: closing with bytes unread resets the connection, and our answer may be lost in it.
 */
static void finish(struct connection *connection)
{
    if (!is_sending(connection) || shutdown(connection->io.fd, SHUT_WR) < 0) {
        connection_end(connection, connection->reason);
        return;
    }
    release_reading(connection);
    set_state(connection, CONNECTION_LINGER);
    connection_settle(connection);
}

static void log_access(struct connection *connection)
{
    struct server *server = connection->server;

    if (!server->access_log)
        return;
    uint64_t body =
        connection->sent > connection->head_sent ? connection->sent - connection->head_sent : 0;
    reply_log_access(server, &connection->peer, connection->reading, connection->status, body);
}

/* Closes after the answer under way, which says so where that is still possible. */
static void close_after(struct connection *connection, enum counter reason, bool linger)
{
    connection->close = true;
    connection->linger = linger;
    connection->reason = reason;
}

static void on_readable(struct connection *connection);

/* The answer has gone out whole. Returns whether the connection goes on with bytes already here. */
static bool answered(struct connection *connection)
{
    log_access(connection);
    if (connection->close) {
        finish(connection);
        return false;
    }
    if (reading_next(connection->reading, &connection->server->head_limits)) {
        set_state(connection, CONNECTION_HEAD);
        connection->settled = CONNECTION_CLOSED; /* another head has a deadline of its own */
        return true;
    }
    release_reading(connection);
    set_state(connection, CONNECTION_IDLE);
    connection_settle(connection);
    if (connection->server->retirement == RETIRING_STOP) {
        connection->reason = COUNTER_END_ANNOUNCED; /* it was not idle when the stop came */
        on_readable(connection); /* a request that lies in the socket, or the end */
    }
    return false;
}

/* The answer under way cannot be sent to its end, as output_send() said with @r. */
static void give_up(struct connection *connection, int r)
{
    log_access(connection);
    connection_end(connection, r < 0 ? COUNTER_END_ABANDONED : COUNTER_END_FAILED);
}

/* Sends what server->answer holds. Returns as answered(). */
static bool send_answer(struct connection *connection)
{
    struct server *server = connection->server;
    struct part parts[ANSWER_PARTS_MAX + 1];
    struct output output;
    uint64_t sent = 0;

    connection->head_sent =
        reply_compose(server, &connection->reading->request, connection->close, parts, &output);
    connection->status = (uint16_t)server->answer.status; /* now that it may have become a 500 */
    count(connection, COUNTER_ANSWERS_1XX + server->answer.status / 100 - 1, 1);
    if (connection->head_sent == 0) { /* no memory for an answer */
        connection_end(connection, COUNTER_END_FAILED);
        return false;
    }
    int r = output_send(&output, connection->io.fd, &sent);
    connection->sent = sent;
    count(connection, COUNTER_BYTES_SENT, sent);
    if (r == OUTPUT_BLOCKED || r == OUTPUT_YIELD) {
        server->answer.file = -1; /* the kept output owns it */
        connection->output = output_keep(&output);
        if (connection->output) {
            set_state(connection, CONNECTION_REPLY);
            connection_settle(connection);
            return false;
        }
        server->answer.file = output.file;
    }
    answer_reset(&server->answer);
    if (r == OUTPUT_DONE)
        return answered(connection);
    give_up(connection, r);
    return false;
}

/* Answers with a short text of ours and closes. The rest of what the client sends is not looked at.
 */
static void refuse(struct connection *connection, unsigned status, enum counter reason)
{
    close_after(connection, reason, true);
    answer_reset(&connection->server->answer);
    answer_text(&connection->server->answer, status);
    (void)send_answer(connection); /* the connection closes: nothing follows */
}

static struct handler *find_handler(struct connection *connection)
{
    struct server *server = connection->server;

    return server->calls->route(
        server->owner, connection->listener, &connection->reading->request);
}

/* Sends what a handler has filled in. Returns as answered(). */
static bool send_filled(struct connection *connection)
{
    if (!connection->close && (connection->drain || server_says_close(connection->server)))
        close_after(connection, COUNTER_END_ANNOUNCED, true);
    return send_answer(connection);
}

/* The request is here with its body: let @handler answer. Returns as answered(). */
static bool answer_with(struct connection *connection, struct handler *handler)
{
    struct server *server = connection->server;

    answer_reset(&server->answer);
    if (handler)
        handler->answer(handler, &connection->reading->request, &server->answer);
    else
        answer_text(&server->answer, 404);
    return send_filled(connection);
}

static bool answer_request(struct connection *connection)
{
    return answer_with(connection, find_handler(connection));
}

/* ---- requests that backends answer ---- */

/* Whether nothing of the request is still to come; then what follows it is known. */
static bool request_is_read(struct connection *connection)
{
    struct reading *reading = connection->reading;

    if (connection->exchange && connection->exchange->upload.whole)
        return true;
    if (!upload_is_here(reading))
        return false;
    reading_start_body(reading);
    return reading_skip_body(reading) == BODY_COMPLETE;
}

/* No backend answered. Returns as answered(). */
static bool answer_failure(struct connection *connection, struct handler *handler, unsigned status)
{
    struct server *server = connection->server;

    if (!request_is_read(connection))
        close_after(connection, COUNTER_END_ANNOUNCED, true);
    exchange_free(connection->exchange);
    connection->exchange = NULL;
    answer_reset(&server->answer);
    if (handler)
        handler->fail(handler, &connection->reading->request, status, &server->answer);
    else
        answer_text(&server->answer, status);
    return send_filled(connection);
}

/* With what is left of its patience, where it has waited already. Returns as answered(). */
static bool forward(
    struct connection *connection, struct handler *handler, double patience, unsigned attempts)
{
    const struct request *request = &connection->reading->request;

    if (request->framing == FRAMING_LENGTH && request->content_length > handler->max_body_size) {
        refuse(connection, 413, COUNTER_END_REFUSED);
        return false;
    }
    connection->sent = connection->head_sent = 0;
    connection->status = 0;
    set_state(connection, CONNECTION_EXCHANGE);
    unsigned status = exchange_begin(connection, handler, patience, attempts);
    return status > 0 && answer_failure(connection, handler, status);
}

void connection_close_after(struct connection *connection)
{
    if (connection->close)
        return;
    close_after(connection, COUNTER_END_ANNOUNCED, !connection->exchange->upload.whole);
}

static void read_requests(struct connection *connection);

void connection_answered(struct connection *connection)
{
    exchange_free(connection->exchange);
    connection->exchange = NULL;
    if (answered(connection))
        read_requests(connection);
}

void connection_fail(struct connection *connection, unsigned status)
{
    if (answer_failure(connection, connection->exchange->handler, status))
        read_requests(connection);
}

/* A body that ends with the connection has no other sign of its end: a reset is none (tcp(7)). */
void connection_break_off(struct connection *connection)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (connection->exchange->download.body == FORWARD_CLOSE)
        (void)setsockopt(connection->io.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    log_access(connection);
    connection_end(connection, COUNTER_END_FAILED);
}

void connection_switch(struct connection *connection, struct backend *backend,
    struct flow to_client, struct flow to_backend, struct span rest)
{
    struct reading *reading = connection->reading;
    struct span early = {reading->bytes + reading->body, reading->end - reading->body};

    log_access(connection);
    exchange_free(connection->exchange);
    connection->exchange = NULL;
    set_state(connection, CONNECTION_TUNNEL);
    count(connection, COUNTER_TUNNELS, 1);
    connection->tunnel = tunnel_new(connection, backend, to_client, to_backend);
    if (!connection->tunnel || flow_keep(&connection->tunnel->to_client, rest) < 0 ||
        flow_keep(&connection->tunnel->to_backend, early) < 0) {
        connection_end(connection, COUNTER_END_FAILED);
        return;
    }
    release_reading(connection);
    tunnel_start(connection->tunnel);
}

/* ---- */

static bool read_body(struct connection *connection)
{
    struct reading *reading = connection->reading;
    int r = reading_skip_body(reading);

    if (r == BODY_MALFORMED) {
        refuse(connection, 400, COUNTER_END_REFUSED);
        return false;
    }
    if (reading->body_read > connection->server->config->max_body_size) {
        refuse(connection, 413, COUNTER_END_REFUSED);
        return false;
    }
    if (r == BODY_COMPLETE)
        return answer_request(connection);
    connection_settle(connection);
    return false;
}

/*
 * RFC 9110 §10.1.1. A method whose body no handler reads is answered at once, without asking for
 * the body, which may or may not come: so the connection closes after it.
 */
static bool continue_or_answer(struct connection *connection)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct request *request = &connection->reading->request;

    if (request->method != METHOD_GET && request->method != METHOD_HEAD) {
        close_after(connection, COUNTER_END_ANNOUNCED, true);
        return answer_request(connection);
    }
    ssize_t n = send(connection->io.fd, interim, sizeof interim - 1, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) { /* former answers fill the socket: a final one does as well */
        close_after(connection, COUNTER_END_ANNOUNCED, true);
        return answer_request(connection);
    }
    if (n != sizeof interim - 1) { /* so few bytes go as a whole: the client is gone */
        connection_end(connection, COUNTER_END_ABANDONED);
        return false;
    }
    count(connection, COUNTER_ANSWERS_1XX, 1);
    set_state(connection, CONNECTION_BODY);
    return read_body(connection);
}

/* Its head is complete. @patience and @attempts: as forward(). Returns as answered(). */
static bool dispatch(struct connection *connection, double patience, unsigned attempts)
{
    struct reading *reading = connection->reading;
    struct request *request = &reading->request;
    struct handler *handler = find_handler(connection);
    if (handler && handler->gateway)
        return forward(connection, handler, patience, attempts);
    if (request->framing == FRAMING_NONE)
        return answer_with(connection, handler);
    if (request->framing == FRAMING_LENGTH &&
        request->content_length > connection->server->config->max_body_size) {
        refuse(connection, 413, COUNTER_END_REFUSED);
        return false;
    }
    if (request->expect_continue && reading->body == reading->end)
        return continue_or_answer(connection);
    set_state(connection, CONNECTION_BODY);
    return read_body(connection);
}

/* A head has been read to its end. Returns as answered(). */
static bool begin_request(struct connection *connection)
{
    struct reading *reading = connection->reading;
    struct request *request = &reading->request;

    connection->requests++;
    count(connection, COUNTER_REQUESTS, 1);
    reading->began = ev_now(connection->server->loop);
    reading_start_body(reading);
    connection->close = connection->linger = false;
    if (!request->keep_alive)
        close_after(connection, COUNTER_END_ASKED, false);
    return dispatch(connection, -1, 0);
}

/* Answers every request that lies in the buffer, until one is incomplete or the socket is full. */
static void read_requests(struct connection *connection)
{
    unsigned status;
    const char *why;

    for (;;) {
        switch (reading_parse(connection->reading, &status, &why)) {
        case HEAD_COMPLETE:
            if (!begin_request(connection))
                return;
            break;
        case HEAD_MORE:
            connection_settle(connection);
            return;
        case HEAD_REFUSED:
            log_debug("connection %d: refused with %u: %s", connection->io.fd, status, why);
            connection->requests++;
            connection->reading->began = ev_now(connection->server->loop);
            refuse(connection, status, COUNTER_END_REFUSED);
            return;
        }
    }
}

/* ---- how a connection begins ---- */

static struct listener_manner manner_of(const struct connection *connection)
{
    struct server *server = connection->server;
    struct listener_manner manner = {0};

    server->calls->listener(server->owner, connection->listener, &manner);
    return manner;
}

static void open_tunnel(struct connection *connection, struct gateway *gateway, struct span early)
{
    set_state(connection, CONNECTION_TUNNEL);
    count(connection, COUNTER_TUNNELS, 1);
    tunnel_begin(connection, gateway, early, -1);
}

void connection_open(struct connection *connection)
{
    struct listener_manner manner = manner_of(connection);

    if (manner.proxy_header) {
        set_state(connection, CONNECTION_PROXY);
        connection_settle(connection);
    } else if (manner.tunnel) {
        open_tunnel(connection, manner.tunnel, (struct span){NULL, 0});
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
        set_state(connection, CONNECTION_HEAD);
        read_requests(connection);
    } else {
        release_reading(connection);
        set_state(connection, CONNECTION_IDLE);
        connection_settle(connection);
    }
}

static void read_proxy_header(struct connection *connection)
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
        release_reading(connection);
}

static void on_readable(struct connection *connection)
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
    count(connection, COUNTER_BYTES_RECEIVED, (uint64_t)n);
    switch (connection->state) {
    case CONNECTION_IDLE:
        set_state(connection, CONNECTION_HEAD);
        __attribute__((fallthrough));
    case CONNECTION_HEAD:
        read_requests(connection);
        return;
    case CONNECTION_PROXY:
        read_proxy_header(connection);
        return;
    case CONNECTION_BODY:
        if (read_body(connection))
            read_requests(connection);
        return;
    default: /* LINGER; its deadline stands, however much the client sends */
        return;
    }
}

static void on_writable(struct connection *connection)
{
    uint64_t before = connection->sent;
    int r = output_send(connection->output, connection->io.fd, &connection->sent);

    count(connection, COUNTER_BYTES_SENT, connection->sent - before);
    if (r == OUTPUT_BLOCKED || r == OUTPUT_YIELD) {
        if (connection->sent > before)
            connection_settle(connection);
        return;
    }
    if (r != OUTPUT_DONE) {
        give_up(connection, r);
        return;
    }
    output_free(connection->output);
    connection->output = NULL;
    if (answered(connection))
        read_requests(connection);
}

static void on_event(struct ev_loop *loop, ev_io *io, int events)
{
    struct connection *connection = io->data;

    (void)loop;
    switch (connection->state) {
    case CONNECTION_REPLY:
        on_writable(connection);
        return;
    case CONNECTION_EXCHANGE:
        exchange_on_client(connection->exchange, events);
        return;
    case CONNECTION_TUNNEL:
        tunnel_on_client(connection->tunnel, events);
        return;
    default:
        on_readable(connection);
    }
}

void connection_retire(struct connection *connection)
{
    /* What the kernel has received of it counts as received: it is read before it is closed. */
    if (connection->state == CONNECTION_IDLE && connection->server->retirement == RETIRING_STOP)
        on_readable(connection);
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

    set_state(connection, state);
    connection_settle(connection);
    resume_deadline(connection, deadline_usec, taken);
    if (state == CONNECTION_HEAD)
        read_requests(connection);
    else if (state == CONNECTION_PROXY)
        read_proxy_header(connection);
    else if (state == CONNECTION_IDLE)
        connection_retire(connection); /* if the server stops already */
}

/* What fits: the connection ends now. */
static void send_unavailable(struct connection *connection)
{
    static const char unavailable[] =
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

    (void)send(connection->io.fd, unavailable, sizeof unavailable - 1, MSG_NOSIGNAL);
    count(connection, COUNTER_ANSWERS_5XX, 1);
    connection->status = 503;
    connection->head_sent = connection->sent = 0;
}

struct handler *connection_find_forwarder(struct connection *connection)
{
    struct handler *handler = find_handler(connection);

    return handler && handler->gateway ? handler : NULL;
}

void connection_resume_waiting(
    struct connection *connection, double patience, unsigned attempts)
{
    reading_start_body(connection->reading);
    if (dispatch(connection, patience, attempts))
        read_requests(connection);
}

void connection_resume_exchange(struct connection *connection, double seconds_left)
{
    set_state(connection, CONNECTION_EXCHANGE);
    exchange_resume(connection->exchange, seconds_left);
}

void connection_resume_tunnel(struct connection *connection)
{
    set_state(connection, CONNECTION_TUNNEL);
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
        if (!exchange_has_answered(connection->exchange))
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
    log_access(connection);
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
    refuse(connection, 408, reason);
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
        log_access(connection);
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

    if (bytes_taken(connection) > connection->taken) {
        connection_settle(connection);
        return;
    }
    log_access(connection);
    connection_end(connection, COUNTER_END_SEND);
}

void connection_linger_expired(struct deadline *deadline)
{
    struct connection *connection = of_deadline(deadline);

    connection_end(connection, connection->reason);
}
