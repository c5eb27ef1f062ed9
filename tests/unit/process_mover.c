#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "connection/connection.h"
#include "connection/move.h"
#include "fds.h"
#include "process/mover.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define CLIENTS_MAX 700

/*
 * Workers without processes: each has a loop of its own, with a server and its side of one inbox.
 * The first one retires, the others adopt.
 */
struct place {
    struct ev_loop *loop;
    struct server server;
    struct counters counters;
    struct mover mover;
    bool no_room, ahead, gone; /* what it is told when it asks; "gone": the listener */
    unsigned emptied;
};

static struct {
    struct inbox inbox;
    struct place places[3];
    int file;
    int clients[CLIENTS_MAX]; /* their ends */
    size_t client_count;
} world;

static const struct config config = {
    .header_timeout_usec = USEC_INFINITY,
    .body_timeout_usec = USEC_INFINITY,
    .idle_timeout_usec = USEC_INFINITY,
    .send_timeout_usec = USEC_INFINITY,
    .linger_timeout_usec = USEC_INFINITY,
    .drain_timeout_usec = USEC_INFINITY,
    .head_size = 16384,
    .max_body_size = 100,
    .max_fields = 10,
};

#define HUGE_SIZE (RECORD_MESSAGE_MAX + (2u << 20))

static void answer_by_path(
    struct handler *handler, const struct request *request, struct answer *answer)
{
    (void)handler;
    answer->status = 200;
    if (span_equal(request->path, SPAN("/file"))) {
        answer_file(answer, fcntl(world.file, F_DUPFD_CLOEXEC, 0));
        answer_file_part(answer, 0, 1 << 20);
    } else if (span_equal(request->path, SPAN("/huge"))) {
        char *huge = calloc(1, HUGE_SIZE);
        assert_non_null(huge);
        answer_bytes(answer, (struct span){huge, HUGE_SIZE});
        free(huge);
    } else {
        answer_bytes(answer, SPAN("text\n"));
    }
}

static struct handler *on_route(void *owner, unsigned listener, const struct request *request)
{
    static struct handler handler = {.answer = answer_by_path};

    (void)owner;
    (void)listener;
    (void)request;
    return &handler;
}

static void on_describe(void *owner, unsigned listener, struct span *ret_name, bool *ret_admin)
{
    (void)owner;
    *ret_name = listener == 1 ? SPAN("one") : SPAN("zero");
    *ret_admin = false;
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

static const struct server_calls server_calls = {
    .route = on_route,
    .describe = on_describe,
    .ended = on_ended,
    .listener = on_listener,
};

static unsigned on_find_listener(void *owner, struct span name, bool admin, bool *ret_drain)
{
    struct place *place = owner;

    assert_false(admin);
    *ret_drain = place->gone;
    return span_equal(name, SPAN("one"));
}

static bool on_has_room(void *owner)
{
    struct place *place = owner;

    return !place->no_room;
}

static bool on_is_ahead(void *owner)
{
    struct place *place = owner;

    return place->ahead;
}

static void on_emptied(void *owner)
{
    struct place *place = owner;

    place->emptied++;
}

static const struct mover_calls mover_calls = {
    on_find_listener, on_has_room, on_is_ahead, on_emptied};

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    world.file = memfd_create("file", MFD_CLOEXEC);
    assert_int_equal(ftruncate(world.file, 1 << 20), 0);
    assert_int_equal(inbox_open(&world.inbox), 0);
    for (size_t i = 0; i < COUNT(world.places); i++) {
        struct place *place = &world.places[i];
        place->loop = ev_loop_new(EVBACKEND_EPOLL);
        server_init(
            &place->server, place->loop, &config, &place->counters, NULL, &server_calls, place);
        mover_init(&place->mover, place->loop, &place->server, &world.inbox, &mover_calls, place);
    }
    return 0;
}

static void end_clients(void)
{
    while (world.client_count > 0)
        fd_close(world.clients[--world.client_count]);
}

