#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "connection/record.h"
#include "observe/counter.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { HEAD_BYTES = 264, FIXED_BYTES = 224 }; /* the layout, which is a contract between builds */

static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
static const char pipelined[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /next HT";

static void sample_exchange(struct record *record)
{
    struct record_backend *backend = &record->backend;

    record->status = 200;
    record->unsent = SPAN("0123456789");
    backend->whole = backend->replayable = backend->broken = backend->keep_alive = true;
    backend->trailer = SPAN("A: ");
    backend->state = DOWNLOAD_BODY;
    backend->framing = RESPONSE_CHUNKED;
    backend->body = FORWARD_CHUNKED;
    backend->left = 5;
    backend->chunked = (struct chunked){CHUNKED_DATA, 1, 2, 3};
    backend->pending = SPAN("B");
}

static void sample_tunnel(struct record *record)
{
    struct record_backend *backend = &record->backend;

    record->unsent = SPAN("0123456789");
    record->status = 101;
    backend->client_ended = backend->client_told = backend->backend_ended = true;
    backend->unsent = SPAN("01234");
    backend->client_told = false;
}

static bool has_upstream(enum record_kind kind)
{
    return kind == RECORD_WAITING || kind == RECORD_EXCHANGE || kind == RECORD_TUNNEL;
}

static void sample_backend(struct record *record)
{
    struct record_backend *backend = &record->backend;

    if (!has_upstream(record->kind))
        return;
    backend->upstream = SPAN("shop");
    backend->deadline_usec = 2500000;
    backend->attempts = 2;
    if (record->kind == RECORD_WAITING)
        return;
    record->with_backend = true;
    backend->server = SPAN("127.0.0.1:3000");
    backend->reused = true;
    if (record->kind == RECORD_EXCHANGE)
        sample_exchange(record);
    else
        sample_tunnel(record);
}

/* A connection as it may well be, for each kind. */
static struct record sample(enum record_kind kind)
{
    struct record record = {
        .kind = kind,
        .admin = true,
        .peer = {.sin6_family = AF_INET6, .sin6_port = 4711, .sin6_scope_id = 3},
        .requests = 5,
        .head_sent = 170,
        .sent = 180,
        .taken = -7,
        .deadline_usec = 1500000,
        .listener = SPAN("http"),
    };

    if (kind == RECORD_HEAD)
        record.received = (struct span){request, 9};
    if (kind == RECORD_PROXY)
        record.received = SPAN("PROXY TCP4 192.0.");
    if (kind == RECORD_BODY || kind == RECORD_REPLY || kind == RECORD_WAITING ||
        kind == RECORD_EXCHANGE) {
        record.received = SPAN(pipelined);
        record.head_length = record.body = sizeof request - 1;
        record.began_usec = 77;
        record.body_left = 12;
        record.body_read = 13;
        record.chunked = (struct chunked){CHUNKED_DATA, 1, 2, 3};
    }
    if (kind == RECORD_REPLY) {
        record.status = 206;
        record.file = true;
        record.unsent = SPAN("0123456789");
        record.parts[0] = (struct part){PART_BYTES, 3, 4};
        record.parts[1] = (struct part){PART_FILE, 1000, 5000};
        record.parts[2] = (struct part){PART_BYTES, 7, 3};
        record.part_count = 3;
    }
    if (kind == RECORD_REPLY || kind == RECORD_LINGER) {
        record.close = record.linger = true;
        record.reason = COUNTER_END_ANNOUNCED;
    }
    sample_backend(&record);
    return record;
}

static struct record_fds fds; /* of the message that was opened last */

static struct buffer message_of(const struct record *records, size_t count)
{
    struct buffer message = {0};

    assert_int_equal(record_begin(&message), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(record_append(&message, &records[i]), 0);
    return message;
}

static void assert_span(struct span a, struct span b)
{
    assert_int_equal(a.length, b.length);
    assert_true(span_equal(a, b));
}

static void assert_same_backend(const struct record_backend *a, const struct record_backend *b)
{
    assert_span(a->upstream, b->upstream);
    assert_span(a->server, b->server);
    assert_int_equal(a->deadline_usec, b->deadline_usec);
    assert_int_equal(a->attempts, b->attempts);
    assert_int_equal(a->reused, b->reused);
    assert_int_equal(a->whole, b->whole);
    assert_int_equal(a->replayable, b->replayable);
    assert_int_equal(a->broken, b->broken);
    assert_span(a->trailer, b->trailer);
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->framing, b->framing);
    assert_int_equal(a->body, b->body);
    assert_int_equal(a->keep_alive, b->keep_alive);
    assert_int_equal(a->left, b->left);
    assert_int_equal(a->chunked.state, b->chunked.state);
    assert_int_equal(a->chunked.digits, b->chunked.digits);
    assert_int_equal(a->chunked.overhead, b->chunked.overhead);
    assert_int_equal(a->chunked.remaining, b->chunked.remaining);
    assert_span(a->pending, b->pending);
    assert_int_equal(a->client_ended, b->client_ended);
    assert_int_equal(a->backend_ended, b->backend_ended);
    assert_int_equal(a->client_told, b->client_told);
    assert_int_equal(a->backend_told, b->backend_told);
    assert_span(a->unsent, b->unsent);
}

static void assert_same(const struct record *a, const struct record *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->close, b->close);
    assert_int_equal(a->linger, b->linger);
    assert_int_equal(a->admin, b->admin);
    assert_int_equal(a->file, b->file);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->reason, b->reason);
    assert_memory_equal(&a->peer, &b->peer, sizeof a->peer);
    assert_int_equal(a->requests, b->requests);
    assert_int_equal(a->head_sent, b->head_sent);
    assert_int_equal(a->sent, b->sent);
    assert_int_equal(a->taken, b->taken);
    assert_int_equal(a->deadline_usec, b->deadline_usec);
    assert_int_equal(a->began_usec, b->began_usec);
    assert_span(a->listener, b->listener);
    assert_span(a->received, b->received);
    assert_int_equal(a->head_length, b->head_length);
    assert_int_equal(a->body, b->body);
    assert_int_equal(a->body_left, b->body_left);
    assert_int_equal(a->body_read, b->body_read);
    assert_int_equal(a->chunked.state, b->chunked.state);
    assert_int_equal(a->chunked.digits, b->chunked.digits);
    assert_int_equal(a->chunked.overhead, b->chunked.overhead);
    assert_int_equal(a->chunked.remaining, b->chunked.remaining);
    assert_int_equal(a->part_count, b->part_count);
    for (size_t i = 0; i < a->part_count; i++) {
        assert_int_equal(a->parts[i].kind, b->parts[i].kind);
        assert_int_equal(a->parts[i].offset, b->parts[i].offset);
        assert_int_equal(a->parts[i].length, b->parts[i].length);
    }
    assert_span(a->unsent, b->unsent);
    assert_int_equal(a->with_backend, b->with_backend);
    assert_same_backend(&a->backend, &b->backend);
}

