#include "connection/exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxying.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

#define HOST "Host: x\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST "\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define CHUNKED_OK "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define LOCAL "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlocal"
#define FAILED(status, length, text)                                                               \
    "HTTP/1.1 " status "\r\nContent-Length: " length "\r\n"                                        \
    "Content-Type: text/plain; charset=utf-8\r\n\r\n" text

static struct place *const place = &places[0];
static struct fake *const fake = &places[0].fake;

static uint64_t counted(enum counter counter)
{
    return place_count(place, counter);
}

/* ---- getting a backend ---- */

static void test_granted_at_once(void **state)
{
    int client = connect_client(place, PLAIN, false);

    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        say(client, GET);
        assert_string_equal(hear(fake_fd(fake)), "GET /\r\n\r\n");
        assert_true(fake->reusable);
        assert_int_equal(only_connection(place)->state, CONNECTION_EXCHANGE);
        assert_int_equal(place->server.second_fd_count, 1);
        say(fake_fd(fake), OK);
        assert_string_equal(hear(client), OK);
        assert_int_equal(only_connection(place)->state, CONNECTION_IDLE);
        assert_null(only_connection(place)->reading); /* an idle one holds nothing */
        assert_int_equal(fake->given_back, i);
        assert_int_equal(fake->how, BACKEND_REUSABLE);
        assert_int_equal(counted(COUNTER_ANSWERS_2XX), i);
        assert_int_equal(log_lines(place), 1);
    }
    fd_close(client);
    turn();
    assert_int_equal(counted(COUNTER_END_CLIENT), 1);
    assert_int_equal(place->failed, 0);
}

