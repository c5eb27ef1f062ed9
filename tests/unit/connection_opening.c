#include "connection/opening.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxying.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

#define HEADER "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n"
#define LOCAL "GET /local HTTP/1.1\r\nHost: x\r\n\r\n"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlocal"

static struct place *const place = &places[0];
static struct fake *const fake = &places[0].fake;

static uint64_t counted(enum counter counter)
{
    return place_count(place, counter);
}

/* Whom the header names is the client from now on. */
static void assert_named(void)
{
    const struct sockaddr_in *peer = (const struct sockaddr_in *)&only_connection(place)->peer;

    assert_int_equal(peer->sin_family, AF_INET);
    assert_int_equal(peer->sin_port, htons(4711));
    assert_int_equal(peer->sin_addr.s_addr, inet_addr("192.0.2.1"));
}

/* However it is cut, and whatever comes with it. */
static void test_header_before_requests(void **state)
{
    static const char text[] = HEADER LOCAL LOCAL;

    (void)state;
    for (size_t step = 1; step <= strlen(text); step += step < 5 ? 1 : 7) {
        int client = connect_client(place, PROXY_HEADER, false);
        assert_int_equal(only_connection(place)->state, CONNECTION_PROXY);
        assert_null(only_connection(place)->reading);
        for (size_t at = 0; at < strlen(text); at += step) {
            size_t left = strlen(text) - at, some = left < step ? left : step;
            assert_int_equal(write(client, text + at, some), some);
            turn();
        }
        assert_string_equal(hear(client), ANSWER ANSWER);
        assert_named();
        assert_int_equal(only_connection(place)->state, CONNECTION_IDLE);
        fd_close(client);
        turn();
    }
}

/* It holds nothing between the header and the first request. */
static void test_header_alone(void **state)
{
    int client = connect_client(place, PROXY_HEADER, false);

    (void)state;
    say(client, HEADER);
    assert_int_equal(only_connection(place)->state, CONNECTION_IDLE);
    assert_null(only_connection(place)->reading);
    assert_true(deadline_left(&only_connection(place)->deadline) > 0);
    say(client, LOCAL);
    assert_string_equal(hear(client), ANSWER);
    fd_close(client);
}

static void test_header_before_a_tunnel(void **state)
{
    static const char *const early[] = {"", "hello"};

    (void)state;
    for (size_t i = 0; i < COUNT(early); i++) {
        int client = connect_client(place, PROXY_HEADER_AND_TUNNEL, false);
        assert_int_equal(fake->asked, i);
        sockets_say(client, HEADER);
        say(client, early[i]);
        assert_int_equal(fake->asked, i + 1);
        assert_named();
        assert_string_equal(hear(fake_fd(fake)), early[i]);
        fd_close(client);
        fake_close(fake);
        turn();
    }
    /* That nobody can be had for. */
    fake->manner = REFUSES;
    int client = connect_client(place, PROXY_HEADER_AND_TUNNEL, false);
    say(client, HEADER "hello");
    assert_int_equal(place->server.connection_count, 0);
    fd_close(client);
}

static void test_no_header(void **state)
{
    static const char *const texts[] = {LOCAL, "PROXY TCP4 nonsense\r\n", "\r\nG", "PROXX"};

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        int client = connect_client(place, PROXY_HEADER, false);
        say(client, texts[i]);
        assert_string_equal(hear(client), ""); /* it is not for clients to know */
        assert_int_equal(place->server.connection_count, 0);
        assert_int_equal(counted(COUNTER_END_REFUSED), i + 1);
        fd_close(client);
    }
    assert_int_equal(counted(COUNTER_REQUESTS), 0);
}

static void test_client_leaves(void **state)
{
    (void)state;
    for (unsigned begun = 0; begun < 2; begun++) {
        int client = connect_client(place, PROXY_HEADER, false);
        if (begun)
            say(client, "PROXY TCP4");
        fd_close(client);
        turn();
        assert_int_equal(counted(COUNTER_END_CLIENT), begun + 1);
    }
}

/* One deadline from the connection on, whatever comes. */
static void test_time(void **state)
{
    int client = connect_client(place, PROXY_HEADER, false);

    (void)state;
    only_connection(place)->deadline.at -= 50;
    say(client, "PROXY");
    say(client, " ");
    double left = deadline_left(&only_connection(place)->deadline);
    assert_true(left > 5 && left < 11);
    deadline_disarm(&only_connection(place)->deadline);
    deadline_arm_for(&place->server.header, &only_connection(place)->deadline, 0);
    wait_for_count(place, COUNTER_END_HEADER);
    assert_string_equal(hear(client), "");
    fd_close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROXYING(test_header_before_requests),
        PROXYING(test_header_alone),
        PROXYING(test_header_before_a_tunnel),
        PROXYING(test_no_header),
        PROXYING(test_client_leaves),
        PROXYING(test_time),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
