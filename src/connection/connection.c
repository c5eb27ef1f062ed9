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

static const char *const state_names[] = {
    [CONNECTION_IDLE] = "idle",
    [CONNECTION_HEAD] = "head",
    [CONNECTION_BODY] = "body",
    [CONNECTION_REPLY] = "reply",
    [CONNECTION_LINGER] = "linger",
    [CONNECTION_CLOSED] = "closed",
};

static void count(struct connection *connection, enum counter counter, uint64_t by)
{
    connection->server->counters->values[counter] += by;
}

/* The one place where a connection changes its state. */
static void set_state(struct connection *connection, enum connection_state state)
{
    size_t *replies = &connection->server->reply_count;

    *replies -= connection->state == CONNECTION_REPLY;
    *replies += state == CONNECTION_REPLY;
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
        return &server->header;
    case CONNECTION_BODY:
        return &server->body;
    case CONNECTION_REPLY:
        return &server->send;
    case CONNECTION_LINGER:
        return &server->linger;
    case CONNECTION_CLOSED:
        break;
    }
    return NULL;
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

/*
 * After every event: what the connection waits for now, and until when. The deadline of a head is
 * not moved by its further bytes, all others are moved by any progress.
 */
static void settle(struct connection *connection)
{
    int events = connection->state == CONNECTION_REPLY ? EV_WRITE : EV_READ;

    if ((connection->io.events & (EV_READ | EV_WRITE)) != events) {
        ev_io_stop(connection->server->loop, &connection->io);
        ev_io_modify(&connection->io, events);
    }
    ev_io_start(connection->server->loop, &connection->io); /* nothing to do if it is started */
    if (connection->state != connection->settled || connection->state != CONNECTION_HEAD)
        deadline_arm(deadline_for(connection), &connection->deadline);
    if (connection->state == CONNECTION_REPLY)
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
    settle(connection);
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
    held_drop(&server->held);
    count(connection, reason, 1);
    ev_io_stop(server->loop, &connection->io);
    deadline_disarm(&connection->deadline);
    fd_close(connection->io.fd);
    output_free(connection->output);
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
    settle(connection);
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
    settle(connection);
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

/*
 * Whether its answer can wait for the next one: that is there within this event, whatever comes.
 * What is sent from a file goes out by itself.
 */
static bool can_be_held(const struct connection *connection, const struct output *output)
{
    return !connection->close && output->file < 0 && reading_has_whole(connection->reading) &&
           connection->server->held.bytes.length < HELD_MAX;
}

/* Returns whether nothing is held any more. */
static bool send_held(struct connection *connection)
{
    struct held *held = &connection->server->held;
    uint64_t sent = 0;
    int r = held_is_empty(held) ? OUTPUT_DONE : held_send(held, connection->io.fd, &sent);

    count(connection, COUNTER_BYTES_SENT, sent);
    return r == OUTPUT_DONE;
}

/* Sends what server->answer holds. Returns as answered(). */
static bool send_answer(struct connection *connection)
{
    struct server *server = connection->server;
    struct part parts[ANSWER_PARTS_MAX + 1];
    struct output output;
    uint64_t sent = 0, before = 0;

    connection->head_sent =
        reply_compose(server, &connection->reading->request, connection->close, parts, &output);
    connection->status = (uint16_t)server->answer.status; /* now that it may have become a 500 */
    count(connection, COUNTER_ANSWERS_1XX + server->answer.status / 100 - 1, 1);
    bool hold = can_be_held(connection, &output);
    if (connection->head_sent == 0 ||
        ((hold || !held_is_empty(&server->held)) && !held_join(&server->held, &output, &before))) {
        connection_end(connection, COUNTER_END_FAILED); /* no memory for an answer */
        return false;
    }
    if (hold) {
        connection->sent = server->held.bytes.length - before;
        answer_reset(&server->answer);
        return answered(connection);
    }
    int r = output_send(&output, connection->io.fd, &sent);
    connection->head_sent += before; /* of the others' bodies the log has heard already */
    connection->sent = sent;
    count(connection, COUNTER_BYTES_SENT, sent);
    if (r == OUTPUT_BLOCKED || r == OUTPUT_YIELD) {
        server->answer.file = -1; /* the kept output owns it */
        connection->output = output_keep(&output);
        held_drop(&server->held);
        if (connection->output) {
            set_state(connection, CONNECTION_REPLY);
            settle(connection);
            return false;
        }
        server->answer.file = output.file;
    }
    answer_reset(&server->answer);
    held_drop(&server->held);
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

/* The request is here with its body: let its handler answer. Returns as answered(). */
static bool answer_request(struct connection *connection)
{
    struct server *server = connection->server;
    struct request *request = &connection->reading->request;
    struct handler *handler = server->calls->route(server->owner, connection->listener, request);

    answer_reset(&server->answer);
    if (handler)
        handler->answer(handler, request, &server->answer);
    else
        answer_text(&server->answer, 404);
    if (!connection->close && (connection->drain || server_says_close(server)))
        close_after(connection, COUNTER_END_ANNOUNCED, true);
    return send_answer(connection);
}

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
    settle(connection);
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

/* A head is complete. Returns as answered(). */
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
    if (request->framing == FRAMING_NONE)
        return answer_request(connection);
    if (!send_held(connection)) { /* as in continue_or_answer() */
        close_after(connection, COUNTER_END_ANNOUNCED, true);
        return answer_request(connection);
    }
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
            if (send_held(connection)) /* it is empty: see reading_has_whole() */
                settle(connection);
            else
                connection_end(connection, COUNTER_END_FAILED);
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

/* The client has closed its side, or the connection broke. */
static void on_end_of_input(struct connection *connection, ssize_t n)
{
    switch (connection->state) {
    case CONNECTION_IDLE:
        connection_end(connection, n == 0 ? COUNTER_END_CLIENT : COUNTER_END_ABANDONED);
        return;
    case CONNECTION_LINGER:
        connection_end(connection, connection->reason);
        return;
    default:
        connection_end(connection, COUNTER_END_ABANDONED);
    }
}

static ssize_t receive(struct connection *connection)
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
    ssize_t n = receive(connection);
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
    case CONNECTION_BODY:
        if (read_body(connection))
            read_requests(connection);
        return;
    default: /* LINGER; its deadline stands, however much the client sends */
        return;
    }
}