static void test_granted_later(void **state)
{
    int client = connect_client(place, PLAIN, false);

    (void)state;
    fake->manner = LETS_WAIT;
    say(client, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe");
    assert_int_equal(only_connection(place)->state, CONNECTION_EXCHANGE);
    assert_false(fake->reusable); /* its body is not here */
    say(client, "lloGET /next HTTP/1.1\r\n" HOST "\r\n");
    fake_grant(fake);
    assert_string_equal(hear(fake_fd(fake)), "PUT /\r\n\r\nhello");
    say(fake_fd(fake), OK);
    fake_grant(fake); /* to the next request */
    assert_string_equal(hear(fake_fd(fake)), "GET /next\r\n\r\n");
    say(fake_fd(fake), OK);
    assert_string_equal(hear(client), OK OK);
    assert_int_equal(fake->asked, 2);
    fd_close(client);
}

static void test_refused(void **state)
{
    int client = connect_client(place, PLAIN, false);

    (void)state;
    /* At once: the connection goes on with the next request. */
    fake->manner = REFUSES;
    say(client, GET "POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi"
                    "GET /local HTTP/1.1\r\n" HOST "\r\n");
    assert_string_equal(hear(client), FAILED("502 Bad Gateway", "16", "502 Bad Gateway\n") FAILED(
                                          "502 Bad Gateway", "16", "502 Bad Gateway\n") LOCAL);
    assert_int_equal(place->failed, 2);
    assert_string_equal(place->why, "refused at once");
    /* Later: likewise. */
    fake->manner = LETS_WAIT;
    say(client, GET "GET /local HTTP/1.1\r\n" HOST "\r\n");
    fake_refuse(fake, 503);
    assert_string_equal(
        hear(client), FAILED("503 Service Unavailable", "24", "503 Service Unavailable\n") LOCAL);
    assert_string_equal(place->why, "refused later");
    assert_int_equal(place->failed_status, 503);
    assert_int_equal(log_lines(place), 5);
    assert_int_equal(counted(COUNTER_ANSWERS_5XX), 3);
    fd_close(client);
}

/* Who has not sent the whole request is not waited for: where the next one begins is not known. */
static void test_refused_within_a_body(void **state)
{
    static const char *const requests[] = {
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
    };

    (void)state;
    fake->manner = REFUSES;
    for (size_t i = 0; i < COUNT(requests); i++) {
        int client = connect_client(place, PLAIN, false);
        say(client, requests[i]);
        assert_non_null(strstr(hear(client), "\r\nConnection: close\r\n"));
        assert_int_equal(only_connection(place)->state, CONNECTION_LINGER);
        fd_close(client);
        turn();
        assert_int_equal(counted(COUNTER_END_ANNOUNCED), i + 1);
    }
}

/* ---- pipelines ---- */

static void test_pipelined(void **state)
{
    static const char requests[] =
        GET "GET /local HTTP/1.1\r\n" HOST "\r\nPOST / HTTP/1.1\r\n" HOST
            "Content-Length: 3\r\n\r\nabcPUT /two HTTP/1.1\r\n" HOST
            "Transfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\nGET /local HTTP/1.1\r\n" HOST
            "\r\n" GET;
    static const char *const heard[] = {"GET /\r\n\r\n", "POST /\r\n\r\nabc",
        "PUT /two\r\n\r\n3\r\ndef\r\n0\r\n\r\n", "GET /\r\n\r\n"};
    int client = connect_client(place, PLAIN, false);

    (void)state;
    say(client, requests);
    for (size_t i = 0; i < COUNT(heard); i++) {
        assert_int_equal(fake->granted, i + 1);
        assert_string_equal(hear(fake_fd(fake)), heard[i]);
        say(fake_fd(fake), OK);
    }
    assert_string_equal(hear(client), OK LOCAL OK OK LOCAL OK);
    assert_int_equal(log_lines(place), 6);
    fd_close(client);
}

/* So many that the reading is full, and the current one is moved to its front. */
static void test_long_pipeline(void **state)
{
    enum { REQUESTS = 60, STEP = 700 };
    static const char request[] = "GET /1234567890123456789012345678901234567890 HTTP/1.1\r\n" HOST
                                  "Cookie: 12345678901234567890123456789012345678901234567890\r\n"
                                  "\r\n";
    static char text[REQUESTS * sizeof request + 1];
    int client = connect_client(place, PLAIN, false);
    size_t at = 0, answered = 0;

    (void)state;
    for (size_t i = 0; i < REQUESTS; i++)
        memcpy(text + i * (sizeof request - 1), request, sizeof request);
    while (answered < REQUESTS) { /* far more comes than is answered */
        size_t left = strlen(text + at);
        ssize_t n = write(client, text + at, left < STEP ? left : STEP);
        at += n > 0 ? (size_t)n : 0;
        turn();
        assert_int_equal(fake->granted, answered + 1);
        assert_string_equal(
            hear(fake_fd(fake)), "GET /1234567890123456789012345678901234567890\r\n\r\n");
        say(fake_fd(fake), OK);
        assert_string_equal(hear(client), OK);
        answered++;
    }
    assert_int_equal(only_connection(place)->state, CONNECTION_IDLE);
    assert_int_equal(counted(COUNTER_REQUESTS), REQUESTS);
    fd_close(client);
}

/* Answers to requests before this one, which the client has not taken yet, stay before its own. */
static void test_answers_before_it_wait(void **state)
{
    static const char requests[] =
        "GET /local HTTP/1.1\r\n" HOST "\r\nGET /local HTTP/1.1\r\n" HOST
        "\r\nPUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n";
    static const char *const answers[] = {"502 ", "503 ", "200 ", "400 ", "502 "};
    enum { REFUSED_AT_ONCE, REFUSED, GRANTED, MALFORMED, FAILS };

    (void)state;
    for (unsigned i = 0; i < COUNT(answers); i++) {
        int client = connect_client(place, PLAIN, true);
        fake->manner = i == REFUSED_AT_ONCE ? REFUSES : LETS_WAIT;
        size_t stuffed = sockets_stuff(only_connection(place)->io.fd);
        sockets_say(client, requests);
        say(client, i == MALFORMED ? "nonsense\r\n\r\n" : "0\r\n\r\n");
        if (i == REFUSED)
            fake_refuse(fake, 503);
        if (i > REFUSED)
            fake_grant(fake);
        fake->manner = REFUSES;
        if (i == GRANTED)
            say(fake_fd(fake), OK);
        if (i == FAILS) {
            (void)hear(fake_fd(fake));
            fake_close(fake);
        }
        sockets_skip(client, stuffed);
        const char *heard = hear_all(client);
        assert_memory_equal(heard, LOCAL LOCAL "HTTP/1.1 ", 2 * strlen(LOCAL) + 9);
        assert_memory_equal(heard + 2 * strlen(LOCAL) + 9, answers[i], 4);
        assert_int_equal(log_lines(place), 3);
        fd_close(client);
        turn();
    }
}

/* ---- trying again ---- */

enum death { CLOSES, RESETS, CLOSES_IN_HEAD, CLOSES_AFTER_INTERIM };

/* The backend dies before it has answered. */
static void die(enum death death)
{
    switch (death) {
    case RESETS: /* unix(7): what it was sent is unread */
        break;
    case CLOSES_IN_HEAD:
        sockets_say(fake_fd(fake), "HTTP/1.1 200 OK\r\nContent-");
        (void)hear(fake_fd(fake));
        break;
    case CLOSES_AFTER_INTERIM:
        sockets_say(fake_fd(fake), "HTTP/1.1 103 Early Hints\r\n\r\n");
        (void)hear(fake_fd(fake));
        break;
    case CLOSES:
        (void)hear(fake_fd(fake));
        break;
    }
    fake_close(fake);
    turn();
}

#define POST_ABC "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
#define PUT_ABC "PUT / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
#define PUT_CHUNKED "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"

static void test_what_is_tried_again(void **state)
{
    static const struct {
        const char *name, *request;
        bool reused;
        unsigned retries;
        enum death death;
        bool again;
    } cases[] = {
        {"GET", GET, false, 1, CLOSES, true},
        {"a reset", GET, false, 1, RESETS, true},
        {"within a head", GET, false, 1, CLOSES_IN_HEAD, true},
        {"behind an interim head", GET, false, 1, CLOSES_AFTER_INTERIM, true},
        {"no retries", GET, false, 0, CLOSES, false},
        {"no retries, but a used connection", GET, true, 0, CLOSES, true},
        {"a used connection that is reset", GET, true, 0, RESETS, true},
        {"HEAD", "HEAD / HTTP/1.1\r\n" HOST "\r\n", false, 1, CLOSES, true},
        {"OPTIONS", "OPTIONS / HTTP/1.1\r\n" HOST "\r\n", false, 1, CLOSES, true},
        {"DELETE", "DELETE / HTTP/1.1\r\n" HOST "\r\n", false, 1, CLOSES, true},
        {"PUT", PUT_ABC, false, 1, CLOSES, true},
        {"PUT, in part", PUT_CHUNKED, false, 1, CLOSES, true},
        {"POST", POST_ABC, false, 1, CLOSES, false},
        {"POST on a used connection", POST_ABC, true, 1, CLOSES, false},
        {"PATCH", "PATCH / HTTP/1.1\r\n" HOST "\r\n", false, 1, CLOSES, false},
        {"what nobody knows", "PROPFIND / HTTP/1.1\r\n" HOST "\r\n", false, 1, CLOSES, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int client = connect_client(place, PLAIN, false);
        char first[200];
        unsigned granted = fake->granted;
        uint64_t retries = counted(COUNTER_RETRIES);
        fake->gateway.retries = cases[i].retries;
        fake->reused = cases[i].reused;
        say(client, cases[i].request);
        ssize_t n = recv(fake_fd(fake), first, sizeof first - 1, MSG_PEEK);
        first[n] = '\0';
        fake->reused = false;
        die(cases[i].death);
        if (fake->granted != granted + 1 + cases[i].again)
            fail_msg("%s: granted %u", cases[i].name, fake->granted - granted);
        assert_int_equal(counted(COUNTER_RETRIES) - retries, cases[i].again);
        if (!cases[i].again) {
            assert_non_null(strstr(hear(client), "HTTP/1.1 502 Bad Gateway\r\n"));
            assert_int_equal(fake->how, BACKEND_FAILED);
        } else {
            assert_int_equal(fake->how, cases[i].reused ? BACKEND_CLOSED : BACKEND_FAILED);
            assert_false(fake->reusable);
            assert_true((fake->avoid != NULL) == !cases[i].reused);
            assert_string_equal(hear(fake_fd(fake)), first); /* all of it once more */
            if (strcmp(cases[i].request, PUT_CHUNKED) == 0)
                say(client, "0\r\n\r\n");
            (void)hear(fake_fd(fake));
            say(fake_fd(fake), "HTTP/1.1 204 No Content\r\n\r\n");
            const char *answer = hear(client);
            if (cases[i].death == CLOSES_AFTER_INTERIM)
                answer += strlen("HTTP/1.1 103 Early Hints\r\n\r\n");
            assert_string_equal(answer, "HTTP/1.1 204 No Content\r\n\r\n");
            assert_int_equal(fake->how, BACKEND_REUSABLE);
        }
        fd_close(client);
        turn();
    }
}

/* The first on a used connection is for nothing; then the configured number of them. */
static void test_how_often(void **state)
{
    int client = connect_client(place, PLAIN, false);

    (void)state;
    fake->reused = true;
    say(client, GET);
    fake->reused = false;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(fake->granted, i + 1);
        die(CLOSES);
    }
    assert_int_equal(fake->granted, 4);
    assert_string_equal(hear(client), FAILED("502 Bad Gateway", "16", "502 Bad Gateway\n"));
    assert_int_equal(counted(COUNTER_RETRIES), 3);
    assert_int_equal(place->failed, 1);
    assert_string_equal(place->why, "it closed before it answered");
    say(client, GET); /* the next has all of its attempts again */
    die(CLOSES);
    say(fake_fd(fake), OK);
    assert_string_equal(hear(client), OK);
    fd_close(client);
}

/* The second attempt has to wait, and meanwhile more of the body comes; or it is refused. */
static void test_second_attempt_waits(void **state)
{
    int client = connect_client(place, PLAIN, false);

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        fake->manner = GRANTS;
        say(client, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe");
        fake->manner = LETS_WAIT;
        die(CLOSES);
        say(client, "llo");
        assert_non_null(fake->waits);
        if (i == 0) {
            fake_grant(fake);
            assert_string_equal(hear(fake_fd(fake)), "PUT /\r\n\r\nhello");
            say(fake_fd(fake), OK);
            assert_string_equal(hear(client), OK);
        } else {
            fake_refuse(fake, 504);
            assert_non_null(strstr(hear(client), "HTTP/1.1 504 Gateway Timeout\r\n"));
        }
    }
    /* At once. */
    fake->manner = GRANTS;
    say(client, GET "GET /local HTTP/1.1\r\n" HOST "\r\n");
    fake->manner = REFUSES;
    die(CLOSES);
    assert_string_equal(hear(client), FAILED("502 Bad Gateway", "16", "502 Bad Gateway\n") LOCAL);
    fd_close(client);
}

/* What has passed through is gone: it cannot be sent once more. */
static void test_large_body_is_sent_once(void **state)
{
    static char body[20001];
    int client = connect_client(place, PLAIN, false);

    (void)state;
    memset(body, 'x', sizeof body - 1);
    say(client, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 30000\r\n\r\n");
    say(client, body);
    die(CLOSES);
    assert_int_equal(fake->granted, 1);
    assert_non_null(strstr(hear(client), "HTTP/1.1 502 Bad Gateway\r\n"));
    assert_int_equal(only_connection(place)->state, CONNECTION_LINGER);
    fd_close(client);
}

/*
 * The rest of a body that nobody takes any more lies in the reading, with what follows it. That is
 * not the beginning of the body, though it is as long.
 */
static void test_rest_of_a_large_body(void **state)
{
    static const char smuggled[] = "GET /local HTTP/1.1\r\n" HOST "\r\n";
    static char bytes[4501 + sizeof smuggled];
    int client = connect_client(place, PLAIN, false);

    (void)state;
    memset(bytes, 'x', 4400);
    say(client, "POST / HTTP/1.1\r\n" HOST "Content-Length: 4500\r\n\r\n");
    say(client, bytes);
    say(client, "x"); /* it does not fit the reading */
    assert_false(only_connection(place)->exchange->upload.replayable);
    assert_int_equal(shutdown(fake_fd(fake), SHUT_RD), 0);
    say(client, "y");
    assert_true(only_connection(place)->exchange->broken);
    memset(bytes, 'x', 4500); /* 98 of them are the body's end */
    memcpy(bytes + 4500, smuggled, sizeof smuggled);
    say(client, bytes);
    fake_close(fake);
    assert_non_null(strstr(hear(client), "\r\nConnection: close\r\n"));
    assert_int_equal(counted(COUNTER_REQUESTS), 1);
    assert_int_equal(only_connection(place)->state, CONNECTION_LINGER);
    fd_close(client);
}

/* ---- answers before their time, and bad ones ---- */

/* RFC 9110 §10.1.1 and RFC 9112 §9.5: the rest of the body is not waited for. */
static void test_answer_before_the_end_of_the_body(void **state)
{
    (void)state;
    for (unsigned closes = 0; closes < 2; closes++) {
        int client = connect_client(place, PLAIN, false);
        say(client, closes ? "POST / HTTP/1.1\r\n" HOST
                             "Connection: close\r\nContent-Length: 5\r\n\r\nhe"
                           : "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe");
        say(fake_fd(fake), OK);
        assert_string_equal(
            hear(client), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        assert_int_equal(fake->how, BACKEND_CLOSED);
        assert_int_equal(only_connection(place)->state, CONNECTION_LINGER);
        say(client, "llo"); /* nobody is reset for it */
        assert_int_equal(only_connection(place)->state, CONNECTION_LINGER);
        fd_close(client);
        turn();
        assert_int_equal(counted(COUNTER_END_ANNOUNCED), 1);
        assert_int_equal(counted(COUNTER_END_ASKED), closes);
    }
}

/* The head came before the body's end, the answer's end after it. */
static void test_answer_beside_the_body(void **state)
{
    int client = connect_client(place, PLAIN, false);

    (void)state;
    say(client, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe");
    say(fake_fd(fake), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    say(client, "llo");
    assert_string_equal(hear(fake_fd(fake)), "POST /\r\n\r\nhello");
    say(fake_fd(fake), "k");
    assert_string_equal(
        hear(client), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    assert_int_equal(fake->how, BACKEND_REUSABLE); /* it has read and said all */
    assert_true(is_closed(client));
    fd_close(client);
}

/* A backend that reads no more may still have something to say. */
static void test_answer_of_one_that_reads_no_more(void **state)
{
    int client = connect_client(place, PLAIN, false);

    (void)state;
    say(client, "POST / HTTP/1.1\r\n" HOST "Content-Length: 500\r\n\r\nhe");
    (void)hear(fake_fd(fake));
    assert_int_equal(shutdown(fake_fd(fake), SHUT_RD), 0);
    say(client, "llo");
    say(client, "!");
    say(fake_fd(fake), "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    assert_string_equal(
        hear(client), "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_int_equal(fake->how, BACKEND_CLOSED);
    fd_close(client);
}

static void test_expect(void **state)
{
    int client = connect_client(place, PLAIN, false);

    (void)state;
    say(client, "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_string_equal(hear(fake_fd(fake)), "POST /\r\n\r\n");
    say(fake_fd(fake), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_string_equal(hear(client), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(counted(COUNTER_ANSWERS_1XX), 1);
    say(client, "hi");
    assert_string_equal(hear(fake_fd(fake)), "hi");
    say(fake_fd(fake), OK);
    assert_string_equal(hear(client), OK);
    assert_int_equal(only_connection(place)->state, CONNECTION_IDLE);
    assert_int_equal(counted(COUNTER_ANSWERS_2XX), 1);
    fd_close(client);
}

/* A backend that says something wrong, or dies, at each point of its answer. */
static void test_bad_answers(void **state)
{
    static const struct {
        const char *answer;
        bool closes;        /* then; else what it said is wrong */
        const char *client; /* NULL: a 502, and the connection goes on */
    } cases[] = {
        {"nonsense\r\n\r\n", false, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n!", false, NULL},
        {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", false,
            NULL},
        {"", true, NULL},
        {"HTTP/1.1 200 OK\r\nContent-", true, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", true,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"},
        {CHUNKED_OK "5\r\nhello\r\n", true, CHUNKED_OK "5\r\nhello\r\n"},
        {CHUNKED_OK "5\r\nhello\r\n0\r\n", true, CHUNKED_OK "5\r\nhello\r\n"},
        {CHUNKED_OK, false, CHUNKED_OK},
    };

    (void)state;
    fake->gateway.retries = 0;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int client = connect_client(place, PLAIN, false);
        uint64_t failed = counted(COUNTER_END_FAILED);
        say(client, GET);
        (void)hear(fake_fd(fake));
        say(fake_fd(fake), cases[i].answer);
        if (cases[i].closes)
            fake_close(fake);
        else if (cases[i].client)
            say(fake_fd(fake), "x\r\n"); /* no chunk */
        const char *answer = hear(client);
        if (strcmp(answer, cases[i].client ? cases[i].client
                                           : FAILED("502 Bad Gateway", "16", "502 Bad Gateway\n")))
            fail_msg("case %zu: %s", i, answer);
        assert_int_equal(fake->how, BACKEND_FAILED);
        assert_int_equal(place->failed, i + 1);
        assert_int_equal(log_lines(place), 1);
        assert_int_equal(counted(COUNTER_END_FAILED) - failed, cases[i].client != NULL);
        assert_int_equal(is_closed(client), cases[i].client != NULL);
        fd_close(client);
        turn();
    }
}

/* A body that ends with the connection: a clean end would say that it is whole (RFC 9112 §8). */
static void test_reset_where_the_end_says_something(void **state)
{
    (void)state;
    for (unsigned whole = 0; whole < 2; whole++) {
        int client = connect_over_tcp(place, PLAIN);
        char bytes[1000];
        say(client, "GET / HTTP/1.0\r\n\r\n");
        (void)hear(fake_fd(fake));
        sockets_say(fake_fd(fake), CHUNKED_OK "5\r\nhello\r\n");
        say(fake_fd(fake), whole ? "0\r\n\r\n" : "");
        assert_true(read(client, bytes, sizeof bytes) > 0);
        fake_close(fake);
        turn();
        ssize_t n = read(client, bytes, sizeof bytes);
        assert_int_equal(n, whole ? 0 : -1);
        assert_true(whole || errno == ECONNRESET);
        fd_close(client);
        turn();
    }
    assert_int_equal(counted(COUNTER_END_ASKED), 1);
    assert_int_equal(counted(COUNTER_END_FAILED), 1);
}

/* An interim head is still to be sent when the backend fails: the other answer follows it. */
static void test_failure_behind_an_interim_head(void **state)
{
    static const char interim[] = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    static const char *const answers[] = {
        "HTTP/1.1 502 ", "HTTP/1.1 504 ", ""}; /* nothing can be sent in one go */
    enum { NONSENSE, EXPIRED, CUT };

    (void)state;
    for (unsigned i = 0; i < COUNT(answers); i++) {
        int client = connect_client(place, PLAIN, true);
        say(client, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc");
        size_t stuffed = sockets_stuff(only_connection(place)->io.fd);
        (void)hear(fake_fd(fake));
        sockets_say(fake_fd(fake), interim);
        say(fake_fd(fake), i == NONSENSE ? "nonsense\r\n\r\n" : "");
        if (i == EXPIRED) {
            struct exchange *exchange = only_connection(place)->exchange;
            assert_int_equal(exchange->download.flow.length, sizeof interim - 1);
            deadline_disarm(&exchange->backend->deadline);
            exchange_send_expired(&exchange->backend->deadline);
        }
        if (i == CUT)
            server_cut(&place->server);
        sockets_skip(client, stuffed);
        const char *heard = hear_all(client);
        if (i != CUT) {
            assert_memory_equal(heard, interim, strlen(interim));
            heard += strlen(interim);
        }
        assert_memory_equal(heard, answers[i], strlen(answers[i]) + (i == CUT));
        fd_close(client);
        turn();
    }
}

/* ---- clients that do not keep to it ---- */

static void test_bad_bodies(void **state)
{
    static const struct {
        const char *head, *body;
        bool asked; /* before it was seen */
        const char *status;
    } cases[] = {
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\n", "hello", false, "413 "},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "b\r\nhello worl", true,
            NULL},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "b\r\nhello world", true,
            "413 "},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "x", true, "400 "},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "!", true,
            "400 "},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nx", "", true, "400 "},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nb\r\nhello world", "", true,
            "413 "},
    };

    (void)state;
    place->proxy.max_body_size = 10;
    for (size_t i = 0; i < COUNT(cases); i++)
        for (unsigned later = 0; later < 2; later++) {
            int client = connect_client(place, PLAIN, false);
            unsigned asked = fake->asked, given_back = fake->given_back;
            fake->manner = later ? LETS_WAIT : GRANTS;
            say(client, cases[i].head);
            sockets_say(client, cases[i].body);
            if (fake->waits)
                fake_grant(fake);
            const char *answer = hear(client);
            assert_int_equal(fake->asked - asked, cases[i].asked);
            if (cases[i].status) {
                if (strncmp(answer + 9, cases[i].status, 4) != 0)
                    fail_msg("case %zu: %s", i, answer);
                assert_non_null(strstr(answer, "Connection: close\r\n"));
                assert_int_equal(fake->given_back - given_back, cases[i].asked);
                assert_int_equal(only_connection(place)->state, CONNECTION_LINGER);
            } else {
                assert_string_equal(answer, "");
            }
            fd_close(client);
            turn();
            if (fake->given_back > given_back)
                assert_int_equal(fake->how, BACKEND_CLOSED); /* it did nothing wrong */
        }
}

/* After the head of the answer no other can be sent. */
static void test_bad_body_beside_an_answer(void **state)
{
    int client = connect_client(place, PLAIN, false);

    (void)state;
    say(client, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    say(fake_fd(fake), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    say(client, "x");
    assert_string_equal(
        hear(client), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhe");
    assert_true(is_closed(client));
    assert_int_equal(counted(COUNTER_END_REFUSED), 1);
    assert_int_equal(log_lines(place), 1);
    fd_close(client);
}

/* The client leaves. */
static void test_client_leaves(void **state)
{
    static const struct {
        const char *name, *request;
        bool waits;
        const char *answer;
        bool full; /* the client's socket */
    } cases[] = {
        {"while it waits", GET, true, NULL, false},
        {"before it is answered", GET, false, NULL, false},
        {"within its body", "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc", false, NULL,
            false},
        {"within the answer", GET, false, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", false},
        {"within both", "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc", false,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", false},
        {"and took nothing", GET, false, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", true},
        {"and the answer is here", GET, false, OK, true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int client = connect_client(place, PLAIN, true);
        unsigned given_back = fake->given_back, cancelled = fake->cancelled;
        fake->manner = cases[i].waits ? LETS_WAIT : GRANTS;
        say(client, cases[i].request);
        if (cases[i].full)
            (void)sockets_stuff(only_connection(place)->io.fd);
        if (cases[i].answer)
            say(fake_fd(fake), cases[i].answer);
        fd_close(client);
        turn();
        if (place->server.connection_count > 0)
            fail_msg("%s: it is still here", cases[i].name);
        assert_int_equal(counted(COUNTER_END_ABANDONED), i + 1);
        assert_int_equal(fake->cancelled - cancelled, cases[i].waits);
        assert_int_equal(fake->given_back - given_back, !cases[i].waits);
        if (log_lines(place) != 1)
            fail_msg("%s: it is not in the access log", cases[i].name);
    }
    /* When it is written to. */
    int client = connect_client(place, PLAIN, false);
    fake->manner = GRANTS;
    say(client, GET);
    fd_close(client);
    sockets_say(fake_fd(fake), OK);
    turn();
    assert_int_equal(place->server.connection_count, 0);
}

/* ---- time ---- */

static void test_backend_is_silent(void **state)
{
    static const struct {
        const char *answer, *client;
    } cases[] = {
        {"", FAILED("504 Gateway Timeout", "20", "504 Gateway Timeout\n")},
        {"HTTP/1.1 200 OK\r\nContent-",
            FAILED("504 Gateway Timeout", "20", "504 Gateway Timeout\n")},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"},
    };

    (void)state;
    fake->gateway.response.seconds = 0.01;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int client = connect_client(place, PLAIN, false);
        bool answered = cases[i].client[9] == '2';
        say(client, GET);
        if (cases[i].answer[0])
            sockets_say(fake_fd(fake), cases[i].answer);
        if (answered)
            wait_for_count(place, COUNTER_END_FAILED);
        else
            wait_for_count(place, COUNTER_ANSWERS_5XX);
        assert_string_equal(hear(client), cases[i].client);
        assert_int_equal(fake->how, BACKEND_FAILED);
        assert_int_equal(counted(COUNTER_RETRIES), 0); /* it may well be working on it */
        assert_int_equal(log_lines(place), 1);
        fd_close(client);
        turn();
    }
}

static double response_left(void)
{
    const struct backend *backend = only_connection(place)->exchange->backend;
    double left = deadline_left(&backend->deadline);

    assert_true(left < 0 || fake->gateway.response.entries.next == &backend->deadline.link);
    return left;
}

/* It runs from the last byte of the request, and anew from each of the answer's. */
static void test_when_the_backend_has_to_speak(void **state)
{
    int client = connect_client(place, PLAIN, true);

    (void)state;
    say(client, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe");
    assert_true(response_left() < 0); /* the client is to speak */
    assert_true(deadline_left(&only_connection(place)->deadline) > 59);
    say(client, "llo");
    assert_true(response_left() > 59);
    assert_true(deadline_left(&only_connection(place)->deadline) < 0);
    only_connection(place)->exchange->backend->deadline.at -= 50;
    say(client, "GET /"); /* that is the client's doing */
    assert_true(response_left() < 11);
    say(fake_fd(fake), "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n");
    assert_true(response_left() > 59);
    /* While the client takes nothing, nothing is expected of the backend. */
    (void)sockets_stuff(only_connection(place)->io.fd);
    say(fake_fd(fake), "hello");
    assert_true(response_left() < 0);
    assert_true(deadline_left(&only_connection(place)->deadline) > 59);
    (void)hear(client);
    turn();
    assert_true(response_left() > 59);
    assert_true(deadline_left(&only_connection(place)->deadline) < 0);
    fd_close(client);
}

static void test_backend_takes_nothing(void **state)
{
    static char body[500001];
    int client = connect_client(place, PLAIN, false);

    (void)state;
    fake->small = true;
    fake->gateway.send.seconds = 0.05;
    memset(body, 'x', sizeof body - 1);
    say(client, "PUT / HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n");
    while (write(client, body, sizeof body - 1) > 0)
        turn();
    wait_for_count(place, COUNTER_ANSWERS_5XX);
    assert_non_null(strstr(hear(client), "HTTP/1.1 504 Gateway Timeout\r\n"));
    assert_int_equal(fake->how, BACKEND_FAILED);
    fd_close(client);
}

static void test_client_is_silent(void **state)
{
    (void)state;
    place->server.body.seconds = 0.01;
    for (unsigned answered = 0; answered < 2; answered++) {
        int client = connect_client(place, PLAIN, false);
        say(client, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe");
        if (answered) {
            sockets_say(fake_fd(fake), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
            wait_for_count(place, COUNTER_END_BODY);
            assert_non_null(strstr(hear(client), "\r\n\r\nhe"));
        } else {
            wait_for_count(place, COUNTER_ANSWERS_4XX);
            assert_non_null(strstr(hear(client), "HTTP/1.1 408 Request Timeout\r\n"));
        }
        assert_int_equal(fake->how, BACKEND_CLOSED);
        assert_int_equal(log_lines(place), 1);
        fd_close(client);
        turn();
    }
    assert_int_equal(counted(COUNTER_END_BODY), 2);
}

static void test_client_takes_nothing(void **state)
{
    int client = connect_client(place, PLAIN, true);

    (void)state;
    place->server.send.seconds = 0.01;
    say(client, GET);
    (void)sockets_stuff(only_connection(place)->io.fd);
    say(fake_fd(fake), OK);
    assert_int_equal(fake->how, BACKEND_REUSABLE); /* nothing more is wanted of it */
    wait_for_count(place, COUNTER_END_SEND);
    assert_int_equal(log_lines(place), 1);
    fd_close(client);
}

/* What the client sends meanwhile is no progress of what it takes. */
static void test_deadline_of_sending(void **state)
{
    int client = connect_client(place, PLAIN, true);

    (void)state;
    say(client, GET);
    const struct connection *connection = only_connection(place);
    (void)sockets_stuff(connection->io.fd);
    say(fake_fd(fake), OK);
    double at = connection->deadline.at;
    assert_true(deadline_left(&connection->deadline) > 0);
    say(client, GET);
    assert_true(connection->reading->end > sizeof GET);
    assert_true(connection->deadline.at == at);
    fd_close(client);
}

/* ---- much ---- */

/* How long the body is that has arrived, behind a head. */
static size_t body_of(const char *message, size_t length)
{
    const char *end = memmem(message, length, "\r\n\r\n", 4);

    return end ? length - (size_t)(end + 4 - message) : 0;
}

/* Both ways at once, through sockets that take little: nothing piles up. */
static void test_back_pressure(void **state)
{
    enum { SIZE = 1000000 };
    static char bytes[SIZE], arrived[2][SIZE + 1000];
    size_t sent[2] = {0, 0}, used[2] = {0, 0};

    (void)state;
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)('a' + i % 23);
    fake->small = true;
    int client = connect_client(place, PLAIN, true);
    say(client, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n");
    say(fake_fd(fake), "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    const int fds[2] = {client, fake_fd(fake)};
    while (body_of(arrived[0], used[0]) < SIZE || body_of(arrived[1], used[1]) < SIZE) {
        for (size_t i = 0; i < 2; i++) {
            size_t left = SIZE - sent[i];
            if (i == 1 && body_of(arrived[1], used[1]) < SIZE)
                left--; /* an answer that is whole ends the request */
            ssize_t n = write(fds[i], bytes + sent[i], left < 90000 ? left : 90000);
            sent[i] += n > 0 ? (size_t)n : 0;
        }
        ev_run(loop, EVRUN_NOWAIT);
        if (place->server.connection_count > 0 && only_connection(place)->exchange) {
            const struct exchange *exchange = only_connection(place)->exchange;
            assert_in_range(exchange->upload.flow.length, 0, PIECE_SIZE);
            assert_in_range(exchange->download.flow.length, 0, PIECE_SIZE);
        }
        for (size_t i = 0; i < 2; i++) {
            ssize_t n = read(fds[i], arrived[i] + used[i], 3000);
            used[i] += n > 0 ? (size_t)n : 0;
        }
    }
    for (size_t i = 0; i < 2; i++)
        assert_memory_equal(strstr(arrived[i], "\r\n\r\n") + 4, bytes, SIZE);
    turn();
    fd_close(client);
}

/* ---- upgrades ---- */

#define UPGRADE "GET / HTTP/1.1\r\n" HOST "Connection: upgrade\r\nUpgrade: x\r\n\r\n"
#define SWITCHING "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"

static void test_upgrade(void **state)
{
    (void)state;
    for (unsigned full = 0; full < 2; full++) {
        int client = connect_client(place, PLAIN, true);
        sockets_say(client, UPGRADE "early");
        turn();
        size_t stuffed = full ? sockets_stuff(only_connection(place)->io.fd) : 0;
        assert_string_equal(hear(fake_fd(fake)), "GET /\r\n\r\n");
        say(fake_fd(fake), SWITCHING "hello");
        assert_int_equal(only_connection(place)->state, CONNECTION_TUNNEL);
        assert_null(only_connection(place)->exchange);
        assert_null(only_connection(place)->reading);
        assert_int_equal(place->server.second_fd_count, 1);
        assert_string_equal(hear(fake_fd(fake)), "early");
        sockets_skip(client, stuffed);
        assert_string_equal(hear(client), SWITCHING "hello");
        assert_int_equal(log_lines(place), 1);
        say(client, "more");
        say(fake_fd(fake), "and more");
        assert_string_equal(hear(fake_fd(fake)), "more");
        assert_string_equal(hear(client), "and more");
        fd_close(client);
        fake_close(fake);
        turn();
        assert_int_equal(counted(COUNTER_TUNNELS), full + 1);
        assert_int_equal(counted(COUNTER_END_TUNNEL), full + 1);
    }
    assert_true(list_empty(&fake->gateway.response.entries));
}

static void test_upgrade_is_declined(void **state)
{
    int client = connect_client(place, PLAIN, false);

    (void)state;
    say(client, UPGRADE GET);
    say(fake_fd(fake), OK);
    say(fake_fd(fake), OK);
    assert_string_equal(hear(client), OK OK);
    fd_close(client);
}

/* ---- the end of the server ---- */

static void test_retirement(void **state)
{
    static const enum retirement ways[] = {RETIRING_MOVE, RETIRING_DRAIN, RETIRING_STOP};

    (void)state;
    for (size_t i = 0; i < COUNT(ways); i++) {
        int client = connect_client(place, PLAIN, false);
        server_retire(&place->server, NOT_RETIRING);
        say(client, GET);
        server_retire(&place->server, ways[i]);
        say(fake_fd(fake), OK);
        const char *answer = hear(client);
        assert_int_equal(strstr(answer, "Connection: close") != NULL, ways[i] != RETIRING_MOVE);
        assert_int_equal(place->server.connection_count, ways[i] == RETIRING_MOVE);
        fd_close(client);
        turn();
    }
    assert_int_equal(counted(COUNTER_END_ANNOUNCED), 2);
}

static void test_cut(void **state)
{
    static const struct {
        bool waits;
        const char *answer, *client;
    } cases[] = {
        {true, "", "HTTP/1.1 503 Service Unavailable\r\n"},
        {false, "", "HTTP/1.1 503 Service Unavailable\r\n"},
        {false, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", "HTTP/1.1 200 OK\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int client = connect_client(place, PLAIN, false);
        fake->manner = cases[i].waits ? LETS_WAIT : GRANTS;
        say(client, GET);
        if (cases[i].answer[0])
            say(fake_fd(fake), cases[i].answer);
        server_cut(&place->server);
        assert_int_equal(strncmp(hear(client), cases[i].client, strlen(cases[i].client)), 0);
        assert_true(is_closed(client));
        assert_int_equal(log_lines(place), 1);
        assert_int_equal(counted(COUNTER_END_CUT), i + 1);
        fd_close(client);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROXYING(test_granted_at_once),
        PROXYING(test_granted_later),
        PROXYING(test_refused),
        PROXYING(test_refused_within_a_body),
        PROXYING(test_pipelined),
        PROXYING(test_long_pipeline),
        PROXYING(test_answers_before_it_wait),
        PROXYING(test_what_is_tried_again),
        PROXYING(test_how_often),
        PROXYING(test_second_attempt_waits),
        PROXYING(test_large_body_is_sent_once),
        PROXYING(test_rest_of_a_large_body),
        PROXYING(test_answer_before_the_end_of_the_body),
        PROXYING(test_answer_beside_the_body),
        PROXYING(test_answer_of_one_that_reads_no_more),
        PROXYING(test_expect),
        PROXYING(test_bad_answers),
        PROXYING(test_reset_where_the_end_says_something),
        PROXYING(test_failure_behind_an_interim_head),
        PROXYING(test_bad_bodies),
        PROXYING(test_bad_body_beside_an_answer),
        PROXYING(test_client_leaves),
        PROXYING(test_backend_is_silent),
        PROXYING(test_when_the_backend_has_to_speak),
        PROXYING(test_backend_takes_nothing),
        PROXYING(test_client_is_silent),
        PROXYING(test_client_takes_nothing),
        PROXYING(test_deadline_of_sending),
        PROXYING(test_back_pressure),
        PROXYING(test_upgrade),
        PROXYING(test_upgrade_is_declined),
        PROXYING(test_retirement),
        PROXYING(test_cut),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
