#include "connection/requests.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/log.h"
#include "connection/forwarding.h"
#include "connection/reply.h"

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
    connection_release_reading(connection);
    connection_set_state(connection, CONNECTION_LINGER);
    connection_settle(connection);
}

bool requests_answered(struct connection *connection)
{
    connection_log_access(connection);
    if (connection->close) {
        finish(connection);
        return false;
    }
    if (reading_next(connection->reading, &connection->server->head_limits)) {
        connection_set_state(connection, CONNECTION_HEAD);
        connection->settled = CONNECTION_CLOSED; /* another head has a deadline of its own */
        return true;
    }
    connection_release_reading(connection);
    connection_set_state(connection, CONNECTION_IDLE);
    connection_settle(connection);
    if (connection->server->retirement == RETIRING_STOP) {
        connection->reason = COUNTER_END_ANNOUNCED; /* it was not idle when the stop came */
        connection_on_readable(connection); /* a request that lies in the socket, or the end */
    }
    return false;
}

/* The answer under way cannot be sent to its end, as output_send() said with @r. */
static void give_up(struct connection *connection, int r)
{
    connection_log_access(connection);
    connection_end(connection, r < 0 ? COUNTER_END_ABANDONED : COUNTER_END_FAILED);
}

/*
 * Whether its answer can wait for the next one: that is there within this event, whatever comes.
 * What is sent from a file goes out by itself.
 */
static bool can_be_held(const struct connection *connection, const struct output *output)
{
    return !connection->close && output->file < 0 && reading_has_whole(connection->reading) &&
           connection->server->held.bytes.length < HELD_MAX;
}

bool requests_send_held(struct connection *connection)
{
    struct held *held = &connection->server->held;
    uint64_t sent = 0;
    int r = held_is_empty(held) ? OUTPUT_DONE : held_send(held, connection->io.fd, &sent);

    connection_count(connection, COUNTER_BYTES_SENT, sent);
    return r == OUTPUT_DONE;
}

/* Sends what server->answer holds. Returns as requests_answered(). */
static bool send_answer(struct connection *connection)
{
    struct server *server = connection->server;
    struct part parts[ANSWER_PARTS_MAX + 1];
    struct output output;
    uint64_t sent = 0, before = 0;

    connection->head_sent =
        reply_compose(server, &connection->reading->request, connection->close, parts, &output);
    connection->status = (uint16_t)server->answer.status; /* now that it may have become a 500 */
    connection_count(connection, COUNTER_ANSWERS_1XX + server->answer.status / 100 - 1, 1);
    bool hold = can_be_held(connection, &output);
    if (connection->head_sent == 0 ||
        ((hold || !held_is_empty(&server->held)) && !held_join(&server->held, &output, &before))) {
        connection_end(connection, COUNTER_END_FAILED); /* no memory for an answer */
        return false;
    }
    if (hold) {
        connection->sent = server->held.bytes.length - before;
        answer_reset(&server->answer);
        return requests_answered(connection);
    }
    int r = output_send(&output, connection->io.fd, &sent);
    connection->head_sent += before; /* of the others' bodies the log has heard already */
    connection->sent = sent;
    connection_count(connection, COUNTER_BYTES_SENT, sent);
    if (r == OUTPUT_BLOCKED || r == OUTPUT_YIELD) {
        server->answer.file = -1; /* the kept output owns it */
        connection->output = output_keep(&output);
        held_drop(&server->held);
        if (connection->output) {
            connection_set_state(connection, CONNECTION_REPLY);
            connection_settle(connection);
            return false;
        }
        server->answer.file = output.file;
    }
    answer_reset(&server->answer);
    held_drop(&server->held);
    if (r == OUTPUT_DONE)
        return requests_answered(connection);
    give_up(connection, r);
    return false;
}

/* Answers with a short text of ours and closes. The rest of what the client sends is not looked at.
 */
void requests_refuse(struct connection *connection, unsigned status, enum counter reason)
{
    connection_close_after(connection, reason, true);
    answer_reset(&connection->server->answer);
    answer_text(&connection->server->answer, status);
    (void)send_answer(connection); /* the connection closes: nothing follows */
}

struct handler *requests_find_handler(struct connection *connection)
{
    struct server *server = connection->server;

    return server->calls->route(server->owner, connection->listener, &connection->reading->request);
}

/* Sends what a handler has filled in. Returns as requests_answered(). */
bool requests_send(struct connection *connection)
{
    if (!connection->close && (connection->drain || server_says_close(connection->server)))
        connection_close_after(connection, COUNTER_END_ANNOUNCED, true);
    return send_answer(connection);
}

