#include "connection/move_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "chunks.h"
#include "connection/move.h"
#include "proxying.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Whole conversations of a client and its backends, moved between two servers at every point. */

enum who { NOBODY, CLIENT, BACKEND, CLIENT_ENDS, BACKEND_ENDS, BACKEND_CLOSES, GRANT };

struct act {
    enum who who;
    const char *text;
    unsigned times;  /* that it is said; more than 0: not byte for byte */
    unsigned number; /* BACKEND: which one it is, counted from 1; 0: the only one */
};

struct scene {
    const char *name;
    unsigned listener;
    enum manner manner;
    bool chunked_up, chunked_down; /* chunks that are made anew are cut where they happen to be */
    struct act acts[12];
    const char *client, *backend; /* what each has got in the end begins with, and ends with */
    const char *client_end, *backend_end;
};

#define HOST "Host: x\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST "\r\n"
#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define UPGRADE "GET / HTTP/1.1\r\n" HOST "Connection: upgrade\r\nUpgrade: x\r\n\r\n"
#define SWITCHING "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define SAYS(who, text)                                                                            \
    {                                                                                              \
        who, text, .times = 0                                                                      \
    }

static const struct scene scenes[] = {
    {"a request", PLAIN, GRANTS, .acts = {SAYS(CLIENT, GET), SAYS(BACKEND, OK)}, .client = OK,
        .backend = "GET /\r\n\r\n"},
    {"one after the other", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, GET), SAYS(BACKEND, OK), SAYS(CLIENT, GET),
            {BACKEND, OK, .number = 2}, SAYS(CLIENT, "GET /local HTTP/1.1\r\n" HOST "\r\n")},
        .client = OK OK, .client_end = "local", .backend = "GET /\r\n\r\nGET /\r\n\r\n"},
    {"pipelined ones", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, GET GET "GET /local HTTP/1.1\r\n" HOST "\r\nGET /last"),
            SAYS(BACKEND, OK), {BACKEND, OK, .number = 2},
            SAYS(CLIENT, " HTTP/1.1\r\n" HOST "\r\n"), {BACKEND, OK, .number = 3}},
        .client = OK OK, .client_end = OK, .backend_end = "GET /last\r\n\r\n"},
    {"an interim answer", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, "POST / HTTP/1.1\r\n" HOST
                              "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"),
            SAYS(BACKEND, "HTTP/1.1 100 Continue\r\n\r\n"), SAYS(CLIENT, "hello"),
            SAYS(BACKEND, OK)},
        .client = "HTTP/1.1 100 Continue\r\n\r\n" OK, .backend = "POST /\r\n\r\nhello"},
    {"a chunked answer", PLAIN, GRANTS, .chunked_down = true,
        .acts = {SAYS(CLIENT, GET),
            SAYS(BACKEND, "HTTP/1.1 200 OK\r\n" CHUNKED "Trailer: A\r\n\r\n"),
            SAYS(BACKEND, "5\r\nhello\r\n0006;x=y\r\n world\r\n0\r\nA: b\r\n\r\n")},
        .client_end = "\r\n\r\nhello world|A: b\r\n"},
    {"a chunked answer to HTTP/1.0", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
            SAYS(BACKEND,
                "HTTP/1.1 200 OK\r\n" CHUNKED "\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")},
        .client_end = "\r\n\r\nhello world"},
    {"an answer until the end", PLAIN, GRANTS, .chunked_down = true,
        .acts = {SAYS(CLIENT, GET), SAYS(BACKEND, "HTTP/1.1 200 OK\r\n\r\nhello world"),
            {.who = BACKEND_CLOSES}},
        .client_end = "\r\n\r\nhello world"},
    {"a long answer", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, GET),
            SAYS(BACKEND, "HTTP/1.1 200 OK\r\nContent-Length: 14002\r\n\r\n"),
            {BACKEND, LONG, .times = 200}, SAYS(BACKEND, "ok"), SAYS(CLIENT, GET),
            {BACKEND, OK, .number = 2}},
        .client_end = LONG "ok" OK},
    {"a body by length", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\nhello world"),
            SAYS(BACKEND, OK)},
        .client = OK, .backend = "PUT /\r\n\r\nhello world"},
    {"a chunked body", PLAIN, GRANTS, .chunked_up = true,
        .acts = {SAYS(CLIENT, "PUT / HTTP/1.1\r\n" HOST CHUNKED
                              "\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\n\r\n"),
            SAYS(BACKEND, OK)},
        .client = OK, .backend = "PUT /\r\n\r\nhello world|A: b\r\n"},
    {"a long body", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 14002\r\n\r\n"),
            {CLIENT, LONG, .times = 200}, SAYS(CLIENT, "ok" GET), SAYS(BACKEND, OK),
            {BACKEND, OK, .number = 2}},
        .client = OK OK, .backend_end = LONG "okGET /\r\n\r\n"},
    {"a long chunked body", PLAIN, GRANTS, .chunked_up = true,
        .acts = {SAYS(CLIENT, "PUT / HTTP/1.1\r\n" HOST CHUNKED "\r\n36b0\r\n"),
            {CLIENT, LONG, .times = 200}, SAYS(CLIENT, "\r\n0\r\n\r\n"), SAYS(BACKEND, OK)},
        .client = OK, .backend_end = LONG},
    {"both ways at once", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 7070\r\n\r\n"),
            SAYS(BACKEND, "HTTP/1.1 200 OK\r\nContent-Length: 7070\r\n\r\n"),
            {CLIENT, LONG, .times = 100}, {BACKEND, LONG, .times = 100}, SAYS(CLIENT, LONG),
            SAYS(BACKEND, LONG)},
        .client_end = LONG, .backend_end = LONG},
    {"an answer before the end of the body", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nhello"),
            SAYS(BACKEND, OK), SAYS(CLIENT, "more"), {.who = CLIENT_ENDS}},
        .client_end = "\r\nConnection: close\r\n\r\nok"},
    {"an answer broken off", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, GET),
            SAYS(BACKEND, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"),
            {.who = BACKEND_CLOSES}},
        .client_end = "hello"},
    {"a second attempt", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe"),
            SAYS(BACKEND, "HTTP/1.1 200 OK\r\nCont"), {.who = BACKEND_CLOSES}, SAYS(CLIENT, "llo"),
            {BACKEND, OK, .number = 2}},
        .client = OK, .backend = "PUT /\r\n\r\nhePUT /\r\n\r\nhello"},
    {"no answer", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, "POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi" GET),
            {.who = BACKEND_CLOSES}, {BACKEND, OK, .number = 2}},
        .client = "HTTP/1.1 502 Bad Gateway\r\n", .client_end = OK},
    {"one that waits", PLAIN, LETS_WAIT,
        .acts = {SAYS(CLIENT, GET), {.who = GRANT}, SAYS(BACKEND, OK), SAYS(CLIENT, GET),
            {.who = GRANT}, {BACKEND, OK, .number = 2}},
        .client = OK OK, .backend = "GET /\r\n\r\nGET /\r\n\r\n"},
    {"one that waits with its body", PLAIN, LETS_WAIT, .chunked_up = true,
        .acts = {SAYS(CLIENT, "PUT / HTTP/1.1\r\n" HOST CHUNKED "\r\n5\r\nhello\r\n6\r\n wo"),
            {.who = GRANT}, SAYS(CLIENT, "rld\r\n0\r\n\r\n"), SAYS(BACKEND, OK)},
        .client = OK, .backend = "PUT /\r\n\r\nhello world"},
    {"an upgrade", PLAIN, GRANTS,
        .acts = {SAYS(CLIENT, UPGRADE "early"), SAYS(BACKEND, SWITCHING "hello"),
            SAYS(CLIENT, "more"), SAYS(BACKEND, "and more"), {.who = CLIENT_ENDS},
            SAYS(BACKEND, "the last"), {.who = BACKEND_ENDS}},
        .client = SWITCHING "helloand morethe last", .backend = "GET /\r\n\r\nearlymore"},
    {"a tunnel", TUNNEL, GRANTS,
        .acts = {SAYS(CLIENT, "hello"), SAYS(BACKEND, "world"), {CLIENT, LONG, .times = 300},
            {BACKEND, LONG, .times = 300}, {.who = BACKEND_ENDS}, SAYS(CLIENT, "the last"),
            {.who = CLIENT_ENDS}},
        .client = "world" LONG, .backend = "hello" LONG, .client_end = LONG,
        .backend_end = LONG "the last"},
    {"a tunnel that waits", TUNNEL, LETS_WAIT,
        .acts = {SAYS(CLIENT, "hello"), {.who = GRANT}, SAYS(BACKEND, "world"),
            {.who = BACKEND_CLOSES}, {.who = CLIENT_ENDS}},
        .client = "world", .backend = "hello"},
    {"a PROXY header", PROXY_HEADER, GRANTS,
        .acts = {SAYS(CLIENT, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" GET), SAYS(BACKEND, OK)},
        .client = OK, .backend = "GET /\r\n\r\n"},
    {"a tunnel behind a PROXY header", PROXY_HEADER_AND_TUNNEL, GRANTS,
        .acts = {SAYS(CLIENT, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello"),
            SAYS(BACKEND, "world")},
        .client = "world", .backend = "hello"},
};

#define TEXT_MAX 200000

struct outcome {
    char client[TEXT_MAX], backend[TEXT_MAX];
    size_t client_length, backend_length;
    bool client_ended, backend_ended;
    unsigned lines; /* of the access log */
    struct counters counters;
    unsigned points;
};

/* One run of a scene. */
struct play {
    const struct scene *scene;
    bool lazy;   /* nobody reads while there is something to say */
    unsigned at; /* the point at which it is moved */
    int client;
    unsigned granted[PLACES]; /* of those backends that were read from */
    int backend;
    struct outcome *outcome;
};

#define EVERY_POINT UINT32_MAX
#define NO_POINT (UINT32_MAX - 1)

/* As through an inbox: by way of a message, with fds of other numbers. */
static int move(struct place *from, struct place *to)
{
    static struct record record, read;
    CLEANUP_BUFFER struct buffer message = {0};
    struct connection *connection = only_connection(from);
    struct record_fds fds;
    int second = move_second_fd(connection);
    unsigned listener = connection->listener;

    move_describe(connection, &record);
    assert_int_equal(record_begin(&message), 0);
    assert_int_equal(record_append(&message, &record), 0);
    assert_int_equal(record_fd_count(&record), second >= 0 ? 2 : 1);
    int fd = fcntl(connection->io.fd, F_DUPFD_CLOEXEC, 100);
    second = second >= 0 ? fcntl(second, F_DUPFD_CLOEXEC, 100) : -1;
    move_complete(connection);
    struct span rest = buffer_span(&message);
    assert_int_equal(record_open(&rest, &fds), 1);
    if (record_next(&rest, &read) < 0)
        fail_msg("a record of kind %d is refused", record.kind);
    return move_adopt(&to->server, &read, fd, second, listener, false);
}

static void move_any(void)
{
    bool first = places[0].server.connection_count > 0;

    if (first || places[1].server.connection_count > 0)
        assert_int_equal(move(&places[!first], &places[first]), 0);
}

static void read_some(int fd, char *text, size_t *length, bool *ret_ended)
{
    ssize_t n = read(fd, text + *length, 1500);

    assert_true(*length + 3000 < TEXT_MAX);
    *length += n > 0 ? (size_t)n : 0;
    if (n == 0)
        *ret_ended = true;
}

/* The backend that was granted last; what the former one has got comes first. */
static void find_backend(struct play *play)
{
    struct outcome *outcome = play->outcome;

    for (size_t i = 0; i < PLACES; i++)
        if (places[i].fake.granted > play->granted[i]) {
            if (play->backend >= 0)
                read_some(play->backend, outcome->backend, &outcome->backend_length,
                    &outcome->backend_ended);
            play->granted[i] = places[i].fake.granted;
            play->backend = fake_fd(&places[i].fake);
            play->outcome->backend_ended = false;
        }
}

static void read_both(struct play *play)
{
    struct outcome *outcome = play->outcome;

    read_some(play->client, outcome->client, &outcome->client_length, &outcome->client_ended);
    if (play->backend >= 0)
        read_some(
            play->backend, outcome->backend, &outcome->backend_length, &outcome->backend_ended);
}

/* Where it may be moved, with bytes unread or not. */
static void point(struct play *play, bool reads)
{
    unsigned points = play->outcome->points++;

    if (points % 2 == 0)
        turn();
    find_backend(play);
    if (play->at == EVERY_POINT || play->at == points)
        move_any();
    turn();
    find_backend(play);
    if (reads)
        read_both(play);
}

/* Whoever answers a request is there as soon as the former answer was taken. */
static void await_backend(struct play *play, unsigned number)
{
    for (unsigned i = 0; i < 1000 && play->granted[0] + play->granted[1] < number; i++)
        point(play, true);
    assert_true(play->granted[0] + play->granted[1] >= number);
}

/* A backend that answers has read the request before. */
static void read_request(struct play *play)
{
    struct outcome *outcome = play->outcome;

    for (unsigned quiet = 0; quiet < 3; quiet++) {
        size_t before = outcome->backend_length;
        point(play, false);
        if (play->backend >= 0)
            read_some(
                play->backend, outcome->backend, &outcome->backend_length, &outcome->backend_ended);
        if (outcome->backend_length > before)
            quiet = 0;
    }
}

static void say_some(struct play *play, const struct act *act)
{
    size_t length = strlen(act->text), total = length * (act->times > 0 ? act->times : 1), at = 0;

    for (unsigned stuck = 0; at < total && stuck < 200; stuck++) {
        char piece[1000];
        size_t size = 0;
        while (size < (act->times > 0 ? sizeof piece : 1) && at + size < total) {
            piece[size] = act->text[(at + size) % length];
            size++;
        }
        int fd = act->who == CLIENT ? play->client : play->backend;
        ssize_t n = send(fd, piece, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            break;
        at += n > 0 ? (size_t)n : 0;
        stuck = n > 0 ? 0 : stuck;
        point(play, !play->lazy || n < 0);
    }
}

static void grant(void)
{
    struct fake *fake = places[0].fake.waits ? &places[0].fake : &places[1].fake;

    fake_grant(fake);
}

static void perform(struct play *play, const struct act *act)
{
    switch (act->who) {
    case BACKEND:
        await_backend(play, act->number);
        if (play->lazy)
            read_request(play);
        __attribute__((fallthrough));
    case CLIENT:
        say_some(play, act);
        return;
    case CLIENT_ENDS:
        (void)shutdown(play->client, SHUT_WR);
        break;
    case BACKEND_ENDS:
        (void)shutdown(play->backend, SHUT_WR);
        break;
    case BACKEND_CLOSES:
        read_both(play); /* else it is a reset */
        for (size_t i = 0; i < PLACES; i++)
            if (places[i].fake.granted > 0 && fake_fd(&places[i].fake) == play->backend)
                fake_close(&places[i].fake);
        play->backend = -1;
        break;
    default:
        grant();
    }
    point(play, !play->lazy);
}

/* What a chunked body comes to, whose chunks may be cut anywhere. */
static void unify(char *text, bool chunked)
{
    char *head = strstr(text, "\r\n\r\n");

    if (chunked && head)
        (void)chunks_take_off(head + 4);
    for (char *at = text; (at = strstr(at, "Date: "));) {
        const char *behind = strstr(at, "\r\n") + 2;
        memmove(at, behind, strlen(behind) + 1);
    }
}

static void run(const struct scene *scene, bool lazy, unsigned at, struct outcome *ret)
{
    struct play play = {.scene = scene, .lazy = lazy, .at = at, .backend = -1, .outcome = ret};

    *ret = (struct outcome){.points = 0};
    for (size_t i = 0; i < PLACES; i++) {
        places[i].fake.manner = scene->manner;
        places[i].fake.small = true;
    }
    play.client = connect_client(&places[0], scene->listener, true);
    point(&play, true);
    for (const struct act *act = scene->acts; act->who != NOBODY; act++)
        perform(&play, act);
    for (unsigned quiet = 0; quiet < 3; quiet++) {
        size_t before = ret->client_length + ret->backend_length;
        point(&play, true);
        if (ret->client_length + ret->backend_length > before)
            quiet = 0;
    }
    fd_close(play.client);
    turn();
    for (size_t i = 0; i < PLACES; i++) {
        counters_add(&ret->counters, &places[i].counters);
        ret->lines += log_lines(&places[i]);
    }
    unify(ret->client, scene->chunked_down);
    unify(ret->backend, scene->chunked_up);
}

static bool is_of_moving(enum counter counter)
{
    return counter == COUNTER_ADOPTED || counter == COUNTER_END_MOVED ||
           (counter >= COUNTER_MOVED_IDLE && counter <= COUNTER_MOVED_PROXY);
}

static void assert_same(const struct scene *scene, bool lazy, unsigned at,
    const struct outcome *moved, const struct outcome *unmoved)
{
    if (strcmp(moved->client, unmoved->client) != 0)
        fail_msg("%s%s, moved at %u: the client got:\n%s\n---- instead of:\n%s", scene->name,
            lazy ? ", lazy" : "", at, moved->client, unmoved->client);
    if (strcmp(moved->backend, unmoved->backend) != 0)
        fail_msg("%s%s, moved at %u: the backends got:\n%s\n---- instead of:\n%s", scene->name,
            lazy ? ", lazy" : "", at, moved->backend, unmoved->backend);
    if (moved->client_ended != unmoved->client_ended ||
        moved->backend_ended != unmoved->backend_ended || moved->lines != unmoved->lines)
        fail_msg("%s%s, moved at %u: it ended otherwise", scene->name, lazy ? ", lazy" : "", at);
    for (enum counter i = 0; i < COUNTER_MAX; i++)
        if (!is_of_moving(i) && moved->counters.values[i] != unmoved->counters.values[i])
            fail_msg("%s%s, moved at %u: counter %d is %d instead of %d", scene->name,
                lazy ? ", lazy" : "", at, i, (int)moved->counters.values[i],
                (int)unmoved->counters.values[i]);
}

static bool ends_with(const char *text, const char *end)
{
    return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static void assert_right(const struct scene *scene, const struct outcome *outcome)
{
    if (scene->client && strncmp(outcome->client, scene->client, strlen(scene->client)) != 0)
        fail_msg("%s: the client got: %s", scene->name, outcome->client);
    if (scene->client_end && !ends_with(outcome->client, scene->client_end))
        fail_msg("%s: the client got at last: %s", scene->name, outcome->client);
    if (scene->backend && strncmp(outcome->backend, scene->backend, strlen(scene->backend)) != 0)
        fail_msg("%s: the backends got: %s", scene->name, outcome->backend);
    if (scene->backend_end && !ends_with(outcome->backend, scene->backend_end))
        fail_msg("%s: the backends got at last: %s", scene->name, outcome->backend);
}

static void begin_anew(void)
{
    (void)proxying_tear_down(NULL);
    (void)proxying_set_up(NULL);
}

static void try_all_points(const struct scene *scene, bool lazy, struct counters *sums)
{
    static struct outcome unmoved, moved;

    begin_anew();
    run(scene, lazy, NO_POINT, &unmoved);
    assert_right(scene, &unmoved);
    assert_int_equal(unmoved.counters.values[COUNTER_ADOPTED], 0);
    for (unsigned at = 0; at < unmoved.points; at += lazy ? 3 : 1) {
        begin_anew();
        run(scene, lazy, at, &moved);
        assert_same(scene, lazy, at, &moved, &unmoved);
        counters_add(sums, &moved.counters);
    }
    begin_anew();
    run(scene, lazy, EVERY_POINT, &moved);
    assert_same(scene, lazy, EVERY_POINT, &moved, &unmoved);
    assert_in_range(place_count(&places[1], COUNTER_ADOPTED), 2, 1000000);
}

static void test_moves_are_invisible(void **state)
{
    static const enum counter states[] = {
        COUNTER_MOVED_WAITING, COUNTER_MOVED_EXCHANGE, COUNTER_MOVED_TUNNEL, COUNTER_MOVED_PROXY};
    struct counters sums = {{0}};

    (void)state;
    for (size_t i = 0; i < COUNT(scenes); i++) {
        try_all_points(&scenes[i], false, &sums);
        try_all_points(&scenes[i], true, &sums);
    }
    for (size_t i = 0; i < COUNT(states); i++)
        assert_in_range(sums.values[states[i]], 10, 1000000);
}

/* ---- what travels beside ---- */

static struct connection *to_second(void)
{
    assert_int_equal(move(&places[0], &places[1]), 0);
    return only_connection(&places[1]);
}

#define PUT "PUT / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe"

static void test_time_runs_on(void **state)
{
    (void)state;
    /* Of a backend that has to speak. */
    int client = connect_client(&places[0], PLAIN, false);
    say(client, GET);
    only_connection(&places[0])->exchange->backend->deadline.at -= 50;
    struct connection *connection = to_second();
    double left = deadline_left(&connection->exchange->backend->deadline);
    assert_true(left > 8 && left < 11);
    connection_end(connection, COUNTER_END_CUT);
    fd_close(client);
    /* Of a client that has to. */
    client = connect_client(&places[0], PLAIN, false);
    say(client, PUT);
    only_connection(&places[0])->deadline.at -= 50;
    connection = to_second();
    assert_true(deadline_left(&connection->exchange->backend->deadline) < 0);
    left = deadline_left(&connection->deadline);
    assert_true(left > 8 && left < 11);
    connection_end(connection, COUNTER_END_CUT);
    fd_close(client);
    /* Of a tunnel without traffic. */
    client = connect_client(&places[0], TUNNEL, false);
    only_connection(&places[0])->tunnel->backend->deadline.at -= 50;
    connection = to_second();
    left = deadline_left(&connection->tunnel->backend->deadline);
    assert_true(left > 8 && left < 11);
    connection_end(connection, COUNTER_END_CUT);
    fd_close(client);
    /* Of one that waits, whose patience is its own. */
    for (unsigned tunnel = 0; tunnel < 2; tunnel++) {
        struct deadline_list hold;
        deadline_list_init(&hold, loop, 60, NULL);
        places[0].fake.manner = places[1].fake.manner = LETS_WAIT;
        client = connect_client(&places[0], tunnel ? TUNNEL : PLAIN, false);
        say(client, GET);
        deadline_arm(&hold, &places[0].fake.waits->deadline);
        places[0].fake.waits->deadline.at -= 50;
        connection = to_second();
        assert_true(places[1].fake.patience > 8 && places[1].fake.patience < 11);
        connection_end(connection, COUNTER_END_CUT);
        deadline_list_deinit(&hold);
        fd_close(client);
    }
}

/* What the client has not taken of answers before this one goes before it, too. */
static void test_answers_before_it_move(void **state)
{
    static const char local[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlocal";

    (void)state;
    for (unsigned waits = 0; waits < 2; waits++) {
        places[0].fake.manner = places[1].fake.manner = waits ? LETS_WAIT : GRANTS;
        int client = connect_client(&places[0], PLAIN, true);
        size_t stuffed = sockets_stuff(only_connection(&places[0])->io.fd);
        say(client, "GET /local HTTP/1.1\r\n" HOST "\r\nGET /local HTTP/1.1\r\n" HOST "\r\n" GET);
        (void)to_second();
        assert_int_equal(move(&places[1], &places[0]), 0);
        if (waits)
            fake_grant(&places[0].fake);
        say(fake_fd(&places[0].fake), OK);
        sockets_skip(client, stuffed);
        const char *heard = hear_all(client);
        assert_memory_equal(heard, local, strlen(local));
        assert_memory_equal(heard + strlen(local), local, strlen(local));
        assert_string_equal(heard + 2 * strlen(local), OK);
        fd_close(client);
        turn();
    }
}

/* A backend that reads no more is not written to elsewhere either, but may still answer. */
static void test_broken_upload_moves(void **state)
{
    int client = connect_client(&places[0], PLAIN, false);

    (void)state;
    say(client, PUT);
    (void)hear(fake_fd(&places[0].fake));
    assert_int_equal(shutdown(fake_fd(&places[0].fake), SHUT_RD), 0);
    say(client, "l");
    assert_true(only_connection(&places[0])->exchange->broken);
    struct connection *connection = to_second();
    assert_true(connection->exchange->broken);
    assert_true(deadline_left(&connection->exchange->backend->deadline) > 0); /* it is waited for */
    say(client, "lo");
    assert_false(connection->exchange->upload.whole);
    say(fake_fd(&places[0].fake), OK);
    assert_non_null(strstr(hear(client), "\r\nConnection: close\r\n"));
    fd_close(client);
}

/* An end that came behind bytes that are not sent yet. */
static void test_end_of_a_tunnel_moves(void **state)
{
    static char last[20001];

    (void)state;
    memset(last, 'x', sizeof last - 1);
    for (unsigned backend = 0; backend < 2; backend++) {
        int pairs[2][2];
        sockets_pair(pairs[0], true);
        sockets_pair(pairs[1], true);
        int to = pairs[!backend][0], reader = pairs[!backend][1];
        size_t stuffed = sockets_stuff(to);
        struct record record = {
            .kind = RECORD_TUNNEL,
            .with_backend = true,
            .peer = {.sin6_family = AF_UNIX},
            .deadline_usec = -1,
            .backend = {.upstream = SPAN("shop"), .server = SPAN("server"), .deadline_usec = -1},
        };
        *(backend ? &record.unsent : &record.backend.unsent) = span_of(last);
        *(backend ? &record.backend.backend_ended : &record.backend.client_ended) = true;
        assert_int_equal(
            move_adopt(&places[0].server, &record, pairs[0][0], pairs[1][0], TUNNEL, false), 0);
        turn();
        sockets_skip(reader, stuffed);
        assert_string_equal(hear_all(reader), last);
        assert_true(is_closed(reader));
        assert_int_equal(places[0].server.connection_count, 1); /* the other side goes on */
        fd_close(pairs[0][1]);
        fd_close(pairs[1][1]);
        turn();
        assert_int_equal(places[0].server.connection_count, 0);
    }
}

/* Attempts that failed are counted, and a used connection stays one. */
static void test_attempts_run_on(void **state)
{
    int client = connect_client(&places[0], PLAIN, false);

    (void)state;
    places[0].fake.reused = true;
    say(client, GET);
    (void)hear(fake_fd(&places[0].fake));
    struct connection *connection = to_second();
    assert_true(connection->exchange->backend->reused);
    fake_close(&places[0].fake);
    turn();
    assert_int_equal(connection->exchange->attempts, 0); /* that was for nothing */
    (void)hear(fake_fd(&places[1].fake));
    fake_close(&places[1].fake);
    turn();
    assert_int_equal(connection->exchange->attempts, 1);
    assert_int_equal(move(&places[1], &places[0]), 0);
    connection = only_connection(&places[0]);
    assert_int_equal(connection->exchange->attempts, 1);
    places[0].fake.manner = LETS_WAIT;
    (void)hear(fake_fd(&places[1].fake));
    fake_close(&places[1].fake);
    turn();
    assert_int_equal(connection->exchange->attempts, 2);
    connection = to_second(); /* it waits */
    assert_int_equal(connection->exchange->attempts, 2);
    (void)hear(fake_fd(&places[1].fake));
    fake_close(&places[1].fake);
    turn();
    assert_non_null(strstr(hear(client), "HTTP/1.1 502 "));
    fd_close(client);
}

/* Its route is gone, or another's: who has a backend goes on with it, who has none does not. */
static void test_route_is_gone(void **state)
{
    (void)state;
    places[1].no_route = true;
    for (unsigned dies = 0; dies < 2; dies++) {
        int client = connect_client(&places[0], PLAIN, false);
        say(client, GET);
        (void)hear(fake_fd(&places[0].fake));
        (void)to_second();
        if (dies)
            fake_close(&places[0].fake);
        else
            say(fake_fd(&places[0].fake), OK);
        if (dies)
            assert_non_null(strstr(hear(client), "HTTP/1.1 502 "));
        else
            assert_string_equal(hear(client), OK);
        fd_close(client);
        turn();
    }
    places[0].fake.manner = LETS_WAIT;
    int client = connect_client(&places[0], PLAIN, false);
    say(client, PUT);
    (void)to_second();
    say(client, "llo");
    assert_non_null(strstr(hear(client), "HTTP/1.1 404 "));
    fd_close(client);
}

/* A listener that nobody has any more: the answer under way is the last. */
static void test_drain(void **state)
{
    static struct record record;
    int client = connect_client(&places[0], PLAIN, false);
    struct connection *connection;

    (void)state;
    say(client, GET);
    connection = only_connection(&places[0]);
    move_describe(connection, &record);
    int fd = fcntl(connection->io.fd, F_DUPFD_CLOEXEC, 0);
    int second = fcntl(move_second_fd(connection), F_DUPFD_CLOEXEC, 0);
    char head[200];
    memcpy(head, record.received.at, record.received.length);
    record.received.at = head;
    move_complete(connection);
    assert_int_equal(move_adopt(&places[1].server, &record, fd, second, PLAIN, true), 0);
    say(fake_fd(&places[0].fake), OK);
    assert_non_null(strstr(hear(client), "\r\nConnection: close\r\n"));
    assert_true(is_closed(client));
    fd_close(client);
}

/* ---- what is refused ---- */

static struct record exchange_record(void)
{
    struct record record = {
        .kind = RECORD_EXCHANGE,
        .with_backend = true,
        .peer = {.sin6_family = AF_UNIX},
        .received = SPAN(GET),
        .head_length = sizeof GET - 1,
        .body = sizeof GET - 1,
        .deadline_usec = -1,
        .backend = {.upstream = SPAN("shop"), .server = SPAN("server"), .deadline_usec = -1},
    };

    return record;
}

/* Whatever is refused takes its fds along. */
static void test_wrong_records(void **state)
{
    struct record records[] = {exchange_record(), exchange_record(), exchange_record(),
        exchange_record(), exchange_record()};
    struct place *place = &places[0];
    size_t fds = fds_open();

    (void)state;
    records[1].head_length--; /* no complete head */
    records[2].received = SPAN("nonsense\r\n\r\n...........................");
    records[3].with_backend = false; /* but one comes along */
    records[4].kind = RECORD_IDLE;
    for (size_t i = 0; i < COUNT(records); i++) {
        int client[2], backend[2];
        sockets_pair(client, false);
        sockets_pair(backend, false);
        int r = move_adopt(&place->server, &records[i], client[0], backend[0], PLAIN, false);
        if (r != (i == 0 ? 0 : -EINVAL))
            fail_msg("case %zu: %d", i, r);
        assert_int_equal(place->server.connection_count, i == 0);
        if (i == 0)
            connection_end(only_connection(place), COUNTER_END_CUT);
        fd_close(client[1]);
        fd_close(backend[1]);
        assert_int_equal(fds_open(), fds);
    }
    /* The backend's is no connection. */
    int pair[2];
    sockets_pair(pair, false);
    assert_int_equal(move_adopt(&place->server, &records[0], pair[0],
                         open("/dev/null", O_RDWR | O_CLOEXEC), PLAIN, false),
        -EINVAL);
    fd_close(pair[1]);
    sockets_pair(pair, false);
    assert_int_equal(move_adopt(&place->server, &records[0], pair[0], -1, PLAIN, false), -EINVAL);
    fd_close(pair[1]);
    assert_int_equal(fds_open(), fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROXYING(test_moves_are_invisible),
        PROXYING(test_time_runs_on),
        PROXYING(test_answers_before_it_move),
        PROXYING(test_broken_upload_moves),
        PROXYING(test_end_of_a_tunnel_moves),
        PROXYING(test_attempts_run_on),
        PROXYING(test_route_is_gone),
        PROXYING(test_drain),
        PROXYING(test_wrong_records),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