/* Reads a message of one record. What is accepted, packed again, is the same bytes. */
static int read_one(struct span message)
{
    static struct record record;
    struct span rest = message;
    int r = record_open(&rest, &fds);

    if (r < 0)
        return r;
    if (r != 1)
        return -EINVAL;
    r = record_next(&rest, &record);
    if (r < 0)
        return r;
    assert_int_equal(rest.length, 0);
    CLEANUP_BUFFER struct buffer again = message_of(&record, 1);
    assert_int_equal(again.length, message.length);
    /* But for the fds in the head, which whoever has them checks. */
    assert_memory_equal(again.bytes, message.at, 8);
    assert_memory_equal(
        again.bytes + HEAD_BYTES, message.at + HEAD_BYTES, message.length - HEAD_BYTES);
    return 0;
}

static void test_every_kind_survives(void **state)
{
    (void)state;
    for (enum record_kind kind = RECORD_IDLE; kind <= RECORD_PROXY; kind++) {
        static struct record read;
        struct record written = sample(kind);
        CLEANUP_BUFFER struct buffer message = message_of(&written, 1);
        struct span rest = buffer_span(&message);
        assert_int_equal(record_open(&rest, &fds), 1);
        assert_int_equal(record_next(&rest, &read), 0);
        assert_int_equal(rest.length, 0);
        assert_same(&written, &read);
        bool second = kind == RECORD_REPLY || kind == RECORD_EXCHANGE || kind == RECORD_TUNNEL;
        assert_int_equal(record_fd_count(&read), second ? 2 : 1);
        assert_int_equal(fds.counts[0], second ? 2 : 1);
        /* Its spans lie in the message. */
        assert_ptr_equal(read.listener.at, message.bytes + HEAD_BYTES + FIXED_BYTES);
        assert_int_equal(read_one(buffer_span(&message)), 0);
    }
}

