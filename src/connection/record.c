#include "connection/record.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "observe/counter.h"

static const char magic[4] = {'B', 'T', 'N', 'M'};

struct message_head {
    char magic[4];
    uint16_t version;
    uint16_t count;
    uint8_t fds[256]; /* of each record; RECORD_FDS_MAX are used */
};

enum {
    FLAG_CLOSE = 1,
    FLAG_LINGER = 2,
    FLAG_ADMIN = 4,
    FLAG_FILE = 8,
    FLAG_BACKEND = 1 << 4,
    FLAG_REUSED = 1 << 5,
    FLAG_WHOLE = 1 << 6,
    FLAG_REPLAYABLE = 1 << 7,
    FLAG_BROKEN = 1 << 8,
    FLAG_KEEP_ALIVE = 1 << 9,
    FLAG_CLIENT_ENDED = 1 << 10,
    FLAG_BACKEND_ENDED = 1 << 11,
    FLAG_CLIENT_TOLD = 1 << 12,
    FLAG_BACKEND_TOLD = 1 << 13,
    FLAGS_ALL = (1 << 14) - 1,
};

/* Each flag's member. */
static const struct {
    unsigned flag;
    size_t offset;
} flag_table[] = {
    {FLAG_CLOSE, offsetof(struct record, close)},
    {FLAG_LINGER, offsetof(struct record, linger)},
    {FLAG_ADMIN, offsetof(struct record, admin)},
    {FLAG_FILE, offsetof(struct record, file)},
    {FLAG_BACKEND, offsetof(struct record, with_backend)},
    {FLAG_REUSED, offsetof(struct record, backend.reused)},
    {FLAG_WHOLE, offsetof(struct record, backend.whole)},
    {FLAG_REPLAYABLE, offsetof(struct record, backend.replayable)},
    {FLAG_BROKEN, offsetof(struct record, backend.broken)},
    {FLAG_KEEP_ALIVE, offsetof(struct record, backend.keep_alive)},
    {FLAG_CLIENT_ENDED, offsetof(struct record, backend.client_ended)},
    {FLAG_BACKEND_ENDED, offsetof(struct record, backend.backend_ended)},
    {FLAG_CLIENT_TOLD, offsetof(struct record, backend.client_told)},
    {FLAG_BACKEND_TOLD, offsetof(struct record, backend.backend_told)},
};

static uint16_t pack_flags(const struct record *record)
{
    unsigned flags = 0;

    for (size_t i = 0; i < sizeof flag_table / sizeof *flag_table; i++)
        if (*(const bool *)((const char *)record + flag_table[i].offset))
            flags |= flag_table[i].flag;
    return (uint16_t)flags;
}

static void unpack_flags(unsigned flags, struct record *ret)
{
    for (size_t i = 0; i < sizeof flag_table / sizeof *flag_table; i++)
        *(bool *)((char *)ret + flag_table[i].offset) = flags & flag_table[i].flag;
}

/* Fixed part of a record. Ordered so that there is no padding. */
struct packed {
    uint32_t length; /* with everything that follows */
    uint16_t kind, flags;
    uint16_t status, reason;
    uint32_t name_length;
    uint64_t requests, head_sent, sent;
    int64_t taken, deadline_usec;
    uint64_t began_usec;
    uint64_t body_left, body_read, chunk_remaining;
    uint32_t chunk_state, chunk_digits, chunk_overhead;
    uint32_t received_length, head_length, body;
    uint32_t part_count, unsent_length;
    struct sockaddr_in6 peer;
    uint32_t reserved;
    int64_t backend_deadline_usec;
    uint64_t left, backend_chunk_remaining;
    uint32_t backend_chunk_state, backend_chunk_digits, backend_chunk_overhead;
    uint32_t attempts;
    uint16_t state, framing, forward, unused;
    uint32_t upstream_length, server_length;
    uint32_t trailer_length, pending_length, backend_unsent_length;
    uint32_t unused_too;
};
_Static_assert(sizeof(struct packed) == 224, "the layout is a contract between builds");

struct packed_part {
    uint64_t kind, offset, length;
};

int record_begin(struct buffer *message)
{
    struct message_head head = {.version = RECORD_VERSION, .count = 0};

    memcpy(head.magic, magic, sizeof magic);
    message->length = 0;
    return buffer_append(message, (struct span){(const char *)&head, sizeof head});
}

