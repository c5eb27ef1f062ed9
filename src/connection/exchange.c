#include "connection/exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "connection/connection.h"
#include "connection/forwarding.h"
#include "connection/tunnel.h"

static struct server *server_of(const struct exchange *exchange)
{
    return exchange->connection->server;
}

static struct reading *reading_of(const struct exchange *exchange)
{
    return exchange->connection->reading;
}

static void count(const struct exchange *exchange, enum counter counter)
{
    server_of(exchange)->counters->values[counter]++;
}

/* RFC 9110 §9.2.2. */
static bool is_idempotent(enum method method)
{
    switch (method) {
    case METHOD_GET:
    case METHOD_HEAD:
    case METHOD_PUT:
    case METHOD_DELETE:
    case METHOD_OPTIONS:
    case METHOD_TRACE:
        return true;
    default:
        return false;
    }
}

bool exchange_has_answered(const struct exchange *exchange)
{
    return exchange->download.state != DOWNLOAD_HEAD;
}

/* ---- what is waited for ---- */

static bool takes_body(const struct exchange *exchange)
{
    return exchange->backend && !exchange->upload.whole && !exchange->broken;
}

bool exchange_client_takes(const struct exchange *exchange)
{
    return !flow_is_empty(&exchange->download.flow);
}

bool exchange_client_sends(const struct exchange *exchange)
{
    return takes_body(exchange) && flow_is_empty(&exchange->upload.flow);
}

int exchange_client_events(const struct exchange *exchange)
{
    const struct reading *reading = reading_of(exchange);
    int events = exchange_client_takes(exchange) ? EV_WRITE : 0;

    if (takes_body(exchange))
        return events | (flow_is_empty(&exchange->upload.flow) ? EV_READ : 0);
    /* Also to see that the client leaves. */
    return events | (reading->end < reading->capacity ? EV_READ : 0);
}

static int backend_events(const struct exchange *exchange)
{
    return (flow_is_empty(&exchange->download.flow) ? EV_READ : 0) |
           (flow_is_empty(&exchange->upload.flow) ? 0 : EV_WRITE);
}

/*
 * The backend's deadline: to take the request, then to say something. @progress: it did something,
 * so its time begins anew.
 */
static void arm_backend(struct exchange *exchange, bool progress)
{
    struct backend *backend = exchange->backend;
    bool sends = !flow_is_empty(&exchange->upload.flow);
    bool silent = !sends && flow_is_empty(&exchange->download.flow) && !takes_body(exchange);

    if (sends)
        deadline_arm(&backend->gateway->send, &backend->deadline);
    else if (!silent)
        deadline_disarm(&backend->deadline);
    else if (progress || !exchange->silent)
        deadline_arm(&backend->gateway->response, &backend->deadline);
    exchange->silent = silent;
}

static void settle(struct exchange *exchange, bool progress)
{
    if (exchange->backend) {
        backend_watch(exchange->backend, backend_events(exchange));
        arm_backend(exchange, progress);
    }
    connection_settle(exchange->connection);
}

/* ---- the backend comes and goes ---- */

static void give_back(struct exchange *exchange, enum backend_end how)
{
    struct backend *backend = exchange->backend;

    if (!backend)
        return;
    exchange->backend = NULL;
    exchange->silent = false;
    backend->gateway->calls->give_back(backend, how);
}

static void on_backend(struct ev_loop *loop, ev_io *io, int events);

void exchange_take(struct exchange *exchange, struct backend *backend)
{
    exchange->backend = backend;
    ev_set_cb(&backend->io, on_backend);
    backend->io.data = exchange;
}

/* Returns 0, or the status of a request that cannot be sent. */
static unsigned send_request(struct exchange *exchange, struct backend *backend)
{
    struct connection *connection = exchange->connection;
    struct workspace *workspace = &connection->server->workspace;
    struct handler *handler = exchange->handler;

    exchange_take(exchange, backend);
    exchange->broken = false;
    workspace->head.length = 0;
    int r =
        gateway_preface(backend->gateway, &connection->peer, connection->io.fd, &workspace->head);
    if (r == 0)
        r = handler->compose(
            handler, &connection->reading->request, &connection->peer, &workspace->head);
    if (r < 0)
        return 503;
    r = upload_send(&exchange->upload, connection->reading, buffer_span(&workspace->head),
        workspace, handler->max_body_size, backend->io.fd);
    if (r == UPLOAD_MALFORMED || r == UPLOAD_TOO_LARGE)
        return r == UPLOAD_MALFORMED ? 400 : 413;
    /* What the socket says of it shows when it is read: there may be an answer before the end. */
    exchange->broken = r < 0;
    return 0;
}

