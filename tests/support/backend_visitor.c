#include "backend_visitor.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "fnv.h"

#define BACKLOG 262144 /* bytes unsent: while there are more, nothing is read */
#define PIECE 65536

static void visitor_free(struct visitor *visitor)
{
    ev_io_stop(visitor->loop, &visitor->io);
    ev_timer_stop(visitor->loop, &visitor->timer);
    fd_close(visitor->io.fd);
    buffer_clear(&visitor->in);
    buffer_clear(&visitor->out);
    buffer_clear(&visitor->control);
    free(visitor);
}

static size_t unsent(const struct visitor *visitor)
{
    return visitor->out.length - visitor->sent;
}

/* Returns 0 or -errno. */
static int flush(struct visitor *visitor)
{
    if (unsent(visitor) == 0)
        return 0;
    ssize_t n =
        send(visitor->io.fd, visitor->out.bytes + visitor->sent, unsent(visitor), MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    visitor->sent += (size_t)n;
    if (unsent(visitor) == 0) {
        buffer_clear(&visitor->out);
        visitor->sent = 0;
    }
    return 0;
}

/* ---- HTTP ---- */

static int refuse(struct visitor *visitor, unsigned status)
{
    visitor->state = VISITOR_CLOSING;
    return buffer_printf(
        &visitor->out, "HTTP/1.1 %u No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
}

/* The answer is in out: the next request may come. */
static void end_answer(struct visitor *visitor)
{
    visitor->state = visitor->close ? VISITOR_CLOSING : VISITOR_HEAD;
}

static int answer(struct visitor *visitor, const char *body, bool to_head)
{
    end_answer(visitor);
    return buffer_printf(&visitor->out, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n%s\r\n%s",
        strlen(body), visitor->close ? "Connection: close\r\n" : "", to_head ? "" : body);
}

static int answer_upload(struct visitor *visitor)
{
    char body[64];

    (void)snprintf(
        body, sizeof body, "%" PRIu64 " %016" PRIx64 "\n", visitor->length, visitor->hash);
    return answer(visitor, body, false);
}

static int shake_hands(struct visitor *visitor, const struct request *request)
{
    if (!request->upgrade ||
        !span_equal_case(request_field(request, "upgrade"), SPAN("websocket")) ||
        !span_equal(request_field(request, "sec-websocket-version"), SPAN("13")) ||
        !span_equal(request_field(request, "sec-websocket-key"), SPAN(WEBSOCKET_KEY)))
        return refuse(visitor, 400);
    visitor->state = VISITOR_WEBSOCKET;
    visitor->reader = (struct websocket_reader){.masked = true};
    return buffer_append_string(&visitor->out,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: " WEBSOCKET_ACCEPT "\r\n\r\n");
}

static int begin_stream(struct visitor *visitor, bool events, struct span query)
{
    if (!stream_begin(&visitor->stream, events, query))
        return refuse(visitor, 400);
    visitor->state = VISITOR_STREAM;
    visitor->close |= visitor->stream.framing == STREAM_CLOSE;
    if (visitor->stream.period_usec > 0) {
        visitor->timer.repeat = usec_to_seconds(visitor->stream.period_usec);
        ev_timer_again(visitor->loop, &visitor->timer);
    }
    return stream_append_head(&visitor->stream, &visitor->out);
}

static int begin_answer(struct visitor *visitor, const struct request *request)
{
    struct span path = request->path;

    visitor->close = !request->keep_alive;
    visitor->framing = request->framing;
    visitor->left = request->content_length;
    visitor->length = 0;
    visitor->hash = FNV_OFFSET;
    visitor->chunked = (struct chunked){0};
    if (span_equal(path, SPAN("/websocket")))
        return shake_hands(visitor, request);
    if (span_equal(path, SPAN("/events")) || span_equal(path, SPAN("/slow")))
        return begin_stream(visitor, span_equal(path, SPAN("/events")), request->query);
    if (request->framing == FRAMING_NONE && request->method != METHOD_POST)
        return answer(visitor, "hello", request->method == METHOD_HEAD);
    visitor->state = VISITOR_BODY;
    return 0;
}

static void cut(struct visitor *visitor, size_t length)
{
    visitor->in.length -= length;
    memmove(visitor->in.bytes, visitor->in.bytes + length, visitor->in.length);
}

static int read_head(struct visitor *visitor)
{
    static const struct head_limits limits = {.size = 65536, .fields = REQUEST_FIELDS_MAX};
    static struct request request;
    static struct head_parser parser;
    unsigned status;
    const char *why;

    head_parser_start(&parser, &request, &limits);
    switch (head_parser_feed(&parser, buffer_span(&visitor->in), &status, &why)) {
    case HEAD_MORE:
        return 0;
    case HEAD_REFUSED:
        return refuse(visitor, status);
    }
    int r = begin_answer(visitor, &request);
    cut(visitor, request.head_length);
    return r;
}

static void take_body(struct visitor *visitor, struct span bytes)
{
    visitor->length += bytes.length;
    visitor->hash = fnv_add(visitor->hash, bytes);
}

/* Reads what there is of the body. Returns whether it is whole, or -EBADMSG. */
static int read_body(struct visitor *visitor)
{
    struct span bytes = buffer_span(&visitor->in);
    struct chunked_run run;
    size_t consumed;

    if (visitor->framing != FRAMING_CHUNKED) {
        if (bytes.length > visitor->left)
            bytes.length = (size_t)visitor->left;
        take_body(visitor, bytes);
        visitor->left -= bytes.length;
        cut(visitor, bytes.length);
        return visitor->left == 0;
    }
    while (bytes.length > 0 && visitor->chunked.state != CHUNKED_DONE) {
        if (chunked_read(&visitor->chunked, bytes.at, bytes.length, &consumed, &run) != CHUNKED_OK)
            return -EBADMSG;
        if (!run.trailer)
            take_body(visitor, (struct span){run.at, run.length});
        bytes = (struct span){bytes.at + consumed, bytes.length - consumed};
    }
    cut(visitor, visitor->in.length - bytes.length);
    return visitor->chunked.state == CHUNKED_DONE;
}

/* ---- WebSocket ---- */

/* Frames go back as they came; pings are answered, and a Close is. */
static int end_frame(struct visitor *visitor)
{
    struct span payload = buffer_span(&visitor->control);
    int r = 0;

    if (visitor->reader.opcode == WEBSOCKET_PING)
        r = websocket_append_frame(&visitor->out, WEBSOCKET_PONG, true, payload, NULL);
    if (visitor->reader.opcode == WEBSOCKET_CLOSE) {
        r = websocket_append_frame(&visitor->out, WEBSOCKET_CLOSE, true, payload, NULL);
        visitor->state = VISITOR_CLOSING;
    }
    buffer_clear(&visitor->control);
    return r;
}

static int read_frames(struct visitor *visitor)
{
    char *at = visitor->in.bytes;
    size_t length = visitor->in.length;
    struct span piece = {NULL, 0};
    int r = 0;

    while (visitor->state == VISITOR_WEBSOCKET && r >= 0) {
        const struct websocket_reader *reader = &visitor->reader;
        int event = websocket_read(&visitor->reader, &at, &length, &piece, NULL);
        if (event <= 0) {
            r = event;
            break;
        }
        bool data = reader->opcode < WEBSOCKET_CLOSE;
        if (event == WEBSOCKET_BEGIN && data)
            r = websocket_append_head(
                &visitor->out, reader->opcode, reader->final, reader->length, NULL);
        if (event == WEBSOCKET_PIECE)
            r = buffer_append(data ? &visitor->out : &visitor->control, piece);
        if (event == WEBSOCKET_END)
            r = end_frame(visitor);
    }
    cut(visitor, visitor->in.length - length);
    return r;
}

/* ---- events ---- */

static int make_pieces(struct visitor *visitor)
{
    struct stream *stream = &visitor->stream;
    int r = 0;

    if (stream->period_usec > 0)
        return 0; /* the timer does */
    while (!stream_is_over(stream) && unsent(visitor) < BACKLOG && r == 0)
        r = stream_append_piece(stream, &visitor->out);
    if (stream_is_over(stream))
        end_answer(visitor);
    return r;
}

/* Goes on with what is there, as far as it goes. Returns 0 or -errno: it is of no more use. */
static int go_on(struct visitor *visitor)
{
    int r = 0, whole;

    for (size_t before = SIZE_MAX; r == 0 && before != visitor->in.length;) {
        before = visitor->in.length;
        switch (visitor->state) {
        case VISITOR_HEAD:
            r = visitor->in.length > 0 ? read_head(visitor) : 0;
            break;
        case VISITOR_BODY:
            whole = read_body(visitor);
            r = whole > 0 ? answer_upload(visitor) : whole;
            break;
        case VISITOR_STREAM:
            r = make_pieces(visitor);
            break;
        case VISITOR_WEBSOCKET:
            r = read_frames(visitor);
            break;
        case VISITOR_RAW:
            r = buffer_append(&visitor->out, buffer_span(&visitor->in));
            visitor->in.length = 0;
            break;
        case VISITOR_CLOSING:
            visitor->in.length = 0;
            break;
        }
    }
    if (visitor->in.length == 0)
        buffer_clear(&visitor->in);
    return r;
}

static void settle(struct visitor *visitor)
{
    int wanted = (unsent(visitor) < BACKLOG && visitor->state != VISITOR_CLOSING ? EV_READ : 0) |
                 (unsent(visitor) > 0 ? EV_WRITE : 0);

    if (wanted == 0) {
        visitor_free(visitor);
        return;
    }
    if ((visitor->io.events & (EV_READ | EV_WRITE)) == wanted && ev_is_active(&visitor->io))
        return;
    ev_io_stop(visitor->loop, &visitor->io);
    ev_io_set(&visitor->io, visitor->io.fd, wanted);
    ev_io_start(visitor->loop, &visitor->io);
}

static void proceed(struct visitor *visitor)
{
    int r = go_on(visitor);

    if (r == 0)
        r = flush(visitor);
    if (r == 0 && visitor->state == VISITOR_STREAM)
        r = go_on(visitor);
    if (r == 0)
        settle(visitor);
    else
        visitor_free(visitor);
}

/* Returns what recv(2) does. */
static ssize_t receive(struct visitor *visitor)
{
    if (buffer_reserve(&visitor->in, PIECE) < 0)
        return 0;
    ssize_t n = recv(visitor->io.fd, visitor->in.bytes + visitor->in.length, PIECE, 0);
    visitor->in.length += n > 0 ? (size_t)n : 0;
    return n;
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
    struct visitor *visitor = io->data;

    (void)loop;
    if (events & EV_READ) {
        ssize_t n = receive(visitor);
        if (n == 0 && visitor->state == VISITOR_RAW)
            visitor->state = VISITOR_CLOSING; /* what it said goes back to it first */
        else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            visitor_free(visitor);
            return;
        }
    }
    proceed(visitor);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct visitor *visitor = timer->data;
    int r = 0;

    (void)events;
    if (unsent(visitor) < BACKLOG)
        r = stream_append_piece(&visitor->stream, &visitor->out);
    if (stream_is_over(&visitor->stream)) {
        ev_timer_stop(loop, timer);
        end_answer(visitor);
    }
    if (r == 0)
        proceed(visitor);
    else
        visitor_free(visitor);
}

void visitor_receive(struct ev_loop *loop, int fd, bool raw)
{
    struct visitor *visitor = calloc(1, sizeof *visitor);
    int on = 1;

    if (!visitor) {
        fd_close(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* AF_UNIX has none */
    visitor->loop = loop;
    visitor->state = raw ? VISITOR_RAW : VISITOR_HEAD;
    ev_io_init(&visitor->io, on_io, fd, EV_READ);
    ev_timer_init(&visitor->timer, on_timer, 0., 0.);
    visitor->io.data = visitor->timer.data = visitor;
    ev_io_start(loop, &visitor->io);
}