static int tear_down(void **state)
{
    (void)state;
    end_clients();
    for (size_t i = 0; i < COUNT(world.places); i++) {
        mover_destroy(&world.places[i].mover);
        server_destroy(&world.places[i].server);
        ev_loop_destroy(world.places[i].loop);
    }
    inbox_close(&world.inbox);
    fd_close(world.file);
    return 0;
}

/* What each can do now is done. */
static void turn(void)
{
    for (size_t i = 0; i < COUNT(world.places); i++) {
        struct place *place = &world.places[i];
        for (int n = 0; n < 3; n++)
            ev_run(place->loop, EVRUN_NOWAIT);
    }
}

static void connect_clients(size_t count)
{
    struct address peer = {.local = {.sun_family = AF_UNIX}, .length = sizeof(sa_family_t)};
    int pair[2];

    for (size_t i = 0; i < count; i++) {
        assert_int_equal(
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
        world.clients[world.client_count++] = pair[0];
        server_accept(&world.places[0].server, pair[1], &peer, (unsigned)i % 2);
    }
}

static void ask(int client, const char *path)
{
    char request[128];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);

    assert_int_equal(write(client, request, (size_t)length), length);
}

/* The answer to "/" is there, and how it says that it was the last one. */
static bool answered(int client, bool last)
{
    char text[1000];
    ssize_t n = read(client, text, sizeof text - 1);

    if (n < 0)
        return false;
    text[n] = '\0';
    assert_non_null(strstr(text, "\r\n\r\ntext\n"));
    return (strstr(text, "Connection: close") != NULL) == last;
}

static void assert_all_answer(void)
{
    for (size_t i = 0; i < world.client_count; i++)
        ask(world.clients[i], "/");
    turn();
    for (size_t i = 0; i < world.client_count; i++) {
        bool is_answered = answered(world.clients[i], false);
        for (int n = 0; n < 20 && !is_answered; n++) { /* epoll tells of so many at once */
            turn();
            is_answered = answered(world.clients[i], false);
        }
        if (!is_answered)
            fail_msg("client %zu has no answer", i);
    }
}

static uint64_t counted(size_t place, enum counter counter)
{
    return world.places[place].counters.values[counter];
}

static size_t connections(size_t place)
{
    return world.places[place].server.connection_count;
}

static void move_all(size_t to)
{
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    mover_adopt(&world.places[to].mover);
    for (int i = 0; i < 200 && (connections(0) > 0 || !inbox_is_empty(world.inbox.read)); i++)
        turn();
}