static void report(const struct exchange *exchange, unsigned status, const char *why)
{
    const struct server *server = server_of(exchange);
    const struct backend *backend = exchange->backend;
    struct span name = {NULL, 0};

    if (backend)
        name = backend->gateway->calls->server_name(backend);
    server->calls->failed(server->owner, &reading_of(exchange)->request,
        exchange->demand.gateway->name, name, status, why);
}

/* Returns 0: it is under way, or waits; or the status to answer with. */
static unsigned ask(struct exchange *exchange)
{
    struct gateway *gateway = exchange->demand.gateway;
    struct backend *backend;
    unsigned status;
    const char *why;

    switch (gateway->calls->ask(gateway, &exchange->demand, &backend, &status, &why)) {
    case DEMAND_GRANTED:
        return send_request(exchange, backend);
    case DEMAND_WAITS:
        exchange->waiting = true;
        return 0;
    default:
        report(exchange, status, why);
        return status;
    }
}

static void on_granted(struct demand *demand, struct backend *backend)
{
    struct exchange *exchange = CONTAINER_OF(demand, struct exchange, demand);

    exchange->waiting = false;
    unsigned status = send_request(exchange, backend);
    if (status > 0)
        forwarding_fail(exchange->connection, status);
    else
        settle(exchange, true);
}

static void on_refused(struct demand *demand, unsigned status, const char *why)
{
    struct exchange *exchange = CONTAINER_OF(demand, struct exchange, demand);

    exchange->waiting = false;
    report(exchange, status, why);
    forwarding_fail(exchange->connection, status);
}

/* Nothing of an answer came, and the request can be sent once more. */
static bool may_retry(const struct exchange *exchange)
{
    const struct backend *backend = exchange->backend;

    return exchange->handler && !exchange_has_answered(exchange) && exchange->upload.replayable &&
           is_idempotent(reading_of(exchange)->request.method) &&
           (backend->reused || exchange->attempts < exchange->demand.gateway->retries);
}

static void retry(struct exchange *exchange)
{
    struct backend *backend = exchange->backend;

    count(exchange, COUNTER_RETRIES);
    if (!backend->reused) {
        exchange->attempts++;
        exchange->demand.avoid = backend->server;
    }
    exchange->demand.reusable = false; /* others of the pool may have closed as well */
    give_back(exchange, backend->reused ? BACKEND_CLOSED : BACKEND_FAILED);
    buffer_clear(&exchange->download.pending);
    unsigned status = ask(exchange);
    if (status > 0)
        forwarding_fail(exchange->connection, status);
    else
        settle(exchange, true);
}

/* No answer, or no more of it, will come from this backend. */
static void fail(struct exchange *exchange, unsigned status, const char *why)
{
    struct connection *connection = exchange->connection;

    report(exchange, status, why);
    bool answered = exchange_has_answered(exchange);
    give_back(exchange, BACKEND_FAILED);
    if (answered)
        forwarding_break_off(connection, status);
    else
        forwarding_fail(connection, status);
}

static void lose(struct exchange *exchange, const char *why)
{
    if (may_retry(exchange))
        retry(exchange);
    else
        fail(exchange, 502, why);
}

void exchange_send_expired(struct deadline *deadline)
{
    struct backend *backend = CONTAINER_OF(deadline, struct backend, deadline);

    fail(backend->io.data, 504, "it took nothing of the request for SendTimeout=");
}

void exchange_response_expired(struct deadline *deadline)
{
    struct backend *backend = CONTAINER_OF(deadline, struct backend, deadline);

    fail(backend->io.data, 504, "it said nothing for ResponseTimeout=");
}

/* ---- the answer ---- */

/* All of it has come; the client may not have taken it yet. */
static void complete(struct exchange *exchange)
{
    struct connection *connection = exchange->connection;
    const struct upload *upload = &exchange->upload;
    bool request_sent = upload->whole && flow_is_empty(&upload->flow) && !exchange->broken;

    give_back(exchange,
        exchange->download.keep_alive && request_sent ? BACKEND_REUSABLE : BACKEND_CLOSED);
    if (!upload->whole)
        forwarding_close_after(connection);
    if (exchange_client_takes(exchange))
        connection_settle(connection);
    else
        forwarding_answered(connection);
}