static void test_edges_survive(void **state)
{
    struct record refused = sample(RECORD_REPLY), none = sample(RECORD_IDLE);
    CLEANUP_BUFFER struct buffer name = {0};

    (void)state;
    /* A head that was never complete, and the answer that refuses it. */
    refused.head_length = refused.body = 0;
    CLEANUP_BUFFER struct buffer message = message_of(&refused, 1);
    assert_int_equal(read_one(buffer_span(&message)), 0);
    /* No deadline, and no listener any more. */
    none.deadline_usec = -1;
    none.listener = (struct span){NULL, 0};
    CLEANUP_BUFFER struct buffer other = message_of(&none, 1);
    assert_int_equal(read_one(buffer_span(&other)), 0);
    /* The longest name, and one more. */
    assert_int_equal(buffer_reserve(&name, RECORD_NAME_MAX + 1), 0);
    memset(name.bytes, 'n', RECORD_NAME_MAX + 1);
    none.listener = (struct span){name.bytes, RECORD_NAME_MAX};
    CLEANUP_BUFFER struct buffer longest = message_of(&none, 1);
    assert_int_equal(read_one(buffer_span(&longest)), 0);
    none.listener.length++;
    CLEANUP_BUFFER struct buffer longer = message_of(&none, 1);
    assert_int_equal(read_one(buffer_span(&longer)), -EINVAL);
}

static void test_several_in_one_message(void **state)
{
    static struct record records[9], read;

    (void)state;
    for (unsigned i = 0; i < COUNT(records); i++)
        records[i] = sample(RECORD_IDLE + i);
    CLEANUP_BUFFER struct buffer message = message_of(records, COUNT(records));
    struct span rest = buffer_span(&message);
    assert_int_equal(record_open(&rest, &fds), COUNT(records));
    for (size_t i = 0; i < COUNT(records); i++) {
        assert_int_equal(record_next(&rest, &read), 0);
        assert_same(&records[i], &read);
    }
    assert_int_equal(rest.length, 0);
    assert_int_equal(record_next(&rest, &read), -EINVAL);
    /* The buffer is used again for the next message. */
    assert_int_equal(record_begin(&message), 0);
    rest = buffer_span(&message);
    assert_int_equal(record_open(&rest, &fds), 0);
    assert_int_equal(rest.length, 0);
}

static void test_limits(void **state)
{
    static char bytes[RECORD_MESSAGE_MAX];
    struct record small = sample(RECORD_IDLE), large = sample(RECORD_REPLY);
    size_t room = RECORD_MESSAGE_MAX - HEAD_BYTES - FIXED_BYTES - 4 - sizeof pipelined + 1 - 24;

    (void)state;
    large.part_count = 1;
    large.parts[0] = (struct part){PART_BYTES, 0, room};
    large.file = false;
    large.unsent = (struct span){bytes, room + 1};
    CLEANUP_BUFFER struct buffer message = message_of(NULL, 0);
    assert_int_equal(record_append(&message, &large), -EMSGSIZE);
    assert_int_equal(message.length, HEAD_BYTES);
    large.unsent.length = room; /* to the last byte */
    assert_int_equal(record_append(&message, &large), 0);
    assert_int_equal(message.length, RECORD_MESSAGE_MAX);
    assert_int_equal(record_append(&message, &small), -EMSGSIZE);
    assert_int_equal(read_one(buffer_span(&message)), 0);

    /* As many parts as an answer can have, and one more. */
    large.unsent.length = 10;
    large.part_count = ANSWER_PARTS_MAX + 1;
    for (size_t i = 0; i < large.part_count; i++)
        large.parts[i] = (struct part){PART_BYTES, 0, 10};
    CLEANUP_BUFFER struct buffer parts = message_of(&large, 1);
    assert_int_equal(read_one(buffer_span(&parts)), 0);
    uint32_t more = ANSWER_PARTS_MAX + 2, length = (uint32_t)parts.length - HEAD_BYTES + 24;
    assert_int_equal(buffer_append(&parts, (struct span){bytes, 24}), 0);
    memcpy(parts.bytes + HEAD_BYTES, &length, sizeof length);
    memcpy(parts.bytes + HEAD_BYTES + 112, &more, sizeof more);
    assert_int_equal(read_one(buffer_span(&parts)), -EINVAL);
}