static void pack_backend(const struct record_backend *backend, struct packed *ret)
{
    ret->backend_deadline_usec = backend->deadline_usec;
    ret->left = backend->left;
    ret->backend_chunk_remaining = backend->chunked.remaining;
    ret->backend_chunk_state = backend->chunked.state;
    ret->backend_chunk_digits = backend->chunked.digits;
    ret->backend_chunk_overhead = backend->chunked.overhead;
    ret->attempts = backend->attempts;
    ret->state = (uint16_t)backend->state;
    ret->framing = (uint16_t)backend->framing;
    ret->forward = (uint16_t)backend->body;
    ret->upstream_length = (uint32_t)backend->upstream.length;
    ret->server_length = (uint32_t)backend->server.length;
    ret->trailer_length = (uint32_t)backend->trailer.length;
    ret->pending_length = (uint32_t)backend->pending.length;
    ret->backend_unsent_length = (uint32_t)backend->unsent.length;
}

static void pack(const struct record *record, size_t length, struct packed *ret)
{
    *ret = (struct packed){
        .length = (uint32_t)length,
        .kind = (uint16_t)record->kind,
        .flags = pack_flags(record),
        .status = record->status,
        .reason = record->reason,
        .name_length = (uint32_t)record->listener.length,
        .requests = record->requests,
        .head_sent = record->head_sent,
        .sent = record->sent,
        .taken = record->taken,
        .deadline_usec = record->deadline_usec,
        .began_usec = record->began_usec,
        .body_left = record->body_left,
        .body_read = record->body_read,
        .chunk_remaining = record->chunked.remaining,
        .chunk_state = record->chunked.state,
        .chunk_digits = record->chunked.digits,
        .chunk_overhead = record->chunked.overhead,
        .received_length = (uint32_t)record->received.length,
        .head_length = record->head_length,
        .body = record->body,
        .part_count = (uint32_t)record->part_count,
        .unsent_length = (uint32_t)record->unsent.length,
        .peer = record->peer,
    };
    pack_backend(&record->backend, ret);
}

static void append(struct buffer *message, const void *bytes, size_t length)
{
    if (length > 0) /* there is room: record_append() has reserved it */
        memcpy(message->bytes + message->length, bytes, length);
    message->length += length;
}

int record_append(struct buffer *message, const struct record *record)
{
    struct packed fixed;
    struct message_head head;
    const struct record_backend *backend = &record->backend;
    const struct span behind[] = {record->unsent, backend->upstream, backend->server,
        backend->trailer, backend->pending, backend->unsent};
    size_t length = sizeof fixed + record->listener.length + record->received.length +
                    record->part_count * sizeof(struct packed_part);

    for (size_t i = 0; i < sizeof behind / sizeof *behind; i++)
        length += behind[i].length;
    if (length > RECORD_MESSAGE_MAX - message->length)
        return -EMSGSIZE;
    memcpy(&head, message->bytes, sizeof head);
    if (head.count == RECORD_FDS_MAX)
        return -EMSGSIZE;
    int r = buffer_reserve(message, length);
    if (r < 0)
        return r;
    pack(record, length, &fixed);
    append(message, &fixed, sizeof fixed);
    append(message, record->listener.at, record->listener.length);
    append(message, record->received.at, record->received.length);
    for (size_t i = 0; i < record->part_count; i++) {
        struct packed_part part = {
            record->parts[i].kind, record->parts[i].offset, record->parts[i].length};
        append(message, &part, sizeof part);
    }
    for (size_t i = 0; i < sizeof behind / sizeof *behind; i++)
        append(message, behind[i].at, behind[i].length);
    head.fds[head.count++] = (uint8_t)record_fd_count(record);
    memcpy(message->bytes, &head, sizeof head);
    return 0;
}

static bool take(struct span *from, void *ret, size_t length)
{
    if (from->length < length)
        return false;
    if (length > 0)
        memcpy(ret, from->at, length);
    from->at += length;
    from->length -= length;
    return true;
}

static bool take_span(struct span *from, size_t length, struct span *ret)
{
    if (from->length < length)
        return false;
    *ret = (struct span){from->at, length};
    from->at += length;
    from->length -= length;
    return true;
}

int record_open(struct span *message, struct record_fds *ret_fds)
{
    struct message_head head;

    if (!take(message, &head, sizeof head) || memcmp(head.magic, magic, sizeof magic) != 0 ||
        head.version < RECORD_VERSION_OLDEST || head.version > RECORD_VERSION ||
        head.count > RECORD_FDS_MAX)
        return -EINVAL;
    memcpy(ret_fds->counts, head.fds, sizeof ret_fds->counts);
    return head.count;
}

