#include "connection/move.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fd.h"
#include "connection/move_backend.h"

static enum record_kind kind_of(const struct connection *connection)
{
    switch (connection->state) {
    case CONNECTION_HEAD:
        return RECORD_HEAD;
    case CONNECTION_BODY:
        return RECORD_BODY;
    case CONNECTION_REPLY:
        return RECORD_REPLY;
    case CONNECTION_LINGER:
        return RECORD_LINGER;
    case CONNECTION_EXCHANGE:
        return connection->exchange->waiting ? RECORD_WAITING : RECORD_EXCHANGE;
    case CONNECTION_TUNNEL:
        return RECORD_TUNNEL;
    case CONNECTION_PROXY:
        return RECORD_PROXY;
    default: /* a closed one is freed in the event that closes it */
        return RECORD_IDLE;
    }
}

static enum connection_state state_of(enum record_kind kind)
{
    switch (kind) {
    case RECORD_HEAD:
        return CONNECTION_HEAD;
    case RECORD_BODY:
        return CONNECTION_BODY;
    case RECORD_REPLY:
        return CONNECTION_REPLY;
    case RECORD_LINGER:
        return CONNECTION_LINGER;
    case RECORD_PROXY:
        return CONNECTION_PROXY;
    case RECORD_IDLE:
    default: /* those with a backend: move_adopt_backend() */
        break;
    }
    return CONNECTION_IDLE;
}

static void describe_reading(const struct connection *connection, struct record *record)
{
    const struct reading *reading = connection->reading;

    record->received =
        (struct span){reading->bytes + reading->start, reading->end - reading->start};
    if (record->kind == RECORD_HEAD || record->kind == RECORD_PROXY)
        return;
    double ago = ev_now(connection->server->loop) - reading->began;
    record->began_usec = ago > 0 ? (uint64_t)(ago * (double)USEC_PER_SEC) : 0;
    if (reading->request.head_length == 0) /* refused before its end */
        return;
    record->head_length = (uint32_t)reading->request.head_length;
    record->body = (uint32_t)(reading->body - reading->start);
    record->body_left = reading->body_left;
    record->body_read = reading->body_read;
    record->chunked = reading->chunked;
}

/* What is left of its memory travels: the parts lie in it in their order. */
static void describe_output(const struct output *output, struct record *record)
{
    struct span memory = output_memory(output);
    size_t gone = memory.length;

    for (size_t i = output->count; i-- > 0;)
        if (output->parts[i].kind == PART_BYTES)
            gone = output->parts[i].offset;
    for (size_t i = 0; i < output->count; i++) {
        record->parts[i] = output->parts[i];
        if (record->parts[i].kind == PART_BYTES)
            record->parts[i].offset -= gone;
    }
    record->part_count = output->count;
    record->unsent = (struct span){memory.at + gone, memory.length - gone};
    record->file = output->file >= 0;
}

static int64_t describe_deadline(const struct connection *connection)
{
    double left = deadline_left(&connection->deadline);

    if (left < 0 || left > usec_to_seconds(RECORD_USEC_MAX))
        return -1;
    return (int64_t)(left * (double)USEC_PER_SEC);
}

void move_describe(const struct connection *connection, struct record *ret)
{
    struct server *server = connection->server;

    *ret = (struct record){
        .kind = kind_of(connection),
        .close = connection->close,
        .linger = connection->linger,
        .status = connection->status,
        .reason = (uint16_t)connection->reason,
        .peer = connection->peer,
        .requests = connection->requests,
        .head_sent = connection->head_sent,
        .sent = connection->sent,
        .taken = connection->taken,
        .deadline_usec = describe_deadline(connection),
    };
    if (ret->kind == RECORD_IDLE || ret->kind == RECORD_HEAD) /* what a former answer left there */
        ret->close = ret->linger = false;
    server->calls->describe(server->owner, connection->listener, &ret->listener, &ret->admin);
    if (connection->reading)
        describe_reading(connection, ret);
    if (connection->output)
        describe_output(connection->output, ret);
    move_describe_backend(connection, ret);
}

int move_second_fd(const struct connection *connection)
{
    if (connection->output)
        return connection->output->file;
    if (connection->exchange && connection->exchange->backend)
        return connection->exchange->backend->io.fd;
    if (connection->tunnel && connection->tunnel->backend)
        return connection->tunnel->backend->io.fd;
    return -1;
}