/* ---- damage ---- */

static void test_heads_of_messages(void **state)
{
    struct {
        size_t offset;
        uint16_t value;
        int expected;
    } cases[] = {
        {0, 0, -EINVAL},
        {2, 0, -EINVAL}, /* magic */
        {4, RECORD_VERSION + 1, -EINVAL},
        {4, RECORD_VERSION_OLDEST - 1, -EINVAL},
        {4, RECORD_VERSION, 1},
        {8, UINT16_MAX, 1}, /* who has the fds checks them */
        {6, RECORD_FDS_MAX, RECORD_FDS_MAX},
        {6, RECORD_FDS_MAX + 1, -EINVAL},
        {6, UINT16_MAX, -EINVAL},
        {6, 0, 0},
    };
    struct record record = sample(RECORD_IDLE);

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        CLEANUP_BUFFER struct buffer message = message_of(&record, 1);
        memcpy(message.bytes + cases[i].offset, &cases[i].value, 2);
        struct span rest = buffer_span(&message);
        assert_int_equal(record_open(&rest, &fds), cases[i].expected);
    }
}

/*
 * The fixed part of a record, field by field: values that are refused whatever the kind (negative
 * ones stand for all bits set), or none where every value is one that a connection may have.
 */
static const struct layout_field {
    const char *name;
    size_t offset, size;
    int64_t wrong[5];
    size_t wrong_count;
} layout[] = {
    {"length", 0, 4, {0, 1, FIXED_BYTES - 1, FIXED_BYTES, -1}, 5},
    {"kind", 4, 2, {0, RECORD_PROXY + 1, 256, -1}, 4},
    {"flags", 6, 2, {1 << 14, 0x8000, -1}, 3},
    {"status", 8, 2, {1, 99, 600, -1}, 4},
    {"reason", 10, 2, {1, COUNTER_END_CLIENT - 1, COUNTER_END_MOVED, COUNTER_MAX, -1}, 5},
    {"name_length", 12, 4, {0, 3, 5, RECORD_NAME_MAX + 1, -1}, 5},
    {"requests", 16, 8, {0}, 0},
    {"head_sent", 24, 8, {0}, 0},
    {"sent", 32, 8, {0}, 0},
    {"taken", 40, 8, {0}, 0},
    {"deadline", 48, 8, {-2, INT64_MIN, INT64_MAX}, 3},
    {"began", 56, 8, {INT64_MIN, INT64_MAX, -1}, 3},
    {"body_left", 64, 8, {0}, 0},
    {"body_read", 72, 8, {0}, 0},
    {"chunk_remaining", 80, 8, {0}, 0},
    {"chunk_state", 88, 4, {CHUNKED_DONE + 1, 256, -1}, 3},
    {"chunk_digits", 92, 4, {0}, 0},
    {"chunk_overhead", 96, 4, {0}, 0},
    {"received_length", 100, 4, {1, 1 << 30, -1}, 3},
    {"head_length", 104, 4, {sizeof pipelined, -1}, 2},
    {"body", 108, 4, {sizeof pipelined, -1}, 2},
    {"part_count", 112, 4, {1, 2, 4, ANSWER_PARTS_MAX + 2, -1}, 5},
    {"unsent_length", 116, 4, {1, 9, 11, -1}, 4},
    {"peer", 120, 28, {0}, 0}, /* whether it is the socket's shows in move_adopt() */
    {"reserved", 148, 4, {1, 1 << 30, -1}, 3},
    {"backend_deadline", 152, 8, {-2, INT64_MIN, INT64_MAX}, 3},
    {"left", 160, 8, {0}, 0},
    {"backend_chunk_remaining", 168, 8, {0}, 0},
    {"backend_chunk_state", 176, 4, {CHUNKED_DONE + 1, 256, -1}, 3},
    {"backend_chunk_digits", 180, 4, {0}, 0},
    {"backend_chunk_overhead", 184, 4, {0}, 0},
    {"attempts", 188, 4, {0}, 0},
    {"state", 192, 2, {DOWNLOAD_DONE + 1, 256, -1}, 3},
    {"framing", 194, 2, {RESPONSE_CLOSE + 1, 256, -1}, 3},
    {"forward", 196, 2, {FORWARD_CLOSE + 1, 256, -1}, 3},
    {"unused", 198, 2, {1, 256, -1}, 3},
    {"upstream_length", 200, 4, {1, RECORD_NAME_MAX + 1, -1}, 3},
    {"server_length", 204, 4, {1, RECORD_NAME_MAX + 1, -1}, 3},
    {"trailer_length", 208, 4, {1, 1 << 30, -1}, 3},
    {"pending_length", 212, 4, {2, 1 << 30, -1}, 3},
    {"backend_unsent_length", 216, 4, {1, 1 << 30, -1}, 3},
    {"unused_too", 220, 4, {1, 1 << 30, -1}, 3},
};

