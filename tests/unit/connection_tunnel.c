#include "connection/tunnel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxying.h"

static struct place *const place = &places[0];
static struct fake *const fake = &places[0].fake;

static uint64_t counted(enum counter counter)
{
    return place_count(place, counter);
}

/* ---- how it begins ---- */

static void test_both_ways(void **state)
{
    int client = connect_client(place, TUNNEL, false);

    (void)state;
    assert_int_equal(only_connection(place)->state, CONNECTION_TUNNEL);
    assert_int_equal(place->server.second_fd_count, 1);
    assert_false(fake->reusable);
    for (unsigned i = 0; i < 3; i++) {
        say(client, "hello");
        assert_string_equal(hear(fake_fd(fake)), "hello");
        say(fake_fd(fake), "world");
        assert_string_equal(hear(client), "world");
    }
    assert_true(flow_is_empty(&only_connection(place)->tunnel->to_client));
    assert_null(only_connection(place)->tunnel->to_client.bytes); /* nothing is held */
    assert_int_equal(counted(COUNTER_TUNNELS), 1);
    assert_int_equal(counted(COUNTER_BYTES_RECEIVED), 15);
    assert_int_equal(counted(COUNTER_BYTES_SENT), 15);
    fd_close(client);
    turn();
    assert_int_equal(place->server.connection_count, 1); /* the backend may have more to say */
    fake_close(fake);
    turn();
    assert_int_equal(counted(COUNTER_END_TUNNEL), 1);
    assert_int_equal(fake->how, BACKEND_CLOSED);
}

static void test_waits(void **state)
{
    int client = connect_client(place, PROXY_HEADER_AND_TUNNEL, false);

    (void)state;
    fake->manner = LETS_WAIT;
    assert_int_equal(fake->asked, 0); /* the header first */
    say(client, "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r");
    assert_int_equal(only_connection(place)->state, CONNECTION_PROXY);
    say(client, "\nhello");
    assert_int_equal(only_connection(place)->state, CONNECTION_TUNNEL);
    assert_null(only_connection(place)->reading);
    fake_grant(fake);
    assert_string_equal(hear(fake_fd(fake)), "hello");
    fd_close(client);

    client = connect_client(place, TUNNEL, false);
    say(client, "one piece");
    say(client, " and what follows it"); /* is read when somebody takes it */
    fake_grant(fake);
    assert_string_equal(hear(fake_fd(fake)), "one piece and what follows it");
    fd_close(client);
}

static void test_client_leaves_while_it_waits(void **state)
{
    (void)state;
    fake->manner = LETS_WAIT;
    int client = connect_client(place, TUNNEL, false);
    assert_non_null(fake->waits);
    fd_close(client);
    turn();
    assert_int_equal(fake->cancelled, 1);
    assert_int_equal(counted(COUNTER_END_CLIENT), 1);
    assert_int_equal(place->server.connection_count, 0);
}

static void test_refused(void **state)
{
    (void)state;
    for (unsigned later = 0; later < 2; later++) {
        fake->manner = later ? LETS_WAIT : REFUSES;
        int client = connect_client(place, TUNNEL, false);
        if (later) {
            say(client, "hello");
            fake_refuse(fake, 503);
        }
        assert_int_equal(place->server.connection_count, 0);
        assert_int_equal(counted(COUNTER_END_FAILED), later + 1);
        assert_int_equal(place->failed, later + 1);
        assert_string_equal(place->why, later ? "refused later" : "refused at once");
        fd_close(client);
    }
}

/* SendProxy=: the header goes before all that the client says. */
static void test_header_for_the_backend(void **state)
{
    (void)state;
    fake->gateway.proxy_version = 1;
    for (unsigned waits = 0; waits < 2; waits++) {
        fake->manner = waits ? LETS_WAIT : GRANTS;
        int client = connect_over_tcp(place, TUNNEL);
        if (waits) {
            say(client, "hello");
            fake_grant(fake);
        }
        const char *heard = hear(fake_fd(fake));
        assert_memory_equal(heard, "PROXY TCP4 127.0.0.1 127.0.0.1 ", 31);
        assert_string_equal(strchr(heard, '\n') + 1, waits ? "hello" : "");
        say(client, "!");
        assert_string_equal(hear(fake_fd(fake)), "!");
        fd_close(client);
        fake_close(fake);
        turn();
    }
}

/* ---- how it ends ---- */

/* Each side's end is passed on as such, and what the other still says is passed on, too. */
static void test_half_closed(void **state)
{
    (void)state;
    for (unsigned backend_first = 0; backend_first < 2; backend_first++) {
        int client = connect_client(place, TUNNEL, false);
        int first = backend_first ? fake_fd(fake) : client;
        int second = backend_first ? client : fake_fd(fake);
        sockets_say(first, "the last");
        assert_int_equal(shutdown(first, SHUT_WR), 0);
        assert_string_equal(hear(second), "the last");
        assert_true(is_closed(second));
        for (unsigned i = 0; i < 3; i++) {
            say(second, "more");
            assert_string_equal(hear(first), "more");
        }
        assert_int_equal(counted(COUNTER_END_TUNNEL), backend_first);
        assert_int_equal(shutdown(second, SHUT_WR), 0);
        assert_true(is_closed(first));
        assert_int_equal(counted(COUNTER_END_TUNNEL), backend_first + 1);
        assert_int_equal(place->server.connection_count, 0);
        fd_close(client);
    }
}