static void switch_protocols(struct exchange *exchange, struct span rest)
{
    struct connection *connection = exchange->connection;
    struct backend *backend = exchange->backend;
    struct flow to_client = exchange->download.flow, to_backend = exchange->upload.flow;

    exchange->backend = NULL;
    exchange->download.flow = exchange->upload.flow = (struct flow){0};
    deadline_disarm(&backend->deadline);
    forwarding_switch(connection, backend, to_client, to_backend, rest);
}

/* RFC 9112 §9.6: whether this answer is the last one is said in its head. */
static bool is_last(const struct exchange *exchange)
{
    return exchange->connection->close || server_says_close(server_of(exchange)) ||
           exchange->connection->drain || !exchange->upload.whole;
}

static struct download_client client_of(const struct exchange *exchange)
{
    struct connection *connection = exchange->connection;
    const struct request *request = &connection->reading->request;

    return (struct download_client){
        .fd = connection->io.fd,
        .minor = request->minor,
        .head_request = request->method == METHOD_HEAD,
        .may_switch = forward_upgrades(request) && exchange->upload.whole,
        .close = is_last(exchange),
        .date = server_date(connection->server),
        .status = connection->status,
        .head_length = connection->head_sent,
        .sent = connection->sent,
    };
}

/* What became of the connection's answer. */
static void note(struct exchange *exchange, const struct download_client *client, bool begun)
{
    struct connection *connection = exchange->connection;
    struct counters *counters = server_of(exchange)->counters;

    counters->values[COUNTER_BYTES_SENT] += client->sent - connection->sent;
    counters->values[COUNTER_ANSWERS_1XX] += client->interim;
    connection->status = (uint16_t)client->status;
    connection->head_sent = client->head_length;
    connection->sent = client->sent;
    if (!begun || client->status < 200)
        return;
    count(exchange, COUNTER_ANSWERS_1XX + client->status / 100 - 1);
    if (client->close)
        forwarding_close_after(connection);
}

static void take_bytes(struct exchange *exchange, struct span bytes)
{
    struct download_client client = client_of(exchange);
    bool had_answered = exchange_has_answered(exchange);
    struct span rest = {NULL, 0};
    const char *why = "";
    int r = download_take(
        &exchange->download, bytes, &server_of(exchange)->workspace, &client, &rest, &why);

    note(exchange, &client, !had_answered && exchange_has_answered(exchange));
    switch (r) {
    case DOWNLOAD_OK:
        settle(exchange, true);
        return;
    case DOWNLOAD_COMPLETE:
        complete(exchange);
        return;
    case DOWNLOAD_SWITCHED:
        switch_protocols(exchange, rest);
        return;
    case DOWNLOAD_LEFT:
        forwarding_abandon(exchange->connection);
        return;
    default:
        if (bytes.length == 0) /* a closed one may be tried again */
            lose(exchange, why);
        else
            fail(exchange, 502, why);
    }
}

static void on_backend_readable(struct exchange *exchange)
{
    struct workspace *workspace = &server_of(exchange)->workspace;
    ssize_t n = recv(exchange->backend->io.fd, workspace->piece, PIECE_SIZE, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n >= 0)
        take_bytes(exchange, (struct span){workspace->piece, (size_t)n});
    else if (exchange_has_answered(exchange))
        fail(exchange, 502, "its connection broke within its answer");
    else
        lose(exchange, "its connection broke before it answered");
}

static void on_backend(struct ev_loop *loop, ev_io *io, int events)
{
    struct exchange *exchange = io->data;
    uint64_t sent = 0;

    (void)loop;
    if (events & EV_WRITE) {
        if (flow_flush(&exchange->upload.flow, io->fd, &sent) < 0) {
            flow_clear(&exchange->upload.flow);
            exchange->broken = true; /* as in send_request() */
        }
        settle(exchange, sent > 0);
    }
    if (events & EV_READ)
        on_backend_readable(exchange);
}

/* ---- the client ---- */

static void on_client_writable(struct exchange *exchange)
{
    struct connection *connection = exchange->connection;
    uint64_t sent = 0;
    int r = flow_flush(&exchange->download.flow, connection->io.fd, &sent);

    server_of(exchange)->counters->values[COUNTER_BYTES_SENT] += sent;
    if (exchange->download.state != DOWNLOAD_HEAD) /* else of former answers, or interim ones */
        connection->sent += sent;
    else if (sent > 0)
        connection->sending = false; /* there is progress, and connection_bytes_taken() is blind */
    if (r < 0)
        forwarding_abandon(connection);
    else if (r == FLOW_DONE && exchange->download.state == DOWNLOAD_DONE)
        forwarding_answered(connection);
    else
        settle(exchange, r == FLOW_DONE);
}