static void test_damaged_fields(void **state)
{
    size_t end = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(layout); i++) {
        assert_int_equal(layout[i].offset, end); /* none is forgotten */
        end += layout[i].size;
        for (enum record_kind kind = RECORD_IDLE; kind <= RECORD_PROXY; kind++)
            for (size_t n = 0; n < layout[i].wrong_count; n++) {
                struct record record = sample(kind);
                CLEANUP_BUFFER struct buffer message = message_of(&record, 1);
                char *field = message.bytes + HEAD_BYTES + layout[i].offset;
                if (memcmp(field, &layout[i].wrong[n], layout[i].size) == 0)
                    continue;
                memcpy(field, &layout[i].wrong[n], layout[i].size);
                if (read_one(buffer_span(&message)) != -EINVAL)
                    fail_msg("%s = %lld is accepted in kind %d", layout[i].name,
                        (long long)layout[i].wrong[n], kind);
            }
    }
    assert_int_equal(end, FIXED_BYTES);
}

static void test_free_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(layout); i++) {
        if (layout[i].wrong_count > 0)
            continue;
        struct record record = sample(RECORD_REPLY);
        CLEANUP_BUFFER struct buffer message = message_of(&record, 1);
        memset(message.bytes + HEAD_BYTES + layout[i].offset, 0xff, layout[i].size);
        assert_int_equal(read_one(buffer_span(&message)), 0);
    }
}