/* The end comes behind the last byte, however slowly that is taken. */
static void test_end_waits_for_what_is_unsent(void **state)
{
    static char bytes[200000], arrived[200000];

    (void)state;
    memset(bytes, 'x', sizeof bytes);
    for (unsigned backend_first = 0; backend_first < 2; backend_first++) {
        fake->small = true;
        int client = connect_client(place, TUNNEL, true);
        int from = backend_first ? fake_fd(fake) : client;
        int to = backend_first ? client : fake_fd(fake);
        size_t sent = 0, used = 0;
        for (bool ended = false; used < sizeof bytes; turn()) {
            ssize_t n = ended ? 0 : write(from, bytes + sent, sizeof bytes - sent);
            sent += n > 0 ? (size_t)n : 0;
            if (sent == sizeof bytes && !ended) {
                ended = true;
                assert_int_equal(shutdown(from, SHUT_WR), 0);
            }
            n = read(to, arrived + used, 5000);
            assert_true(n != 0);
            used += n > 0 ? (size_t)n : 0;
        }
        assert_true(is_closed(to));
        assert_memory_equal(arrived, bytes, sizeof bytes);
        fd_close(client);
        fake_close(fake);
        turn();
        assert_int_equal(counted(COUNTER_END_TUNNEL), backend_first + 1);
    }
}

static void reset(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    fd_close(fd);
}

/* Neither is mistaken for an end. */
static void test_resets(void **state)
{
    char byte;
    int client = connect_over_tcp(place, TUNNEL);

    (void)state;
    turn();
    sockets_say(client, "unread");
    turn();
    fake_close(fake); /* unix(7): with bytes unread that is a reset */
    turn();
    assert_int_equal(read(client, &byte, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    fd_close(client);
    assert_int_equal(counted(COUNTER_END_TUNNEL), 1);

    client = connect_over_tcp(place, TUNNEL);
    turn();
    reset(client);
    turn();
    assert_int_equal(counted(COUNTER_END_TUNNEL), 2);
    assert_true(is_closed(fake_fd(fake)));
}

/* One side cannot be written to any more. */
static void test_nobody_reads(void **state)
{
    (void)state;
    for (unsigned backend = 0; backend < 2; backend++) {
        int client = connect_client(place, TUNNEL, false);
        assert_int_equal(shutdown(backend ? fake_fd(fake) : client, SHUT_RD), 0);
        say(backend ? client : fake_fd(fake), "hello");
        assert_int_equal(counted(COUNTER_END_TUNNEL), backend + 1);
        assert_int_equal(place->server.connection_count, 0);
        fd_close(client);
    }
}

static void test_cut(void **state)
{
    (void)state;
    for (unsigned waits = 0; waits < 2; waits++) {
        fake->manner = waits ? LETS_WAIT : GRANTS;
        int client = connect_client(place, TUNNEL, false);
        server_cut(&place->server);
        assert_int_equal(counted(COUNTER_END_CUT), waits + 1);
        assert_int_equal(fake->cancelled, waits);
        assert_true(is_closed(client));
        fd_close(client);
    }
}

/* ---- time ---- */

static double time_left(void)
{
    assert_true(deadline_left(&only_connection(place)->deadline) < 0); /* one is enough */
    return deadline_left(&only_connection(place)->tunnel->backend->deadline);
}

static void test_time_without_traffic(void **state)
{
    int client = connect_client(place, TUNNEL, false);
    struct deadline *deadline = &only_connection(place)->tunnel->backend->deadline;

    (void)state;
    assert_true(time_left() > 59);
    for (unsigned i = 0; i < 2; i++) { /* either side is traffic */
        deadline->at -= 50;
        assert_true(time_left() < 11);
        say(i == 0 ? client : fake_fd(fake), "x");
        assert_true(time_left() > 59);
    }
    fd_close(client);
}

static void test_time_is_over(void **state)
{
    (void)state;
    fake->gateway.tunnel.seconds = 0.01;
    int client = connect_client(place, TUNNEL, false);
    wait_for_count(place, COUNTER_END_IDLE);
    assert_true(is_closed(client));
    assert_true(is_closed(fake_fd(fake)));
    fd_close(client);
}

/* ---- much ---- */

static void test_back_pressure(void **state)
{
    enum { SIZE = 1000000 };
    static char bytes[SIZE], arrived[2][SIZE];
    size_t sent[2] = {0, 0}, used[2] = {0, 0};

    (void)state;
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)('a' + i % 23);
    fake->small = true;
    int client = connect_client(place, TUNNEL, true);
    const int fds[2] = {client, fake_fd(fake)};
    while (used[0] < SIZE || used[1] < SIZE) {
        for (size_t i = 0; i < 2; i++) {
            ssize_t n = write(fds[i], bytes + sent[i], SIZE - sent[i]);
            sent[i] += n > 0 ? (size_t)n : 0;
        }
        ev_run(loop, EVRUN_NOWAIT);
        const struct tunnel *tunnel = only_connection(place)->tunnel;
        assert_in_range(tunnel->to_client.length, 0, PIECE_SIZE);
        assert_in_range(tunnel->to_backend.length, 0, PIECE_SIZE);
        for (size_t i = 0; i < 2; i++) {
            ssize_t n = read(fds[i], arrived[i] + used[i], 3000);
            used[i] += n > 0 ? (size_t)n : 0;
        }
    }
    for (size_t i = 0; i < 2; i++)
        assert_memory_equal(arrived[i], bytes, SIZE);
    fd_close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROXYING(test_both_ways),
        PROXYING(test_waits),
        PROXYING(test_client_leaves_while_it_waits),
        PROXYING(test_refused),
        PROXYING(test_header_for_the_backend),
        PROXYING(test_half_closed),
        PROXYING(test_end_waits_for_what_is_unsent),
        PROXYING(test_resets),
        PROXYING(test_nobody_reads),
        PROXYING(test_cut),
        PROXYING(test_time_without_traffic),
        PROXYING(test_time_is_over),
        PROXYING(test_back_pressure),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
