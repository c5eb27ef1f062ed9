#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "connection/expiry.h"
#include "connection/move.h"
#include "fds.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/*
 * Two servers over one loop, between which connections move, and clients at the other ends of
 * socket pairs. The server's end has a small buffer, so that answers wait again and again.
 */

#define FILE_SIZE 40000
#define MEMORY_SIZE 9000

struct place {
    struct server server;
    struct counters counters;
    struct config config;
    struct access_log log;
};

struct world {
    struct ev_loop *loop;
    struct place places[2];
    int file;
    char log_path[32];
};

static struct world world;

static void answer_by_path(
    struct handler *handler, const struct request *request, struct answer *answer)
{
    static const char memory[MEMORY_SIZE] = "memory";

    (void)handler;
    answer->status = 200;
    if (span_equal(request->path, SPAN("/text"))) {
        answer_bytes(answer, SPAN("text\n"));
    } else if (span_equal(request->path, SPAN("/memory"))) {
        answer_bytes(answer, (struct span){memory, sizeof memory});
    } else if (span_equal(request->path, SPAN("/file"))) {
        answer_file(answer, fcntl(world.file, F_DUPFD_CLOEXEC, 0));
        answer_file_part(answer, 0, FILE_SIZE);
    } else if (span_equal(request->path, SPAN("/parts"))) {
        answer_file(answer, fcntl(world.file, F_DUPFD_CLOEXEC, 0));
        for (uint64_t i = 0; i < 60; i++) {
            answer_bytes(answer, SPAN("--separator--"));
            answer_file_part(answer, i * 600, 50 * (i % 9));
        }
        answer_bytes(answer, SPAN("--end--"));
    } else {
        answer_text(answer, 404);
    }
}

static struct handler handler = {.answer = answer_by_path};

static struct handler *on_route(void *owner, unsigned listener, const struct request *request)
{
    (void)owner;
    (void)listener;
    (void)request;
    return &handler;
}

static void on_describe(void *owner, unsigned listener, struct span *ret_name, bool *ret_admin)
{
    (void)owner;
    *ret_name = listener == 7 ? SPAN("seven") : SPAN("other");
    *ret_admin = listener == 8;
}

static void on_ended(void *owner)
{
    (void)owner;
}

static void on_listener(void *owner, unsigned listener, struct listener_manner *ret)
{
    (void)owner;
    (void)listener;
    *ret = (struct listener_manner){0};
}

static const struct server_calls calls = {
    .route = on_route,
    .describe = on_describe,
    .ended = on_ended,
    .listener = on_listener,
};

static void open_place(struct place *place)
{
    struct reason reason;

    place->config = (struct config){
        .header_timeout_usec = 60 * USEC_PER_SEC,
        .body_timeout_usec = 60 * USEC_PER_SEC,
        .idle_timeout_usec = 60 * USEC_PER_SEC,
        .send_timeout_usec = 60 * USEC_PER_SEC,
        .linger_timeout_usec = 60 * USEC_PER_SEC,
        .drain_timeout_usec = 60 * USEC_PER_SEC,
        .head_size = 1024,
        .max_body_size = 100,
        .max_fields = 10,
    };
    place->counters = (struct counters){0};
    assert_int_equal(access_log_open(&place->log, ACCESS_JSON, world.log_path, &reason), 0);
    server_init(
        &place->server, world.loop, &place->config, &place->counters, &place->log, &calls, place);
}

static int set_up(void **state)
{
    (void)state;
    world.loop = ev_loop_new(EVBACKEND_EPOLL);
    world.file = memfd_create("file", MFD_CLOEXEC);
    static uint32_t content[FILE_SIZE / sizeof(uint32_t)];
    for (uint32_t i = 0; i < COUNT(content); i++)
        content[i] = i;
    assert_int_equal(write(world.file, content, sizeof content), FILE_SIZE);
    strcpy(world.log_path, "/tmp/baton-move-XXXXXX");
    fd_close(mkstemp(world.log_path));
    open_place(&world.places[0]);
    open_place(&world.places[1]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(world.places); i++) {
        server_destroy(&world.places[i].server);
        access_log_close(&world.places[i].log);
    }
    ev_loop_destroy(world.loop);
    fd_close(world.file);
    return unlink(world.log_path);
}