void move_complete(struct connection *connection)
{
    static const enum counter kinds[] = {
        [CONNECTION_IDLE] = COUNTER_MOVED_IDLE,
        [CONNECTION_HEAD] = COUNTER_MOVED_HEAD,
        [CONNECTION_BODY] = COUNTER_MOVED_BODY,
        [CONNECTION_REPLY] = COUNTER_MOVED_REPLY,
        [CONNECTION_LINGER] = COUNTER_MOVED_LINGER,
        [CONNECTION_PROXY] = COUNTER_MOVED_PROXY,
        [CONNECTION_EXCHANGE] = COUNTER_MOVED_EXCHANGE,
        [CONNECTION_TUNNEL] = COUNTER_MOVED_TUNNEL,
    };
    bool waits = connection->exchange && connection->exchange->waiting;

    connection->server->counters
        ->values[waits ? COUNTER_MOVED_WAITING : kinds[connection->state]]++;
    connection_end(connection, COUNTER_END_MOVED);
}

/* -1 where it is no socket. */
static int option_of(int fd, int option)
{
    int value;
    socklen_t length = sizeof value;

    return getsockopt(fd, SOL_SOCKET, option, &value, &length) < 0 ? -1 : value;
}

/* A connection as accept4(2) makes it: one that blocks would stop the worker. */
static bool is_connection(int fd)
{
    return option_of(fd, SO_TYPE) == SOCK_STREAM && option_of(fd, SO_ACCEPTCONN) == 0 &&
           (fcntl(fd, F_GETFL) & O_NONBLOCK);
}

/* A record comes with the kinds of fds it needs. */
static bool fds_are_right(const struct record *record, int fd, int second)
{
    struct stat status;

    if (!is_connection(fd))
        return false;
    /* What a PROXY header says of the client is of another family, perhaps. */
    int domain = option_of(fd, SO_DOMAIN);
    if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX)
        return false;
    if (record->with_backend)
        return is_connection(second);
    if (!record->file)
        return second < 0;
    return fstat(second, &status) == 0 && S_ISREG(status.st_mode);
}

static struct address peer_of(const struct record *record)
{
    struct address peer = {.ipv6 = record->peer, .length = sizeof record->peer};
    return peer;
}

static int adopt_reading(struct connection *connection, const struct record *record)
{
    struct server *server = connection->server;
    struct reading *reading =
        reading_take_with(&server->readings, &server->head_limits, record->received);

    if (!reading)
        return -ENOMEM;
    connection->reading = reading;
    if (record->kind == RECORD_HEAD || record->kind == RECORD_PROXY)
        return 0;
    reading->began = ev_now(server->loop) - usec_to_seconds(record->began_usec);
    if (record->head_length == 0) {
        reading_resume_refused(reading);
        return 0;
    }
    if (!reading_resume(reading, record->head_length, record->body))
        return -EINVAL;
    reading->body_left = record->body_left;
    reading->body_read = record->body_read;
    reading->chunked = record->chunked;
    return 0;
}

static int adopt_output(struct connection *connection, const struct record *record, int *file)
{
    struct output view = {
        .parts = (struct part *)record->parts, /* only read by output_keep() */
        .count = record->part_count,
        .bytes = record->unsent.at,
        .file = *file,
    };

    connection->output = output_keep(&view);
    if (!connection->output)
        return -ENOMEM;
    *file = -1;
    return 0;
}

static int fill(struct connection *connection, const struct record *record, int *file)
{
    int r = 0;

    connection->close = record->close;
    connection->linger = record->linger;
    connection->status = record->status;
    connection->reason = (enum counter)record->reason;
    connection->requests = record->requests;
    connection->head_sent = record->head_sent;
    connection->sent = record->sent;
    connection->taken = record->taken;
    if (record->received.length > 0)
        r = adopt_reading(connection, record);
    if (r == 0 && record->part_count > 0)
        r = adopt_output(connection, record, file);
    return r;
}

int move_adopt(struct server *server, const struct record *record, int fd, int second_fd,
    unsigned listener, bool drain)
{
    CLEANUP_FD int second = second_fd;
    struct address peer = peer_of(record);

    if (!fds_are_right(record, fd, second)) {
        fd_close(fd);
        return -EINVAL;
    }
    server->counters->values[COUNTER_ADOPTED]++;
    struct connection *connection = connection_new(server, fd, &peer, listener);
    if (!connection)
        return -ENOMEM;
    connection->drain = drain;
    int r = fill(connection, record, &second);
    if (r == 0 && record->backend.upstream.length > 0)
        r = move_adopt_backend(connection, record, TAKE_FD(second));
    else if (r == 0)
        connection_resume(connection, state_of(record->kind), record->deadline_usec);
    if (r < 0)
        connection_end(connection, COUNTER_END_FAILED);
    return r;
}