/* The client's request cannot be sent on. */
static void refuse_upload(struct exchange *exchange, unsigned status)
{
    if (exchange_has_answered(exchange))
        forwarding_end(exchange->connection, status, COUNTER_END_REFUSED);
    else
        forwarding_fail(exchange->connection, status);
}

static void receive_body(struct exchange *exchange)
{
    struct connection *connection = exchange->connection;
    struct server *server = connection->server;
    uint64_t received = 0;
    int r = upload_receive(&exchange->upload, connection->reading, &server->workspace,
        &server->head_limits,
        exchange->handler ? exchange->handler->max_body_size : server->config->max_body_size,
        connection->io.fd, exchange->backend->io.fd, &received);

    server->counters->values[COUNTER_BYTES_RECEIVED] += received;
    if (r == UPLOAD_LEFT) {
        forwarding_abandon(connection);
    } else if (r == UPLOAD_MALFORMED || r == UPLOAD_TOO_LARGE) {
        refuse_upload(exchange, r == UPLOAD_MALFORMED ? 400 : 413);
    } else {
        if (r < 0) {
            flow_clear(&exchange->upload.flow);
            exchange->broken = true; /* as in send_request() */
        }
        settle(exchange, false);
    }
}

/* A further request, or a body that nobody takes yet; or the client leaves. */
static void receive_more(struct exchange *exchange)
{
    struct connection *connection = exchange->connection;
    ssize_t n = connection_receive(connection);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        forwarding_abandon(connection);
        return;
    }
    server_of(exchange)->counters->values[COUNTER_BYTES_RECEIVED] += (uint64_t)n;
    settle(exchange, false);
}

void exchange_on_client(struct exchange *exchange, int events)
{
    if (events & EV_WRITE)
        on_client_writable(exchange);
    else if (exchange_client_sends(exchange))
        receive_body(exchange);
    else
        receive_more(exchange);
}

/* ---- beginning and end ---- */

struct exchange *exchange_new(
    struct connection *connection, struct handler *handler, struct gateway *gateway)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);

    if (!exchange)
        return NULL;
    exchange->connection = connection;
    exchange->handler = handler;
    demand_init(&exchange->demand, gateway, &connection->peer);
    exchange->demand.granted = on_granted;
    exchange->demand.refused = on_refused;
    return exchange;
}

unsigned exchange_begin(
    struct connection *connection, struct handler *handler, double patience, unsigned attempts)
{
    struct reading *reading = connection->reading;
    struct exchange *exchange = exchange_new(connection, handler, handler->gateway);

    if (!exchange)
        return 503;
    exchange->attempts = attempts;
    exchange->demand.patience = patience;
    exchange->demand.reusable =
        attempts == 0 && is_idempotent(reading->request.method) && upload_is_here(reading);
    exchange->upload.replayable = true;
    connection->exchange = exchange;
    unsigned status = ask(exchange);
    if (status > 0) {
        exchange_free(exchange);
        connection->exchange = NULL;
        return status;
    }
    settle(exchange, true);
    return 0;
}

void exchange_resume(struct exchange *exchange, double seconds_left)
{
    struct backend *backend = exchange->backend;

    settle(exchange, true);
    if (!backend || seconds_left < 0 || deadline_left(&backend->deadline) < 0)
        return;
    struct gateway *gateway = backend->gateway;
    deadline_shorten(
        exchange->silent ? &gateway->response : &gateway->send, &backend->deadline, seconds_left);
}

void exchange_send_before(struct exchange *exchange, struct held *held)
{
    int r = flow_keep(&exchange->download.flow, buffer_span(&held->bytes));

    held_drop(held);
    if (r < 0)
        connection_end(exchange->connection, COUNTER_END_FAILED);
    else
        settle(exchange, false);
}

void exchange_free(struct exchange *exchange)
{
    if (!exchange)
        return;
    if (exchange->waiting)
        exchange->demand.gateway->calls->cancel(&exchange->demand);
    give_back(exchange, BACKEND_CLOSED);
    upload_clear(&exchange->upload);
    download_clear(&exchange->download);
    free(exchange);
}