/* What can be done now is done. */
static void turn(void)
{
    for (int i = 0; i < 4; i++)
        ev_run(world.loop, EVRUN_NOWAIT);
}

/* The client's end of a new connection to the first place; @stuffed: no answer fits its socket. */
static int connect_client(unsigned listener, bool stuffed)
{
    static char stuffing[100000];
    struct address peer = {.local = {.sun_family = AF_UNIX}, .length = sizeof(sa_family_t)};
    int pair[2], small = 1;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    while (stuffed && write(pair[1], stuffing, sizeof stuffing) > 0)
        ;
    server_accept(&world.places[0].server, pair[1], &peer, listener);
    return pair[0];
}

static struct connection *only_connection(const struct place *place)
{
    return CONTAINER_OF(place->server.connections.next, struct connection, link);
}

/* As through an inbox: by way of a message, with fds of other numbers. */
static int move(struct place *from, struct place *to)
{
    static struct record record, read;
    CLEANUP_BUFFER struct buffer message = {0};
    struct connection *connection = only_connection(from);
    struct record_fds fds;

    move_describe(connection, &record);
    assert_int_equal(record_begin(&message), 0);
    assert_int_equal(record_append(&message, &record), 0);
    int fd = fcntl(connection->io.fd, F_DUPFD_CLOEXEC, 100);
    int file = record.file ? fcntl(connection->output->file, F_DUPFD_CLOEXEC, 100) : -1;
    move_complete(connection);
    struct span rest = buffer_span(&message);
    assert_int_equal(record_open(&rest, &fds), 1);
    if (record_next(&rest, &read) < 0)
        fail_msg("a record of kind %d is refused", record.kind);
    return move_adopt(&to->server, &read, fd, file, 3, false);
}

/* To the other place, from wherever it is now. */
static void move_any(void)
{
    struct place *places = world.places;
    bool first = places[0].server.connection_count > 0;

    if (first || places[1].server.connection_count > 0)
        assert_int_equal(move(&places[!first], &places[first]), 0);
}

static uint64_t sum(enum counter counter)
{
    return world.places[0].counters.values[counter] + world.places[1].counters.values[counter];
}

/* ---- whole conversations, moved at every point ---- */

struct conversation {
    const char *name, *sent;
    size_t step;        /* bytes that are sent at once */
    const char *begins; /* the answer */
    size_t length;      /* of the answer's body, if not 0 */
};

#define HOST "Host: x\r\n"
#define LAST "GET /text HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"
#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789"