static void test_parts(void **state)
{
    static const struct {
        struct part part;
        int expected;
    } cases[] = {
        {{PART_BYTES, 0, 10}, 0},
        {{PART_BYTES, 10, 0}, 0},
        {{PART_BYTES, 0, 11}, -EINVAL},
        {{PART_BYTES, 11, 0}, -EINVAL},
        {{PART_BYTES, 5, 6}, -EINVAL},
        {{PART_BYTES, UINT64_MAX, 1}, -EINVAL},
        {{PART_BYTES, 1, UINT64_MAX}, -EINVAL},
        {{PART_FILE, 0, INT64_MAX}, 0},
        {{PART_FILE, 1, INT64_MAX}, -EINVAL},
        {{PART_FILE, INT64_MAX, 1}, -EINVAL},
        {{PART_FILE, UINT64_MAX, 0}, -EINVAL},
        {{(enum part_kind)2, 0, 1}, -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct record record = sample(RECORD_REPLY);
        record.parts[1] = cases[i].part;
        CLEANUP_BUFFER struct buffer message = message_of(&record, 1);
        if (read_one(buffer_span(&message)) != cases[i].expected)
            fail_msg("part %zu", i);
    }
}

/* What belongs to one kind alone is refused in every other. */
static void test_inconsistent(void **state)
{
    struct record records[] = {
        sample(RECORD_IDLE),
        sample(RECORD_IDLE),
        sample(RECORD_IDLE),
        sample(RECORD_HEAD),
        sample(RECORD_HEAD),
        sample(RECORD_BODY),
        sample(RECORD_BODY),
        sample(RECORD_BODY),
        sample(RECORD_REPLY),
        sample(RECORD_REPLY),
        sample(RECORD_REPLY),
        sample(RECORD_REPLY),
        sample(RECORD_REPLY),
        sample(RECORD_LINGER),
        sample(RECORD_LINGER),
        sample(RECORD_BODY),
    };
    struct record reply = sample(RECORD_REPLY);

    (void)state;
    records[0].received = SPAN("G");
    records[1].file = true;
    records[2].unsent = SPAN("x");
    records[3].received.length = 0;
    records[4].body = 1;
    records[5].received.length = records[5].head_length = records[5].body = 0;
    records[6].head_length = records[6].body = 0;
    memcpy(records[7].parts, reply.parts, sizeof reply.parts);
    records[7].part_count = reply.part_count;
    records[8].part_count = 0;
    records[9].file = false; /* though a part of it is still to be sent */
    records[10].status = 0;
    records[11].reason = 0; /* it is about to end with it */
    records[12].body = records[12].head_length - 1;
    records[13].reason = 0;
    records[14].received = SPAN("G");
    records[15].close = true; /* and the reason is 0 */
    for (size_t i = 0; i < COUNT(records); i++) {
        CLEANUP_BUFFER struct buffer message = message_of(&records[i], 1);
        if (read_one(buffer_span(&message)) != -EINVAL)
            fail_msg("case %zu", i);
    }
}

/* The same for what is known of a backend. */
static void test_inconsistent_backends(void **state)
{
    struct record records[] = {
        sample(RECORD_IDLE),
        sample(RECORD_HEAD),
        sample(RECORD_REPLY),
        sample(RECORD_PROXY),
        sample(RECORD_WAITING),
        sample(RECORD_WAITING),
        sample(RECORD_WAITING),
        sample(RECORD_WAITING),
        sample(RECORD_EXCHANGE),
        sample(RECORD_EXCHANGE),
        sample(RECORD_EXCHANGE),
        sample(RECORD_EXCHANGE),
        sample(RECORD_EXCHANGE),
        sample(RECORD_EXCHANGE),
        sample(RECORD_EXCHANGE),
        sample(RECORD_TUNNEL),
        sample(RECORD_TUNNEL),
        sample(RECORD_TUNNEL),
        sample(RECORD_TUNNEL),
        sample(RECORD_TUNNEL),
        sample(RECORD_TUNNEL),
        sample(RECORD_TUNNEL),
        sample(RECORD_TUNNEL),
        sample(RECORD_TUNNEL),
    };
    struct record *record = records;
    static char name[RECORD_NAME_MAX + 1];

    (void)state;
    record++->backend.upstream = SPAN("shop");
    record++->with_backend = true;
    record++->backend.unsent = SPAN("x");
    record++->backend.upstream = SPAN("shop");
    record++->with_backend = true; /* then it does not wait */
    record++->backend.upstream.length = 0;
    record++->unsent = SPAN("x");
    record++->backend.pending = SPAN("x");
    record++->with_backend = false;          /* who makes the answer? */
    record++->backend.state = DOWNLOAD_DONE; /* then the backend is given back */
    record->backend.state = DOWNLOAD_DONE;
    record->with_backend = false;
    record++->unsent.length = 0; /* then all is over */
    record++->status = 0;        /* behind a head */
    record++->head_length = 0;
    record++->file = true;
    record++->backend.upstream = (struct span){name, sizeof name};
    record++->backend.upstream.length = 0;
    record++->received = SPAN("x");
    record++->backend.state = DOWNLOAD_BODY;
    record++->backend.client_told = true; /* of an end that is behind unsent bytes, */
    record->backend.unsent.length = 0;
    record++->backend.client_ended = true; /* was not told of an end that is there, */
    record->backend.unsent.length = 0;
    record->backend.client_ended = false;
    record++->backend.backend_told = true; /* was told of none, */
    record->backend.unsent.length = record->unsent.length = 0;
    record->backend.client_told = true;
    record++->backend.backend_told = true; /* is over, */
    record->with_backend = false;
    record++->unsent.length = 0; /* or ended before it began */
    record->with_backend = record->backend.client_ended = record->backend.backend_ended = false;
    record++;
    assert_int_equal(record - records, COUNT(records));
    for (size_t i = 0; i < COUNT(records); i++) {
        CLEANUP_BUFFER struct buffer message = message_of(&records[i], 1);
        if (read_one(buffer_span(&message)) != -EINVAL)
            fail_msg("case %zu", i);
    }
}

/* As they may well be, too. */
static void test_other_backends(void **state)
{
    struct record done = sample(RECORD_EXCHANGE), head = sample(RECORD_EXCHANGE),
                  waiting = sample(RECORD_TUNNEL), half = sample(RECORD_TUNNEL);
    struct record *const records[] = {&done, &head, &waiting, &half};

    (void)state;
    done.backend.state = DOWNLOAD_DONE;
    done.with_backend = false;
    head.backend.state = DOWNLOAD_HEAD;
    head.status = 0;
    waiting.with_backend = false;
    waiting.unsent.length = 0;
    waiting.backend.client_ended = waiting.backend.backend_ended = false;
    half.unsent.length = 0;
    half.backend.client_told = true;
    for (size_t i = 0; i < COUNT(records); i++) {
        CLEANUP_BUFFER struct buffer message = message_of(records[i], 1);
        if (read_one(buffer_span(&message)) != 0)
            fail_msg("case %zu", i);
    }
}

static void test_as_many_as_fds(void **state)
{
    struct record record = sample(RECORD_IDLE);
    CLEANUP_BUFFER struct buffer message = message_of(NULL, 0);

    (void)state;
    for (unsigned i = 0; i < RECORD_FDS_MAX; i++)
        assert_int_equal(record_append(&message, &record), 0);
    size_t length = message.length;
    assert_int_equal(record_append(&message, &record), -EMSGSIZE);
    assert_int_equal(message.length, length);
    struct span rest = buffer_span(&message);
    assert_int_equal(record_open(&rest, &fds), RECORD_FDS_MAX);
}

static void test_truncated_anywhere(void **state)
{
    (void)state;
    for (enum record_kind kind = RECORD_IDLE; kind <= RECORD_PROXY; kind++) {
        struct record record = sample(kind);
        CLEANUP_BUFFER struct buffer message = message_of(&record, 1);
        for (size_t length = 0; length < message.length; length++) {
            char *copy = malloc(length + 1); /* its end is watched by the sanitizer */
            assert_non_null(copy);
            memcpy(copy + 1, message.bytes, length);
            assert_int_equal(read_one((struct span){copy + 1, length}), -EINVAL);
            free(copy);
        }
    }
}

/* A byte more belongs to nobody: the caller sees it, and the next record is not one. */
static void test_longer(void **state)
{
    static struct record read;
    struct record record = sample(RECORD_IDLE);
    CLEANUP_BUFFER struct buffer message = message_of(&record, 1);

    (void)state;
    assert_int_equal(buffer_append(&message, SPAN("x")), 0);
    struct span rest = buffer_span(&message);
    assert_int_equal(record_open(&rest, &fds), 1);
    assert_int_equal(record_next(&rest, &read), 0);
    assert_int_equal(rest.length, 1);
    assert_int_equal(record_next(&rest, &read), -EINVAL);
    /* The record says that it is its own. */
    uint32_t length = (uint32_t)(message.length - HEAD_BYTES);
    memcpy(message.bytes + HEAD_BYTES, &length, sizeof length);
    assert_int_equal(read_one(buffer_span(&message)), -EINVAL);
}

static uint32_t next_random(uint32_t *random)
{
    *random = *random * 1664525 + 1013904223;
    return *random >> 8;
}

/* Bits flipped in good messages, and noise: read_one() checks that what is accepted is canonical.
 */
static void test_random_bytes(void **state)
{
    uint32_t random = 1;
    size_t accepted = 0;

    (void)state;
    for (unsigned i = 0; i < 50000; i++) {
        struct record record = sample(RECORD_IDLE + i % 9);
        CLEANUP_BUFFER struct buffer message = message_of(&record, 1);
        unsigned flips = i % 4 == 0 ? 200 : 1;
        for (unsigned n = 0; n < flips; n++) {
            size_t at = next_random(&random) % message.length;
            message.bytes[at] = (char)(message.bytes[at] ^ 1 << next_random(&random) % 8);
        }
        accepted += read_one(buffer_span(&message)) == 0;
    }
    assert_in_range(accepted, 100, 49900); /* both happen */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_survives),
        cmocka_unit_test(test_edges_survive),
        cmocka_unit_test(test_several_in_one_message),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_heads_of_messages),
        cmocka_unit_test(test_damaged_fields),
        cmocka_unit_test(test_free_fields),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_inconsistent),
        cmocka_unit_test(test_inconsistent_backends),
        cmocka_unit_test(test_other_backends),
        cmocka_unit_test(test_as_many_as_fds),
        cmocka_unit_test(test_truncated_anywhere),
        cmocka_unit_test(test_longer),
        cmocka_unit_test(test_random_bytes),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