/* The request is here with its body: let @handler answer. Returns as requests_answered(). */
static bool answer_with(struct connection *connection, struct handler *handler)
{
    struct server *server = connection->server;

    answer_reset(&server->answer);
    if (handler)
        handler->answer(handler, &connection->reading->request, &server->answer);
    else
        answer_text(&server->answer, 404);
    return requests_send(connection);
}

static bool answer_request(struct connection *connection)
{
    return answer_with(connection, requests_find_handler(connection));
}

static bool read_body(struct connection *connection)
{
    struct reading *reading = connection->reading;
    int r = reading_skip_body(reading);

    if (r == BODY_MALFORMED) {
        requests_refuse(connection, 400, COUNTER_END_REFUSED);
        return false;
    }
    if (reading->body_read > connection->server->config->max_body_size) {
        requests_refuse(connection, 413, COUNTER_END_REFUSED);
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
        connection_close_after(connection, COUNTER_END_ANNOUNCED, true);
        return answer_request(connection);
    }
    ssize_t n = send(connection->io.fd, interim, sizeof interim - 1, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) { /* former answers fill the socket: a final one does as well */
        connection_close_after(connection, COUNTER_END_ANNOUNCED, true);
        return answer_request(connection);
    }
    if (n != sizeof interim - 1) { /* so few bytes go as a whole: the client is gone */
        connection_end(connection, COUNTER_END_ABANDONED);
        return false;
    }
    connection_count(connection, COUNTER_ANSWERS_1XX, 1);
    connection_set_state(connection, CONNECTION_BODY);
    return read_body(connection);
}

/* Its head is complete. @patience and @attempts: as forwarding_begin(). Returns as
 * requests_answered(). */
static bool dispatch(struct connection *connection, double patience, unsigned attempts)
{
    struct reading *reading = connection->reading;
    struct request *request = &reading->request;
    struct handler *handler = requests_find_handler(connection);
    if (handler && handler->gateway)
        return forwarding_begin(connection, handler, patience, attempts);
    if (request->framing == FRAMING_NONE)
        return answer_with(connection, handler);
    if (!requests_send_held(connection)) { /* as in continue_or_answer() */
        connection_close_after(connection, COUNTER_END_ANNOUNCED, true);
        return answer_with(connection, handler);
    }
    if (request->framing == FRAMING_LENGTH &&
        request->content_length > connection->server->config->max_body_size) {
        requests_refuse(connection, 413, COUNTER_END_REFUSED);
        return false;
    }
    if (request->expect_continue && reading->body == reading->end)
        return continue_or_answer(connection);
    connection_set_state(connection, CONNECTION_BODY);
    return read_body(connection);
}

/* A head has been read to its end. Returns as requests_answered(). */
static bool begin_request(struct connection *connection)
{
    struct reading *reading = connection->reading;
    struct request *request = &reading->request;

    connection->requests++;
    connection_count(connection, COUNTER_REQUESTS, 1);
    reading->began = ev_now(connection->server->loop);
    reading_start_body(reading);
    connection->close = connection->linger = false;
    if (!request->keep_alive)
        connection_close_after(connection, COUNTER_END_ASKED, false);
    return dispatch(connection, -1, 0);
}

/* Answers every request that lies in the buffer, until one is incomplete or the socket is full. */
void requests_read(struct connection *connection)
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
            if (requests_send_held(connection)) /* it is empty: see reading_has_whole() */
                connection_settle(connection);
            else
                connection_end(connection, COUNTER_END_FAILED);
            return;
        case HEAD_REFUSED:
            log_debug("connection %d: refused with %u: %s", connection->io.fd, status, why);
            connection->requests++;
            connection->reading->began = ev_now(connection->server->loop);
            requests_refuse(connection, status, COUNTER_END_REFUSED);
            return;
        }
    }
}

void requests_on_writable(struct connection *connection)
{
    uint64_t before = connection->sent;
    int r = output_send(connection->output, connection->io.fd, &connection->sent);

    connection_count(connection, COUNTER_BYTES_SENT, connection->sent - before);
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
    if (requests_answered(connection))
        requests_read(connection);
}

void requests_read_body(struct connection *connection)
{
    if (read_body(connection))
        requests_read(connection);
}

void requests_resume(struct connection *connection, double patience, unsigned attempts)
{
    reading_start_body(connection->reading);
    if (dispatch(connection, patience, attempts))
        requests_read(connection);
}