static const struct conversation conversations[] = {
    {"requests one by one", "GET /text HTTP/1.1\r\n" HOST "\r\n" LAST, 1, "HTTP/1.1 200", 0},
    {"an empty line before a request", "\r\nGET /text HTTP/1.1\r\n" HOST "\r\n\r\n" LAST, 1,
        "HTTP/1.1 200", 0},
    {"a body by length",
        "POST /text HTTP/1.1\r\n" HOST "Content-Length: 20\r\n\r\n"
        "GET / HTTP/1.1\r\nHost" LAST,
        1, "HTTP/1.1 200", 0},
    {"a chunked body",
        "POST /text HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
        "5;x=\"y\"\r\nhello\r\n0b \r\nhello world\r\n0\r\nA: b\r\n\r\n" LAST,
        1, "HTTP/1.1 200", 0},
    {"a body that is asked for",
        "GET /text HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" LAST,
        1, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", 0},
    {"pipelined requests",
        "GET /text HTTP/1.1\r\n" HOST "\r\nGET /memory HTTP/1.1\r\n" HOST
        "\r\nGET /none HTTP/1.1\r\n" HOST "\r\nGET /file HTTP/1.1\r\n" HOST
        "\r\nHEAD /file HTTP/1.1\r\n" HOST "\r\nGET /parts HTTP/1.1\r\n" HOST
        "\r\nPOST /memory HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc" LAST,
        1000, "HTTP/1.1 200", 0},
    {"memory", "GET /memory HTTP/1.1\r\n" HOST "\r\n" LAST, 70, "HTTP/1.1 200", 0},
    {"a file", "GET /file HTTP/1.1\r\n" HOST "\r\n" LAST, 70, "HTTP/1.1 200", 0},
    {"pieces of memory and of a file", "GET /parts HTTP/1.1\r\n" HOST "\r\n" LAST, 70,
        "HTTP/1.1 200", 0},
    {"HTTP/1.0", "GET /file HTTP/1.0\r\n\r\n", 5, "HTTP/1.1 200", FILE_SIZE},
    {"HTTP/1.0 that stays", "GET /memory HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" LAST, 9,
        "HTTP/1.1 200", 0},
    {"the last request", "GET /file HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", 5,
        "HTTP/1.1 200", FILE_SIZE},
    {"no Host", "GET /file HTTP/1.1\r\nA: b\r\n\r\n" LAST, 1, "HTTP/1.1 400", 0},
    {"no Host behind an answer that waits",
        "GET /memory HTTP/1.1\r\n" HOST "\r\nGET /refused HTTP/1.1\r\nA: b\r\n\r\n" LAST, 1000,
        "HTTP/1.1 200", 0},
    {"nonsense", "GET /file\r\n\r\n", 3, "HTTP/1.1 505", 0},
    {"a head over the limit",
        "GET /text HTTP/1.1\r\n" HOST
        "A: " LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG
        "\r\n\r\n",
        13, "HTTP/1.1 431", 0},
    {"a body over the limit",
        "POST /text HTTP/1.1\r\n" HOST "Content-Length: 101\r\n\r\n" LONG LONG, 7, "HTTP/1.1 413",
        0},
    {"chunks over the limit",
        "POST /text HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
        "46\r\n" LONG "\r\n46\r\n" LONG "\r\n0\r\n\r\n",
        7, "HTTP/1.1 413", 0},
    {"no chunk",
        "POST /text HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
        "3\r\nabcd\r\n",
        1, "HTTP/1.1 400", 0},
    {"a body that is not asked for",
        "POST /text HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", 9,
        "HTTP/1.1 200", 0},
};

struct outcome {
    char bytes[FILE_SIZE * 2 + 30000];
    size_t length;
    bool closed;
    char log[4096];
    struct counters counters;
    unsigned points; /* at which it could have been moved */
};

static void read_some(int client, size_t most, struct outcome *outcome)
{
    ssize_t n = read(client, outcome->bytes + outcome->length, most);

    if (n > 0)
        outcome->length += (size_t)n;
    outcome->closed = n == 0;
    assert_true(n >= 0 || errno == EAGAIN);
}

/* Cuts out what differs from one run to the next: what stands between the two. Returns the length
 * that is left. */
static size_t cut_out(char *bytes, size_t length, const char *before, char behind)
{
    char *at = bytes;

    while ((at = memmem(at, length - (size_t)(at - bytes), before, strlen(before)))) {
        at += strlen(before);
        char *end = memchr(at, behind, length - (size_t)(at - bytes));
        if (!end)
            break;
        memmove(at, end, length - (size_t)(end - bytes));
        length -= (size_t)(end - at);
    }
    return length;
}

static void read_log(struct outcome *outcome)
{
    CLEANUP_FD int fd = open(world.log_path, O_RDWR | O_CLOEXEC);

    for (size_t i = 0; i < COUNT(world.places); i++)
        assert_int_equal(access_log_flush(&world.places[i].log), 0);
    ssize_t n = read(fd, outcome->log, sizeof outcome->log - 1);
    assert_true(n >= 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    size_t length = cut_out(outcome->log, (size_t)n, "\"time\":\"", '"');
    outcome->log[cut_out(outcome->log, length, "\"duration", ',')] = '\0';
}

enum { MOVED_KINDS = COUNTER_MOVED_LINGER - COUNTER_MOVED_IDLE + 1 };

#define EVERY_POINT UINT32_MAX
#define NO_POINT (UINT32_MAX - 1)

/* Has the conversation, and moves the connection at that point. */
static void run(
    const struct conversation *conversation, bool stuffed, unsigned at, struct outcome *ret)
{
    int client = connect_client(7, stuffed);
    size_t length = strlen(conversation->sent), sent = 0;
    unsigned stuck = 0;

    *ret = (struct outcome){.length = 0};
    for (unsigned quiet = 0; quiet < 8 && !ret->closed; ret->points++) {
        size_t left = length - sent, before = ret->length;
        ssize_t n = write(client, conversation->sent + sent,
            left < conversation->step ? left : conversation->step);
        assert_true(n >= 0 || errno == EAGAIN || errno == EPIPE);
        sent += n > 0 ? (size_t)n : 0;
        if (ret->points % 2 == 0) /* also with unread bytes in the socket */
            turn();
        if (at == EVERY_POINT || at == ret->points)
            move_any();
        turn();
        stuck += n <= 0;
        if (stuffed && stuck < 3) /* nothing is read before all is sent, and answers wait */
            continue;
        read_some(client, 1500, ret);
        if (sent == length && ret->length == before && !ret->closed && quiet++ == 4)
            (void)shutdown(client, SHUT_WR); /* it lingers */
        else if (ret->length > before)
            quiet = 0;
    }
    fd_close(client);
    turn();
    for (unsigned i = 0; i < COUNTER_MAX; i++)
        ret->counters.values[i] = sum(i);
    read_log(ret);
    ret->length = cut_out(ret->bytes, ret->length, "\r\nDate: ", '\r');
}

static void assert_same(const struct conversation *conversation, unsigned at,
    const struct outcome *moved, const struct outcome *unmoved)
{
    bool same = moved->length == unmoved->length && moved->closed == unmoved->closed &&
                memcmp(moved->bytes, unmoved->bytes, moved->length) == 0;

    if (!same)
        fail_msg("%s, moved at %u: %zu bytes instead of %zu, closed %d instead of %d",
            conversation->name, at, moved->length, unmoved->length, moved->closed, unmoved->closed);
    assert_string_equal(moved->log, unmoved->log);
    for (enum counter i = 0; i < COUNTER_MAX; i++) {
        bool of_moving = i == COUNTER_ADOPTED || (i >= COUNTER_END_MOVED && i < COUNTER_MAX);
        if (!of_moving && moved->counters.values[i] != unmoved->counters.values[i])
            fail_msg("%s, moved at %u: counter %d is %d instead of %d", conversation->name, at, i,
                (int)moved->counters.values[i], (int)unmoved->counters.values[i]);
    }
    assert_int_equal(
        moved->counters.values[COUNTER_ADOPTED], moved->counters.values[COUNTER_END_MOVED]);
}

static void begin_anew(void)
{
    (void)tear_down(NULL);
    (void)set_up(NULL);
}

/* Adds up in which states it was moved. */
static void try_all_points(const struct conversation *conversation, bool stuffed, uint64_t *states)
{
    static struct outcome unmoved, moved;

    begin_anew();
    run(conversation, stuffed, NO_POINT, &unmoved);
    if (!stuffed)
        assert_memory_equal(unmoved.bytes, conversation->begins, strlen(conversation->begins));
    assert_true(conversation->length == 0 || unmoved.length > conversation->length);
    assert_int_equal(unmoved.counters.values[COUNTER_ADOPTED], 0);
    size_t fds = fds_open();
    for (unsigned at = 0; at < unmoved.points; at++) {
        begin_anew();
        run(conversation, stuffed, at, &moved);
        assert_same(conversation, at, &moved, &unmoved);
        for (unsigned kind = 0; kind < MOVED_KINDS; kind++)
            states[kind] += moved.counters.values[COUNTER_MOVED_IDLE + kind];
    }
    begin_anew();
    run(conversation, stuffed, EVERY_POINT, &moved);
    assert_same(conversation, EVERY_POINT, &moved, &unmoved);
    assert_in_range(moved.counters.values[COUNTER_ADOPTED], 2, 100000);
    assert_int_equal(fds_open(), fds);
}

static void test_moves_are_invisible(void **state)
{
    uint64_t states[MOVED_KINDS] = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(conversations); i++) {
        try_all_points(&conversations[i], false, states);
        try_all_points(&conversations[i], true, states);
    }
    for (unsigned kind = 0; kind < MOVED_KINDS; kind++)
        assert_in_range(states[kind], 10, 100000); /* every state was among them */
}

/* ---- what travels beside ---- */

static void send_text(int client, const char *text)
{
    assert_int_equal(write(client, text, strlen(text)), strlen(text));
    turn();
}

/* The answer that has arrived. */
static const char *receive_text(int client)
{
    static char text[MEMORY_SIZE + 4096];

    turn();
    ssize_t n = read(client, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void assert_closed(int client)
{
    char byte;

    assert_int_equal(read(client, &byte, 1), 0);
}

static void test_who_it_is(void **state)
{
    struct connection *connection;
    struct record record;
    int client = connect_client(7, false);

    (void)state;
    send_text(client, "GET /text HTTP/1.1\r\n" HOST "\r\n");
    connection = only_connection(&world.places[0]);
    connection->peer.sin6_port = 4711;
    move_describe(connection, &record);
    assert_true(span_equal(record.listener, SPAN("seven")));
    assert_false(record.admin);
    connection->listener = 8;
    move_describe(connection, &record);
    assert_true(span_equal(record.listener, SPAN("other")));
    assert_true(record.admin);
    move_any();
    connection = only_connection(&world.places[1]);
    assert_int_equal(connection->peer.sin6_family, AF_UNIX);
    assert_int_equal(connection->peer.sin6_port, 4711);
    assert_int_equal(connection->requests, 1);
    assert_int_equal(connection->listener, 3); /* as whoever adopted it said */
    assert_true(fcntl(connection->io.fd, F_GETFD) & FD_CLOEXEC);
    fd_close(client);
}

/* In whole microseconds: a difference of two times is exact to no more than that. */
static double left_at(const struct place *place)
{
    return rint(deadline_left(&only_connection(place)->deadline) * 1e6) / 1e6;
}

/* A listener that nobody has any more: polite, and no longer than a drain. */
static void test_drain(void **state)
{
    static struct record record;
    struct server *server = &world.places[1].server;
    int client = connect_client(7, false);

    (void)state;
    send_text(client, "GET /text HTTP/1.1\r\n" HOST "\r\n");
    assert_null(strstr(receive_text(client), "Connection: close"));
    for (unsigned i = 0; i < 2; i++) {
        struct connection *connection = only_connection(&world.places[0]);
        int fd = fcntl(connection->io.fd, F_DUPFD_CLOEXEC, 0);
        world.places[1].config.drain_timeout_usec = (i == 0 ? 90 : 2) * USEC_PER_SEC;
        move_describe(connection, &record);
        move_complete(connection);
        assert_int_equal(move_adopt(server, &record, fd, -1, 3, true), 0);
        double left = left_at(&world.places[1]);
        assert_true(i == 0 ? left > 50 && left <= 60 : left > 1 && left <= 2);
        if (i == 0)
            assert_int_equal(move(&world.places[1], &world.places[0]), 0);
    }
    send_text(client, "GET /text HTTP/1.1\r\n" HOST "\r\n");
    assert_non_null(strstr(receive_text(client), "Connection: close"));
    assert_closed(client);
    fd_close(client);
    turn();
    assert_int_equal(world.places[1].counters.values[COUNTER_END_ANNOUNCED], 1);
}

/* ---- time ---- */

/* Brings a connection into each state in turn; which list its deadline is in then. */
static const struct {
    const char *sent;
    bool stuffed;
    enum connection_state state;
    size_t timeout; /* its place in struct config */
} waits[] = {
    {"", false, CONNECTION_IDLE, offsetof(struct config, header_timeout_usec)},
    {"GET /text HTTP/1.1\r\n" HOST "\r\n", false, CONNECTION_IDLE,
        offsetof(struct config, idle_timeout_usec)},
    {"GET /te", false, CONNECTION_HEAD, offsetof(struct config, header_timeout_usec)},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\n1234", false, CONNECTION_BODY,
        offsetof(struct config, body_timeout_usec)},
    {"GET /text HTTP/1.1\r\n" HOST "\r\n", true, CONNECTION_REPLY,
        offsetof(struct config, send_timeout_usec)},
    {"nonsense\r\n\r\n", false, CONNECTION_LINGER, offsetof(struct config, linger_timeout_usec)},
};

static void set_timeout(struct place *place, size_t timeout, uint64_t usec)
{
    server_destroy(&place->server);
    memcpy((char *)&place->config + timeout, &usec, sizeof usec);
    server_init(&place->server, world.loop, &place->config, &place->counters, NULL, &calls, place);
}

static void test_time_runs_on(void **state)
{
    static const struct {
        uint64_t first, second; /* timeouts of the two places */
        double spent;           /* of the first */
        double low, high;       /* what is left in the second */
    } cases[] = {
        {60 * USEC_PER_SEC, 60 * USEC_PER_SEC, 0, 59, 60},
        {60 * USEC_PER_SEC, 60 * USEC_PER_SEC, 50, 9, 10},
        {60 * USEC_PER_SEC, 60 * USEC_PER_SEC, 70, 0, 0.001},
        {60 * USEC_PER_SEC, 5 * USEC_PER_SEC, 0, 4, 5},     /* the new one is shorter */
        {60 * USEC_PER_SEC, 5 * USEC_PER_SEC, 57, 2, 3},    /* but less was left anyway */
        {60 * USEC_PER_SEC, 900 * USEC_PER_SEC, 50, 9, 10}, /* longer */
        {60 * USEC_PER_SEC, USEC_INFINITY, 50, 9, 10},
        {USEC_INFINITY, 60 * USEC_PER_SEC, 0, 59, 60}, {USEC_INFINITY, USEC_INFINITY, 0, -1, -1},
        {USEC_INFINITY - 1, USEC_INFINITY, 0, -1, -1}, /* as good as none */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(waits); i++)
        for (size_t n = 0; n < COUNT(cases); n++) {
            begin_anew();
            set_timeout(&world.places[0], waits[i].timeout, cases[n].first);
            set_timeout(&world.places[1], waits[i].timeout, cases[n].second);
            int client = connect_client(7, waits[i].stuffed);
            turn();
            if (waits[i].sent[0])
                send_text(client, waits[i].sent);
            struct connection *connection = only_connection(&world.places[0]);
            assert_int_equal(connection->state, waits[i].state);
            connection->deadline.at -= cases[n].spent;
            move_any();
            assert_int_equal(only_connection(&world.places[1])->state, waits[i].state);
            double left = left_at(&world.places[1]);
            if (left < cases[n].low || left > cases[n].high)
                fail_msg("state %d, case %zu: %f s are left", waits[i].state, n, left);
            fd_close(client);
        }
}

static void on_time_out(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    *(bool *)timer->data = true;
    ev_break(loop, EVBREAK_ALL);
}

/* A connection that came with more time than the present timeout gives does not hold up others. */
static void test_shorter_timeout_after_a_move(void **state)
{
    struct place *place = &world.places[1];
    size_t timeout = offsetof(struct config, idle_timeout_usec);
    bool timed_out = false;
    ev_timer alarm;

    (void)state;
    set_timeout(place, timeout, 50000);
    int patient = connect_client(7, false);
    send_text(patient, "GET /text HTTP/1.1\r\n" HOST "\r\n");
    move_any();
    int client = connect_client(7, false);
    send_text(client, "GET /text HTTP/1.1\r\n" HOST "\r\n");
    move_any();
    ev_timer_init(&alarm, on_time_out, 5, 0);
    alarm.data = &timed_out;
    ev_timer_start(world.loop, &alarm);
    while (place->counters.values[COUNTER_END_IDLE] < 2 && !timed_out)
        ev_run(world.loop, EVRUN_ONCE);
    assert_false(timed_out);
    ev_timer_stop(world.loop, &alarm);
    fd_close(patient);
    fd_close(client);
}

/* What a slow client took before the move keeps the connection, as without the move. */
static void test_progress_before_a_move_counts(void **state)
{
    char bytes[3000];

    (void)state;
    for (unsigned progress = 0; progress < 2; progress++) {
        begin_anew();
        int client = connect_client(7, true);
        send_text(client, "GET /file HTTP/1.1\r\n" HOST "\r\n");
        assert_int_equal(only_connection(&world.places[0])->state, CONNECTION_REPLY);
        if (progress) /* less than wakes the server */
            while (only_connection(&world.places[0])->sent == 0 && read(client, bytes, 1) == 1 &&
                   read(client, bytes, sizeof bytes) > 0)
                break;
        move_any();
        struct connection *connection = only_connection(&world.places[1]);
        list_remove(&connection->deadline.link); /* as the list's timer does */
        connection_send_expired(&connection->deadline);
        assert_int_equal(world.places[1].counters.values[COUNTER_END_SEND], !progress);
        fd_close(client);
    }
}

static double logged_duration_usec(void)
{
    static struct outcome outcome;
    CLEANUP_FD int fd = open(world.log_path, O_RDONLY | O_CLOEXEC);

    for (size_t i = 0; i < COUNT(world.places); i++)
        assert_int_equal(access_log_flush(&world.places[i].log), 0);
    ssize_t n = read(fd, outcome.log, sizeof outcome.log - 1);
    assert_true(n > 0);
    outcome.log[n] = '\0';
    const char *at = strstr(outcome.log, "\"duration");
    assert_non_null(at);
    return strtod(strchr(at, ':') + 1, NULL);
}

static void test_duration_counts_from_the_head(void **state)
{
    static const char *const requests[] = {
        "GET /text HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n\r\n"};
    char bytes[10000];

    (void)state;
    for (size_t i = 0; i < COUNT(requests); i++) {
        begin_anew();
        int client = connect_client(7, true);
        send_text(client, requests[i]);
        only_connection(&world.places[0])->reading->began -= 1000;
        move_any();
        while (read(client, bytes, sizeof bytes) > 0)
            turn();
        double duration = logged_duration_usec();
        assert_true(duration >= 1000e6 && duration < 1100e6);
        fd_close(client);
    }
}

/* The client may go on sending: RFC 9112 §9.6. */
static void test_lingers_behind_an_answer_that_moved(void **state)
{
    char bytes[10000];
    int client = connect_client(7, true);

    (void)state;
    send_text(client, "POST / HTTP/1.1\r\n" HOST "Content-Length: 101\r\n\r\n");
    move_any();
    while (read(client, bytes, sizeof bytes) > 0)
        turn();
    assert_int_equal(only_connection(&world.places[1])->state, CONNECTION_LINGER);
    fd_close(client);
}

/* ---- what is refused ---- */

enum {
    SOCKET,
    BLOCKING,
    OTHER_FAMILY,
    LISTENING,
    DATAGRAMS,
    PACKETS,
    FOLDER,
    A_FILE,
    DEVICE,
    NONE
};

static int make_fd(int kind)
{
    static const int types[] = {[SOCKET] = SOCK_STREAM | SOCK_NONBLOCK,
        [BLOCKING] = SOCK_STREAM,
        [OTHER_FAMILY] = SOCK_STREAM | SOCK_NONBLOCK,
        [LISTENING] = SOCK_STREAM | SOCK_NONBLOCK,
        [DATAGRAMS] = SOCK_DGRAM | SOCK_NONBLOCK,
        [PACKETS] = SOCK_SEQPACKET | SOCK_NONBLOCK};
    struct sockaddr any = {.sa_family = AF_UNIX};
    int fd;

    switch (kind) {
    case FOLDER:
        return open("/", O_RDONLY | O_CLOEXEC);
    case A_FILE:
        return fcntl(world.file, F_DUPFD_CLOEXEC, 0);
    case DEVICE:
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    case NONE:
        return -1;
    }
    fd = socket(kind == OTHER_FAMILY ? AF_INET : AF_UNIX, types[kind] | SOCK_CLOEXEC, 0);
    if (kind == LISTENING) {
        assert_int_equal(bind(fd, &any, sizeof any.sa_family), 0);
        assert_int_equal(listen(fd, 1), 0);
    }
    return fd;
}

static struct record reply_record(bool file)
{
    struct record record = {
        .kind = RECORD_REPLY,
        .file = file,
        .status = 200,
        .peer = {.sin6_family = AF_UNIX},
        .received = SPAN("GET /text HTTP/1.1\r\nHost: x\r\n\r\n"),
        .head_length = 31,
        .body = 31,
        .deadline_usec = -1,
        .parts = {{file ? PART_FILE : PART_BYTES, 0, 1}},
        .part_count = 1,
        .unsent = SPAN("x"),
    };

    return record;
}

static void test_wrong_fds(void **state)
{
    static const struct {
        int fd, file;
        bool with_file;
        int expected;
    } cases[] = {
        {SOCKET, NONE, false, 0},
        {SOCKET, A_FILE, true, 0},
        {SOCKET, NONE, true, -EINVAL},
        {SOCKET, A_FILE, false, -EINVAL},
        {SOCKET, FOLDER, true, -EINVAL},
        {SOCKET, DEVICE, true, -EINVAL},
        {SOCKET, SOCKET, true, -EINVAL},
        {BLOCKING, NONE, false, -EINVAL},
        {OTHER_FAMILY, NONE, false, 0}, /* what a PROXY header says of a client is of any */
        {LISTENING, NONE, false, -EINVAL},
        {DATAGRAMS, NONE, false, -EINVAL},
        {PACKETS, NONE, false, -EINVAL},
        {FOLDER, NONE, false, -EINVAL},
        {A_FILE, NONE, false, -EINVAL},
        {DEVICE, NONE, false, -EINVAL},
        {NONE, NONE, false, -EINVAL},
        {A_FILE, A_FILE, true, -EINVAL},
    };
    struct place *place = &world.places[0];
    size_t fds = fds_open(), adopted = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct record record = reply_record(cases[i].with_file);
        int fd = make_fd(cases[i].fd), file = make_fd(cases[i].file);
        int r = move_adopt(&place->server, &record, fd, file, 0, false);
        if (r != cases[i].expected)
            fail_msg("case %zu: %d", i, r);
        adopted += r == 0;
        assert_int_equal(place->counters.values[COUNTER_ADOPTED], adopted);
        assert_int_equal(place->server.connection_count, r == 0);
        assert_int_equal(place->server.second_fd_count, r == 0);
        if (r == 0)
            connection_end(only_connection(place), COUNTER_END_CUT);
        assert_int_equal(fds_open(), fds);
    }
}

/* Bytes that are no complete head, though the record says so. */
static void test_wrong_heads(void **state)
{
    struct place *place = &world.places[0];
    struct record records[] = {
        reply_record(true), reply_record(true), reply_record(true), reply_record(true)};
    size_t fds = fds_open();

    (void)state;
    records[0].head_length--;
    records[1].received.length--;
    records[2].received = SPAN("GET /text HTTP/1.1\r\nHost:  \x01\r\n\r\n");
    records[3].kind = RECORD_BODY;
    records[3].received = SPAN("\r\nnonsense..........................");
    for (size_t i = 0; i < COUNT(records); i++) {
        int r = move_adopt(&place->server, &records[i], make_fd(SOCKET), make_fd(A_FILE), 0, false);
        if (r != -EINVAL)
            fail_msg("case %zu: %d", i, r);
        assert_int_equal(place->server.connection_count, 0);
        assert_int_equal(place->counters.values[COUNTER_END_FAILED], i + 1);
        assert_int_equal(fds_open(), fds);
    }
}

/* A head that the present limits would refuse was accepted before: it is answered. */
static void test_narrower_limits(void **state)
{
    int client = connect_client(7, true);

    (void)state;
    world.places[1].server.head_limits.size = 20;
    send_text(client, "GET /text HTTP/1.1\r\n" HOST "\r\n");
    move_any();
    while (only_connection(&world.places[1])->state == CONNECTION_REPLY)
        (void)receive_text(client);
    assert_int_equal(world.places[1].counters.values[COUNTER_ADOPTED], 1);
    assert_int_equal(world.places[1].server.connection_count, 1);
    fd_close(client);
}

/* And the other way round: what was refused stays refused. */
static void test_wider_limits(void **state)
{
    char bytes[10000];
    int client = connect_client(7, true);

    (void)state;
    world.places[0].server.head_limits.size = 20;
    send_text(client, "GET /text HTTP/1.1\r\n" HOST "\r\n");
    move_any();
    assert_int_equal(move(&world.places[1], &world.places[0]), 0);
    while (read(client, bytes, sizeof bytes) > 0)
        turn();
    assert_int_equal(world.places[0].counters.values[COUNTER_ANSWERS_4XX], 1);
    assert_int_equal(only_connection(&world.places[0])->state, CONNECTION_LINGER);
    fd_close(client);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(test_moves_are_invisible),
        IN_WORLD(test_who_it_is),
        IN_WORLD(test_drain),
        IN_WORLD(test_time_runs_on),
        IN_WORLD(test_shorter_timeout_after_a_move),
        IN_WORLD(test_progress_before_a_move_counts),
        IN_WORLD(test_duration_counts_from_the_head),
        IN_WORLD(test_lingers_behind_an_answer_that_moved),
        IN_WORLD(test_wrong_fds),
        IN_WORLD(test_wrong_heads),
        IN_WORLD(test_narrower_limits),
        IN_WORLD(test_wider_limits),
    };

    signal(SIGPIPE, SIG_IGN);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