static void shrink_inbox(void)
{
    int small = 1;

    assert_int_equal(setsockopt(world.inbox.write, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
}

/* With so many messages of no connection. */
static void fill_inbox(unsigned count)
{
    CLEANUP_BUFFER struct buffer message = {0};
    struct inbox_fds fds = {.count = 0};

    assert_int_equal(record_begin(&message), 0);
    while (count-- > 0)
        assert_int_equal(inbox_send(world.inbox.write, buffer_span(&message), &fds), INBOX_DONE);
}

/* ---- sending and adopting ---- */

static void test_every_connection_moves(void **state)
{
    (void)state;
    connect_clients(600);
    assert_all_answer();
    size_t fds = fds_open();
    move_all(1);
    assert_int_equal(connections(0), 0);
    assert_int_equal(connections(1), 600);
    assert_int_equal(counted(0, COUNTER_MOVED_IDLE), 600);
    assert_int_equal(counted(0, COUNTER_END_MOVED), 600);
    assert_int_equal(counted(1, COUNTER_ADOPTED), 600);
    assert_int_equal(counted(0, COUNTER_MOVE_FULL), 0);
    assert_int_equal(world.places[1].emptied > 0, 1);
    assert_int_equal(fds_open(), fds);
    assert_all_answer();
    for (size_t i = 0; i < 2; i++) { /* each is on the listener it came from */
        struct connection *connection =
            CONTAINER_OF(world.places[1].server.connections.next, struct connection, link);
        assert_int_equal(connection->listener, i);
        connection_end(connection, COUNTER_END_CUT);
    }
}

/* Those that are few are spread, too. */
static void test_messages_are_shared(void **state)
{
    (void)state;
    connect_clients(64);
    turn();
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    assert_int_equal(connections(0), 0);
    for (size_t i = 1; i < 3; i++)
        mover_adopt(&world.places[i].mover);
    for (int i = 0; i < 8; i++)
        for (size_t n = 1; n < 3; n++)
            ev_run(world.places[n].loop, EVRUN_NOWAIT);
    assert_int_equal(connections(1) + connections(2), 64);
    assert_in_range(connections(1), 24, 40);
    assert_all_answer();
}

/* A file takes a place among the fds of a message as well; those that are parked are largest. */
static void test_files_move(void **state)
{
    (void)state;
    connect_clients(600);
    for (size_t i = 0; i < world.client_count; i++)
        ask(world.clients[i], "/file");
    for (int i = 0; i < 20; i++)
        turn();
    assert_int_equal(world.places[0].server.second_fd_count, 600);
    size_t fds = fds_open();
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_park(&world.places[0].mover);
    mover_adopt_all(&world.places[1].mover, false);
    assert_int_equal(connections(0), 0);
    assert_int_equal(connections(1), 600);
    assert_int_equal(counted(0, COUNTER_MOVED_REPLY), 600);
    assert_int_equal(world.places[1].server.second_fd_count, 600);
    assert_int_equal(world.places[0].server.second_fd_count, 0);
    assert_int_equal(fds_open(), fds);
}

static void test_full_inbox(void **state)
{
    (void)state;
    shrink_inbox();
    connect_clients(600);
    turn();
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    turn();
    assert_in_range(connections(0), 1, 599);
    assert_int_equal(counted(0, COUNTER_MOVE_FULL), 1); /* waiting is not trying */
    /* Who does not fit is served as if nothing was. */
    int last = world.clients[world.client_count - 1];
    ask(last, "/");
    turn();
    assert_true(answered(last, false));
    assert_int_equal(counted(0, COUNTER_MOVE_FULL), 1);
    assert_int_equal(connections(1), 0);
    move_all(1);
    assert_int_equal(connections(0), 0);
    assert_int_equal(connections(1), 600);
    assert_true(counted(0, COUNTER_MOVE_FULL) > 1);
    assert_all_answer();
}

/* What does not fit a message is sent where it is, until the rest of it fits. */
static void test_too_large_to_move(void **state)
{
    static char bytes[1 << 16];
    size_t received = 0;
    ssize_t n;

    (void)state;
    connect_clients(3);
    ask(world.clients[1], "/huge");
    turn();
    move_all(1);
    assert_int_equal(connections(0), 1);
    assert_int_equal(connections(1), 2);
    assert_int_equal(counted(0, COUNTER_MOVE_UNFIT), 1); /* however often it is tried */
    while (connections(0) == 1) {
        n = read(world.clients[1], bytes, sizeof bytes);
        received += n > 0 ? (size_t)n : 0;
        turn();
    }
    assert_in_range(received, 10000, HUGE_SIZE - 10000);
    assert_int_equal(connections(1), 3);
    assert_int_equal(counted(0, COUNTER_MOVE_UNFIT), 1);
    for (turn(); (n = read(world.clients[1], bytes, sizeof bytes)) > 0; turn())
        received += (size_t)n;
    assert_in_range(received, HUGE_SIZE + 20, HUGE_SIZE + 1000);
    assert_all_answer();
}

static void test_no_room(void **state)
{
    (void)state;
    connect_clients(40);
    turn();
    world.places[1].no_room = true;
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    mover_adopt(&world.places[1].mover);
    turn();
    turn();
    assert_int_equal(connections(0) + connections(1), 0); /* they wait, as in a queue */
    mover_adopt_all(&world.places[1].mover, false);
    assert_int_equal(connections(1), 0);
    world.places[1].no_room = false;
    turn();
    assert_int_equal(connections(1), 0); /* until it is told to go on */
    mover_adopt(&world.places[1].mover);
    for (int i = 0; i < 5; i++)
        turn();
    assert_int_equal(connections(1), 40);
    assert_all_answer();
}

static void test_adopt_all(void **state)
{
    (void)state;
    connect_clients(40);
    turn();
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    world.places[1].no_room = world.places[1].ahead = true;
    mover_adopt_all(&world.places[1].mover, true);
    assert_int_equal(connections(1), 40);
    assert_int_equal(world.places[1].emptied, 1);
    assert_all_answer();
}

/* What the loop does in that time. */
static void on_alarm(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)timer;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

static void run_for(struct ev_loop *loop, double seconds)
{
    ev_timer alarm;

    ev_timer_init(&alarm, on_alarm, seconds, 0);
    ev_timer_start(loop, &alarm);
    ev_run(loop, 0);
}

/* A message is left to others for a moment, and only for a moment. */
static void test_courtesy(void **state)
{
    (void)state;
    connect_clients(8);
    turn();
    world.places[1].ahead = true;
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    mover_adopt(&world.places[1].mover);
    ev_run(world.places[1].loop, EVRUN_NOWAIT);
    assert_int_equal(connections(1), 0);
    for (int i = 0; i < 10 && connections(1) == 0; i++)
        ev_run(world.places[1].loop, EVRUN_ONCE); /* until the moment is over */
    assert_int_equal(connections(1), 8);
}

/* Nor does it come to an end in one that has begun to retire. */
static void test_courtesy_of_one_that_retires(void **state)
{
    struct place *place = &world.places[1];

    (void)state;
    connect_clients(8);
    turn();
    place->ahead = true;
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    mover_adopt(&place->mover);
    ev_run(place->loop, EVRUN_NOWAIT);
    mover_pause(&place->mover);
    run_for(place->loop, 0.01);
    assert_int_equal(connections(1), 0);
}

static void test_pause(void **state)
{
    (void)state;
    connect_clients(8);
    turn();
    mover_adopt(&world.places[1].mover);
    mover_pause(&world.places[1].mover);
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    turn();
    assert_int_equal(connections(1), 0);
    /* And the sending side: whoever comes now stays. */
    connect_clients(1);
    mover_pause(&world.places[0].mover);
    turn();
    assert_int_equal(connections(0), 1);
}

/* A retiring worker's doors are closed later than its mover begins; and requests end. */
static void test_late_comers_move(void **state)
{
    (void)state;
    mover_adopt(&world.places[1].mover);
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    connect_clients(3);
    ask(world.clients[2], "/");
    turn();
    turn();
    assert_int_equal(connections(0), 0);
    assert_int_equal(connections(1), 3);
    assert_true(answered(world.clients[2], false));
}

static void test_gone_listener(void **state)
{
    (void)state;
    world.places[1].gone = true;
    connect_clients(1);
    turn();
    move_all(1);
    ask(world.clients[0], "/");
    turn();
    assert_true(answered(world.clients[0], true));
}

/* Nobody can ever read it: connections end as politely as without an inbox. */
static void test_broken_inbox(void **state)
{
    (void)state;
    connect_clients(3);
    turn();
    world.inbox.read = fd_close(world.inbox.read);
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    turn();
    assert_int_equal(world.places[0].server.retirement, RETIRING_DRAIN);
    assert_int_equal(connections(0), 3);
    ask(world.clients[0], "/");
    turn();
    assert_true(answered(world.clients[0], true));
}

static void test_parking(void **state)
{
    char byte;

    (void)state;
    connect_clients(600);
    ask(world.clients[599], "/file");
    turn();
    shrink_inbox();
    fill_inbox(4);
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_park(&world.places[0].mover);
    turn();
    /* Who does not fit will find no room later either: idle ones end, answers go out. */
    assert_int_equal(connections(0), 1);
    size_t parked = counted(0, COUNTER_END_MOVED);
    assert_in_range(parked, 8, 598);
    assert_int_equal(counted(0, COUNTER_MOVE_UNFIT), 600 - parked);
    assert_int_equal(counted(0, COUNTER_END_STOPPED), 599 - parked);
    mover_adopt_all(&world.places[1].mover, false);
    assert_int_equal(connections(1), parked);
    for (size_t i = 0; i < 599; i++)
        if (read(world.clients[i], &byte, 1) < 0)
            parked--;
    assert_int_equal(parked, 0);
}

/*
 * A moved connection lives on, so the retired worker's epoll goes on telling of it (epoll(7), Q6),
 * under a number that another connection may have by now.
 */
static void test_events_of_moved_connections(void **state)
{
    struct ev_loop *loop = world.places[0].loop;

    (void)state;
    connect_clients(2);
    turn();
    server_retire(&world.places[0].server, RETIRING_MOVE);
    mover_send(&world.places[0].mover);
    mover_pause(&world.places[0].mover);
    connect_clients(2); /* with the numbers of those that went */
    turn();
    for (size_t i = 0; i < 2; i++)
        ask(world.clients[i], "/"); /* nobody reads them yet */
    turn();
    turn();
    assert_int_equal(connections(0), 2);
    unsigned before = ev_iteration(loop);
    run_for(loop, 0.02);
    assert_in_range(ev_iteration(loop) - before, 1, 20); /* it waits, though they are readable */
    for (size_t i = 2; i < 4; i++)
        ask(world.clients[i], "/");
    turn();
    for (size_t i = 2; i < 4; i++)
        assert_true(answered(world.clients[i], false));
    mover_adopt(&world.places[1].mover);
    turn();
    for (size_t i = 0; i < 2; i++)
        assert_true(answered(world.clients[i], false));
    assert_all_answer();
}

/* ---- messages that are wrong ---- */

static struct record idle_record(void)
{
    struct record record = {
        .kind = RECORD_IDLE,
        .peer = {.sin6_family = AF_UNIX},
        .deadline_usec = -1,
        .listener = SPAN("one"),
    };

    return record;
}

/* So many good records, then what the case says. */
struct wrong {
    const char *name;
    size_t records;       /* in the message */
    uint16_t count;       /* as its head says */
    size_t fds;           /* sockets */
    size_t cut;           /* bytes from the end */
    size_t spoilt_fd;     /* this one is no socket, from 1; 0: none */
    size_t spoilt_record; /* this one cannot be read, from 1; 0: none */
    uint16_t version;     /* if not 0 */
    size_t adopted;
    uint64_t refused;
};

static void send_wrong(const struct wrong *wrong)
{
    CLEANUP_BUFFER struct buffer message = {0};
    struct inbox_fds fds = {.count = 0};
    struct record record = idle_record();
    int pair[2];

    assert_int_equal(record_begin(&message), 0);
    for (size_t i = 0; i < wrong->records; i++) {
        size_t start = message.length;
        assert_int_equal(record_append(&message, &record), 0);
        if (i + 1 == wrong->spoilt_record)
            message.bytes[start + 4] = 77; /* its kind */
    }
    memcpy(message.bytes + 6, &wrong->count, sizeof wrong->count);
    if (wrong->version)
        memcpy(message.bytes + 4, &wrong->version, sizeof wrong->version);
    message.length -= wrong->cut;
    for (size_t i = 0; i < wrong->fds; i++) {
        assert_int_equal(
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
        world.clients[world.client_count++] = pair[0];
        if (i + 1 == wrong->spoilt_fd) {
            fd_close(pair[1]);
            pair[1] = open("/dev/null", O_RDWR | O_CLOEXEC);
        }
        fds.fds[fds.count++] = pair[1];
    }
    assert_int_equal(inbox_send(world.inbox.write, buffer_span(&message), &fds), INBOX_DONE);
    while (fds.count > 0)
        fd_close(fds.fds[--fds.count]);
}

static void test_wrong_messages(void **state)
{
    static const struct wrong cases[] = {
        {"none is wrong", 3, 3, 3, 0, 0, 0, 0, 3, 0},
        {"no record", 0, 0, 0, 0, 0, 0, 0, 0, 0},
        {"no record, but fds", 0, 0, 3, 0, 0, 0, 0, 0, 3},
        {"another version", 3, 3, 3, 0, 0, 0, 4711, 0, 3},
        {"fewer fds", 3, 3, 1, 0, 0, 0, 0, 1, 2},
        {"no fds", 3, 3, 0, 0, 0, 0, 0, 0, 3},
        {"more fds", 3, 3, 5, 0, 0, 0, 0, 3, 2},
        {"more records than said", 4, 3, 3, 0, 0, 0, 0, 3, 0},
        {"fewer records than said", 3, 5, 3, 0, 0, 0, 0, 3, 2},
        {"more than there can be", 3, 251, 3, 0, 0, 0, 0, 0, 3},
        {"cut in the last record", 3, 3, 3, 1, 0, 0, 0, 2, 1},
        {"cut in the head", 0, 0, 3, 1, 0, 0, 0, 0, 3},
        {"the first record", 3, 3, 3, 0, 0, 1, 0, 2, 1},
        {"the second record", 3, 3, 3, 0, 0, 2, 0, 2, 1},
        {"the last fd", 3, 3, 3, 0, 3, 0, 0, 2, 1},
    };
    struct place *place = &world.places[1];

    (void)state;
    mover_adopt(&place->mover);
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t fds = fds_open();
        uint64_t refused = counted(1, COUNTER_MOVE_REFUSED);
        send_wrong(&cases[i]);
        turn();
        if (connections(1) != cases[i].adopted)
            fail_msg("%s: %zu are adopted", cases[i].name, connections(1));
        if (counted(1, COUNTER_MOVE_REFUSED) - refused != cases[i].refused)
            fail_msg("%s: %d are refused", cases[i].name,
                (int)(counted(1, COUNTER_MOVE_REFUSED) - refused));
        end_clients();
        turn();
        assert_int_equal(connections(1), 0);
        if (fds_open() != fds)
            fail_msg("%s: fds are left open", cases[i].name);
    }
    /* The same without a message at all. */
    assert_int_equal(send(world.inbox.write, "nonsense", 8, 0), 8);
    uint64_t refused = counted(1, COUNTER_MOVE_REFUSED);
    turn();
    assert_int_equal(counted(1, COUNTER_MOVE_REFUSED), refused + 1);
    connect_clients(10);
    turn();
    move_all(1);
    assert_all_answer();
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(test_every_connection_moves),
        IN_WORLD(test_messages_are_shared),
        IN_WORLD(test_files_move),
        IN_WORLD(test_full_inbox),
        IN_WORLD(test_too_large_to_move),
        IN_WORLD(test_no_room),
        IN_WORLD(test_adopt_all),
        IN_WORLD(test_courtesy),
        IN_WORLD(test_courtesy_of_one_that_retires),
        IN_WORLD(test_pause),
        IN_WORLD(test_late_comers_move),
        IN_WORLD(test_gone_listener),
        IN_WORLD(test_broken_inbox),
        IN_WORLD(test_parking),
        IN_WORLD(test_events_of_moved_connections),
        IN_WORLD(test_wrong_messages),
    };

    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max; /* as the server does */
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    log_set_level(LOG_EMERG);
    (void)signal(SIGPIPE, SIG_IGN);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
