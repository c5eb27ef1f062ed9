#include "connection/record.h"

#include <errno.h>
#include <string.h>

#include "observe/counter.h"

static const char magic[4] = {'B', 'T', 'N', 'M'};

struct message_head {
    char magic[4];
    uint16_t version;
    uint16_t count;
};

enum {
    FLAG_CLOSE = 1,
    FLAG_LINGER = 2,
    FLAG_ADMIN = 4,
    FLAG_FILE = 8,
    FLAGS_ALL = 15,
};

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
};
_Static_assert(sizeof(struct packed) == 152, "the layout is a contract between builds");

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

static void pack(const struct record *record, size_t length, struct packed *ret)
{
    *ret = (struct packed){
        .length = (uint32_t)length,
        .kind = (uint16_t)record->kind,
        .flags = (uint16_t)((record->close ? FLAG_CLOSE : 0) | (record->linger ? FLAG_LINGER : 0) |
                            (record->admin ? FLAG_ADMIN : 0) | (record->file ? FLAG_FILE : 0)),
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
    size_t length = sizeof fixed + record->listener.length + record->received.length +
                    record->part_count * sizeof(struct packed_part) + record->unsent.length;

    if (length > RECORD_MESSAGE_MAX - message->length)
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
    append(message, record->unsent.at, record->unsent.length);
    memcpy(&head, message->bytes, sizeof head);
    head.count++;
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

int record_open(struct span *message)
{
    struct message_head head;

    if (!take(message, &head, sizeof head) || memcmp(head.magic, magic, sizeof magic) != 0 ||
        head.version < RECORD_VERSION_OLDEST || head.version > RECORD_VERSION ||
        head.count > RECORD_FDS_MAX)
        return -EINVAL;
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
    return reason >= COUNTER_END_CLIENT && reason < COUNTER_END_MOVED;
}

/* Whether each field is one that a connection can have, whatever it is doing. */
static bool are_possible(const struct record *record)
{
    return record->kind >= RECORD_IDLE && record->kind <= RECORD_LINGER &&
           (record->status == 0 || (record->status >= 100 && record->status <= 599)) &&
           (record->reason == 0 || is_end(record->reason)) && record->deadline_usec >= -1 &&
           record->deadline_usec <= RECORD_USEC_MAX && record->began_usec <= RECORD_USEC_MAX &&
           record->listener.length <= RECORD_NAME_MAX && record->chunked.state <= CHUNKED_DONE;
}

/* Whether the fields belong together for what the connection was doing. */
static bool is_consistent(const struct record *record)
{
    bool reply = record->kind == RECORD_REPLY;
    bool request = reply || record->kind == RECORD_BODY;
    bool received = request || record->kind == RECORD_HEAD;

    if ((record->received.length > 0) != received || (record->part_count > 0) != reply ||
        (record->file && !reply) || (record->unsent.length > 0 && !reply))
        return false;
    if (reply && record->status == 0)
        return false;
    /* A refused request is answered without a complete head: it ends with that answer. */
    if (request && record->head_length == 0 && !(reply && record->close))
        return false;
    if (record->head_length > record->body || record->body > record->received.length ||
        (record->body > 0 && !request))
        return false;
    if ((record->close || record->kind == RECORD_LINGER) && record->reason == 0)
        return false;
    return parts_fit(record);
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
           take_span(&whole, fixed->unsent_length, &ret->unsent) && whole.length == 0;
}

static void unpack(const struct packed *fixed, struct record *ret)
{
    ret->kind = (enum record_kind)fixed->kind;
    ret->close = fixed->flags & FLAG_CLOSE;
    ret->linger = fixed->flags & FLAG_LINGER;
    ret->admin = fixed->flags & FLAG_ADMIN;
    ret->file = fixed->flags & FLAG_FILE;
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
    if (fixed.flags > FLAGS_ALL || fixed.reserved != 0)
        return -EINVAL;
    unpack(&fixed, ret);
    return are_possible(ret) && is_consistent(ret) ? 0 : -EINVAL;
}

size_t record_fds(const struct record *record)
{
    return record->file ? 2 : 1;
}