static bool take_parts(struct span *from, size_t count, struct record *record)
{
    if (count > ANSWER_PARTS_MAX + 1)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct packed_part part;
        if (!take(from, &part, sizeof part) || part.kind > PART_FILE)
            return false;
        record->parts[i] = (struct part){(enum part_kind)part.kind, part.offset, part.length};
    }
    record->part_count = count;
    return true;
}

static bool parts_fit(const struct record *record)
{
    bool file = false;

    for (size_t i = 0; i < record->part_count; i++) {
        const struct part *part = &record->parts[i];
        uint64_t limit = part->kind == PART_FILE ? INT64_MAX : record->unsent.length;
        if (part->offset > limit || part->length > limit - part->offset)
            return false;
        file |= part->kind == PART_FILE;
    }
    return file ? record->file : true;
}

static bool is_end(uint16_t reason)
{
    return reason >= COUNTER_END_CLIENT && reason <= COUNTER_END_TUNNEL &&
           reason != COUNTER_END_MOVED;
}

static bool is_backend_possible(const struct record_backend *backend)
{
    return backend->deadline_usec >= -1 && backend->deadline_usec <= RECORD_USEC_MAX &&
           backend->state <= DOWNLOAD_DONE && backend->framing <= RESPONSE_CLOSE &&
           backend->body <= FORWARD_CLOSE && backend->chunked.state <= CHUNKED_DONE &&
           backend->upstream.length <= RECORD_NAME_MAX && backend->server.length <= RECORD_NAME_MAX;
}

/* Whether each field is one that a connection can have, whatever it is doing. */
static bool are_possible(const struct record *record)
{
    return record->kind >= RECORD_IDLE && record->kind <= RECORD_PROXY &&
           is_backend_possible(&record->backend) &&
           (record->status == 0 || (record->status >= 100 && record->status <= 599)) &&
           (record->reason == 0 || is_end(record->reason)) && record->deadline_usec >= -1 &&
           record->deadline_usec <= RECORD_USEC_MAX && record->began_usec <= RECORD_USEC_MAX &&
           record->listener.length <= RECORD_NAME_MAX && record->chunked.state <= CHUNKED_DONE;
}

/* What a record of each kind has: always, perhaps, or never. */
enum has { NO, MAYBE, YES };

static const struct {
    enum has received, head, parts, unsent, backend, upstream;
} kinds[] = {
    [RECORD_IDLE] = {.received = NO},
    [RECORD_HEAD] = {.received = YES},
    [RECORD_BODY] = {.received = YES, .head = YES},
    [RECORD_REPLY] = {.received = YES, .head = MAYBE, .parts = YES, .unsent = MAYBE},
    [RECORD_LINGER] = {.received = NO},
    [RECORD_WAITING] = {.received = YES, .head = YES, .unsent = MAYBE, .upstream = YES},
    [RECORD_EXCHANGE] =
        {.received = YES, .head = YES, .unsent = MAYBE, .backend = MAYBE, .upstream = YES},
    [RECORD_TUNNEL] = {.unsent = MAYBE, .backend = MAYBE, .upstream = YES},
    [RECORD_PROXY] = {.received = MAYBE},
};

static bool fits(enum has has, bool there)
{
    return has == MAYBE || there == (has == YES);
}

/* An answer is made by a backend that is there, or is there whole already. */
static bool is_exchange_consistent(const struct record *record)
{
    const struct record_backend *backend = &record->backend;
    bool done = backend->state == DOWNLOAD_DONE;

    if (record->kind != RECORD_EXCHANGE)
        return backend->state == DOWNLOAD_HEAD && backend->trailer.length == 0 &&
               backend->pending.length == 0;
    return done != record->with_backend && (!done || record->unsent.length > 0) &&
           (backend->state == DOWNLOAD_HEAD || record->status != 0);
}

/*
 * An end is passed on right behind the last byte, and when both are, there is no tunnel any more.
 * From a backend that is waited for nothing has come.
 */
static bool is_tunnel_consistent(const struct record *record)
{
    const struct record_backend *backend = &record->backend;

    if (record->kind != RECORD_TUNNEL)
        return true;
    if (!record->with_backend)
        return record->unsent.length == 0 && !backend->client_ended && !backend->backend_ended &&
               !backend->client_told && !backend->backend_told;
    return backend->backend_told == (backend->client_ended && backend->unsent.length == 0) &&
           backend->client_told == (backend->backend_ended && record->unsent.length == 0) &&
           !(backend->client_told && backend->backend_told);
}