void connection_receive(struct connection *connection)
{
    on_readable(connection);
}

static void on_writable(struct connection *connection)
{
    uint64_t before = connection->sent;
    int r = output_send(connection->output, connection->io.fd, &connection->sent);

    count(connection, COUNTER_BYTES_SENT, connection->sent - before);
    if (r == OUTPUT_BLOCKED || r == OUTPUT_YIELD) {
        if (connection->sent > before)
            settle(connection);
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
    (void)events;
    if (connection->state == CONNECTION_REPLY)
        on_writable(connection);
    else
        on_readable(connection);
}

void connection_retire(struct connection *connection)
{
    /* What the kernel has received of it counts as received: it is read before it is closed. */
    if (connection->state == CONNECTION_IDLE && connection->server->retirement == RETIRING_STOP)
        on_readable(connection);
}

/* Never made longer: a list's entries stand in the order in which they expire. */
static void shorten_deadline(struct connection *connection, uint64_t usec)
{
    double left = deadline_left(&connection->deadline);

    if (left < 0 || usec_to_seconds(usec) < left)
        deadline_arm_for(deadline_for(connection), &connection->deadline, usec_to_seconds(usec));
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
    settle(connection);
    resume_deadline(connection, deadline_usec, taken);
    if (state == CONNECTION_HEAD)
        read_requests(connection);
    else if (state == CONNECTION_IDLE)
        connection_retire(connection); /* if the server stops already */
}

void connection_cut(struct connection *connection)
{
    static const char unavailable[] =
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

    switch (connection->state) {
    case CONNECTION_IDLE:
        connection_end(connection, COUNTER_END_STOPPED);
        return;
    case CONNECTION_LINGER:
        connection_end(connection, connection->reason);
        return;
    case CONNECTION_HEAD:
        connection->reading->began = ev_now(connection->server->loop);
        __attribute__((fallthrough));
    case CONNECTION_BODY:
        (void)send(connection->io.fd, unavailable, sizeof unavailable - 1, MSG_NOSIGNAL);
        count(connection, COUNTER_ANSWERS_5XX, 1);
        connection->status = 503;
        connection->head_sent = connection->sent = 0;
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

    if (connection->state == CONNECTION_IDLE) /* it never sent a byte: nothing to answer to */
        connection_end(connection, COUNTER_END_HEADER);
    else
        time_out_request(connection, COUNTER_END_HEADER);
}

void connection_body_expired(struct deadline *deadline)
{
    time_out_request(of_deadline(deadline), COUNTER_END_BODY);
}

void connection_send_expired(struct deadline *deadline)
{
    struct connection *connection = of_deadline(deadline);

    if (bytes_taken(connection) > connection->taken) {
        settle(connection);
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