/* Whether the fields belong together for what the connection was doing. */
static bool is_consistent(const struct record *record)
{
    const struct record_backend *backend = &record->backend;

    if (!fits(kinds[record->kind].received, record->received.length > 0) ||
        !fits(kinds[record->kind].head, record->head_length > 0) ||
        !fits(kinds[record->kind].parts, record->part_count > 0) ||
        !fits(kinds[record->kind].unsent, record->unsent.length > 0) ||
        !fits(kinds[record->kind].backend, record->with_backend) ||
        !fits(kinds[record->kind].upstream, backend->upstream.length > 0) ||
        (record->file && record->kind != RECORD_REPLY) ||
        (backend->unsent.length > 0 && kinds[record->kind].backend == NO))
        return false;
    /* A refused request is answered without a complete head: it ends with that answer. */
    if (record->kind == RECORD_REPLY &&
        (record->status == 0 || (record->head_length == 0 && !record->close)))
        return false;
    if (record->head_length > record->body || record->body > record->received.length ||
        (record->body > 0 && kinds[record->kind].head == NO))
        return false;
    if ((record->close || record->kind == RECORD_LINGER) && record->reason == 0)
        return false;
    return is_exchange_consistent(record) && is_tunnel_consistent(record) && parts_fit(record);
}

/* Fails where the lengths do not fit each other: then nobody knows where the next one begins. */
static bool take_record(struct span *message, struct packed *fixed, struct record *ret)
{
    struct span whole;

    if (message->length < sizeof *fixed)
        return false;
    memcpy(fixed, message->at, sizeof *fixed);
    return take_span(message, fixed->length, &whole) && take(&whole, fixed, sizeof *fixed) &&
           take_span(&whole, fixed->name_length, &ret->listener) &&
           take_span(&whole, fixed->received_length, &ret->received) &&
           take_parts(&whole, fixed->part_count, ret) &&
           take_span(&whole, fixed->unsent_length, &ret->unsent) &&
           take_span(&whole, fixed->upstream_length, &ret->backend.upstream) &&
           take_span(&whole, fixed->server_length, &ret->backend.server) &&
           take_span(&whole, fixed->trailer_length, &ret->backend.trailer) &&
           take_span(&whole, fixed->pending_length, &ret->backend.pending) &&
           take_span(&whole, fixed->backend_unsent_length, &ret->backend.unsent) &&
           whole.length == 0;
}

static void unpack_backend(const struct packed *fixed, struct record_backend *ret)
{
    ret->deadline_usec = fixed->backend_deadline_usec;
    ret->attempts = fixed->attempts;
    ret->state = (enum download_state)fixed->state;
    ret->framing = (enum response_framing)fixed->framing;
    ret->body = (enum forward_body)fixed->forward;
    ret->left = fixed->left;
    ret->chunked = (struct chunked){(enum chunked_state)fixed->backend_chunk_state,
        fixed->backend_chunk_digits, fixed->backend_chunk_overhead, fixed->backend_chunk_remaining};
}

static void unpack(const struct packed *fixed, struct record *ret)
{
    ret->kind = (enum record_kind)fixed->kind;
    unpack_flags(fixed->flags, ret);
    unpack_backend(fixed, &ret->backend);
    ret->status = fixed->status;
    ret->reason = fixed->reason;
    ret->peer = fixed->peer;
    ret->requests = fixed->requests;
    ret->head_sent = fixed->head_sent;
    ret->sent = fixed->sent;
    ret->taken = fixed->taken;
    ret->deadline_usec = fixed->deadline_usec;
    ret->began_usec = fixed->began_usec;
    ret->head_length = fixed->head_length;
    ret->body = fixed->body;
    ret->body_left = fixed->body_left;
    ret->body_read = fixed->body_read;
    ret->chunked = (struct chunked){(enum chunked_state)fixed->chunk_state, fixed->chunk_digits,
        fixed->chunk_overhead, fixed->chunk_remaining};
}

int record_next(struct span *message, struct record *ret)
{
    struct packed fixed;

    if (!take_record(message, &fixed, ret)) {
        message->length = 0;
        return -EINVAL;
    }
    if (fixed.flags > FLAGS_ALL || fixed.reserved != 0 || fixed.unused != 0 ||
        fixed.unused_too != 0)
        return -EINVAL;
    unpack(&fixed, ret);
    return are_possible(ret) && is_consistent(ret) ? 0 : -EINVAL;
}

size_t record_fd_count(const struct record *record)
{
    return record->file || record->with_backend ? 2 : 1;
}
