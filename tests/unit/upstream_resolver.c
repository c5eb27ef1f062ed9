#include "upstream/resolver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A name server of our own on the same loop, which knows of one name. What a resolver calls a
 * second is hundredths of one here.
 */
#define SECOND 0.02
#define NAME "shop.test"
#define PATIENCE 10.0

enum { RCODE_OK = 0, RCODE_SERVFAIL = 2, RCODE_NXDOMAIN = 3 };
enum { TYPE_A = 1, TYPE_CNAME = 5, TYPE_AAAA = 28 };

static struct ev_loop *loop;

static struct {
    int fd;
    ev_io io;
    char address[32];
    unsigned rcode;
    bool silent;
    uint32_t ttl;
    const char *addresses[RESOLVER_ADDRESSES_MAX + 8]; /* of both families */
    const char *alias;                                 /* the name is one of this */
    uint32_t alias_ttl;
    unsigned questions; /* for the A records of NAME */
} server;

struct reply {
    unsigned char bytes[1024];
    size_t length;
    unsigned answers;
};

static void put(struct reply *reply, const void *bytes, size_t length)
{
    assert_true(reply->length + length <= sizeof reply->bytes);
    memcpy(reply->bytes + reply->length, bytes, length);
    reply->length += length;
}

static void put_number(struct reply *reply, unsigned bytes, uint32_t number)
{
    for (unsigned i = bytes; i-- > 0;)
        put(reply, &(unsigned char){(unsigned char)(number >> 8 * i)}, 1);
}

/* RFC 1035 §3.1: each label behind its length. */
static void put_name(struct reply *reply, const char *name)
{
    while (*name) {
        size_t length = strcspn(name, ".");
        put_number(reply, 1, (uint32_t)length);
        put(reply, name, length);
        name += length + (name[length] == '.');
    }
    put_number(reply, 1, 0);
}

/* RFC 1035 §4.1.3; the owner is the question's name, by a pointer. */
static void put_record(struct reply *reply, unsigned type, uint32_t ttl)
{
    put_number(reply, 2, 0xc00c);
    put_number(reply, 2, type);
    put_number(reply, 2, 1);
    put_number(reply, 4, ttl);
    reply->answers++;
}

static void put_alias(struct reply *reply)
{
    put_record(reply, TYPE_CNAME, server.alias_ttl);
    put_number(reply, 2, (uint32_t)strlen(server.alias) + 2);
    put_name(reply, server.alias);
}

static void put_addresses(struct reply *reply, unsigned type)
{
    int family = type == TYPE_A ? AF_INET : AF_INET6;
    unsigned char bytes[16];

    for (size_t i = 0; server.addresses[i]; i++) {
        if (inet_pton(family, server.addresses[i], bytes) != 1)
            continue;
        if (server.alias) {
            put_name(reply, server.alias);
            put_number(reply, 2, type);
            put_number(reply, 2, 1);
            put_number(reply, 4, server.ttl);
            reply->answers++;
        } else {
            put_record(reply, type, server.ttl);
        }
        put_number(reply, 2, family == AF_INET ? 4 : 16);
        put(reply, bytes, family == AF_INET ? 4 : 16);
    }
}

/* The length of the question's name, which it holds once and in full. */
static size_t name_length(const unsigned char *name, size_t length)
{
    size_t i = 0;

    while (i < length && name[i] > 0)
        i += name[i] + 1U;
    assert_true(i + 5 <= length);
    return i + 1;
}

static bool is_ours(const unsigned char *name, size_t length)
{
    struct reply ours = {0};

    put_name(&ours, NAME);
    return length == ours.length && memcmp(name, ours.bytes, length) == 0;
}

static void answer(const unsigned char *query, size_t length, struct reply *reply)
{
    size_t name = name_length(query + 12, length - 12);
    unsigned type = query[12 + name] << 8 | query[13 + name], rcode = RCODE_NXDOMAIN;

    put(reply, query, 12 + name + 4);
    if (is_ours(query + 12, name)) {
        rcode = server.rcode;
        server.questions += type == TYPE_A;
        if (rcode == RCODE_OK && server.alias)
            put_alias(reply);
        if (rcode == RCODE_OK)
            put_addresses(reply, type);
    }
    reply->bytes[2] = 0x81;                          /* a response; recursion was desired, */
    reply->bytes[3] = (unsigned char)(0x80 | rcode); /* and is available */
    memset(reply->bytes + 4, 0, 8);
    reply->bytes[5] = 1;
    reply->bytes[7] = (unsigned char)reply->answers;
}

static void on_query(struct ev_loop *ours, ev_io *io, int events)
{
    unsigned char query[1024];
    struct sockaddr_in peer;
    socklen_t peer_length = sizeof peer;
    struct reply reply = {0};

    (void)events;
    ssize_t length =
        recvfrom(io->fd, query, sizeof query, 0, (struct sockaddr *)&peer, &peer_length);
    assert_true(length > 12 + 5);
    answer(query, (size_t)length, &reply);
    if (!server.silent)
        assert_int_equal(
            sendto(io->fd, reply.bytes, reply.length, 0, (struct sockaddr *)&peer, peer_length),
            reply.length);
    ev_break(ours, EVBREAK_ONE);
}

/* What the resolver says. */
static struct {
    unsigned resolved, failed;
    char addresses[1024]; /* with a space behind each */
    const char *why;
    double at;                      /* ev_now() */
    struct resolver_name **unwatch; /* in the call */
} heard;

static void end_call(void)
{
    heard.at = ev_now(loop);
    if (heard.unwatch) {
        resolver_unwatch(*heard.unwatch);
        *heard.unwatch = NULL;
    }
    ev_break(loop, EVBREAK_ONE);
}

static void on_resolved(void *owner, const struct address *addresses, size_t count)
{
    char text[ADDRESS_TEXT_MAX];
    size_t used = 0;

    assert_ptr_equal(owner, &heard);
    heard.resolved++;
    heard.addresses[0] = '\0';
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(heard.addresses + used, sizeof heard.addresses - used, "%s ",
            address_format(&addresses[i], text));
    end_call();
}

static void on_failed(void *owner, const char *why)
{
    assert_ptr_equal(owner, &heard);
    heard.failed++;
    heard.why = why;
    end_call();
}

static const struct resolver_calls calls = {on_resolved, on_failed};

static void on_patience(struct ev_loop *ours, ev_timer *timer, int events)
{
    (void)ours;
    (void)timer;
    (void)events;
    fail_msg("%u resolved, %u failed, %u questions: and then nothing", heard.resolved, heard.failed,
        server.questions);
}

static void run_until(const unsigned *count, unsigned wanted)
{
    ev_timer patience;

    ev_now_update(loop);
    ev_timer_init(&patience, on_patience, PATIENCE, 0);
    ev_timer_start(loop, &patience);
    while (*count < wanted)
        ev_run(loop, 0);
    ev_timer_stop(loop, &patience);
}

static struct resolver *make_resolver_with(unsigned attempt_msec)
{
    const struct resolver_settings settings = {
        .servers = server.address, .attempt_msec = attempt_msec, .attempts = 1, .second = SECOND};
    struct resolver *resolver = NULL;
    struct reason reason;

    if (resolver_new_with(loop, &settings, &resolver, &reason) < 0)
        fail_msg("%s", reason.text);
    return resolver;
}

/* The server is not late, however slow the machine is. */
static struct resolver *make_resolver(void)
{
    return make_resolver_with(10000);
}

static struct resolver_name *watch(struct resolver *resolver)
{
    struct resolver_name *name = resolver_watch(resolver, NAME, 80, &calls, &heard);

    assert_non_null(name);
    assert_int_equal(heard.resolved + heard.failed, 0); /* not before the loop runs */
    return name;
}

static int setup(void **state)
{
    struct address address;

    (void)state;
    memset(&heard, 0, sizeof heard);
    memset(&server, 0, sizeof server);
    server.ttl = 1;
    loop = ev_loop_new(0);
    server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server.fd,
                         (struct sockaddr *)&(struct sockaddr_in){
                             .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                         sizeof(struct sockaddr_in)),
        0);
    assert_int_equal(address_of_socket(server.fd, &address), 0);
    (void)snprintf(server.address, sizeof server.address, "127.0.0.1:%u",
        (unsigned)ntohs(address.ipv4.sin_port));
    ev_io_init(&server.io, on_query, server.fd, EV_READ);
    ev_io_start(loop, &server.io);
    return 0;
}

/* Nothing is left that would keep the loop running. */
static int teardown(void **state)
{
    (void)state;
    ev_io_stop(loop, &server.io);
    assert_int_equal(ev_run(loop, EVRUN_NOWAIT), 0);
    ev_loop_destroy(loop);
    close(server.fd);
    return 0;
}

static void test_addresses(void **state)
{
    struct resolver *resolver = make_resolver();

    (void)state;
    server.addresses[0] = "2001:db8::2";
    server.addresses[1] = "192.0.2.9";
    server.addresses[2] = "192.0.2.1";
    server.addresses[3] = "2001:db8::1";
    server.addresses[4] = "192.0.2.9";
    struct resolver_name *name = watch(resolver);
    run_until(&heard.resolved, 1);
    assert_string_equal(
        heard.addresses, "192.0.2.1:80 192.0.2.9:80 [2001:db8::1]:80 [2001:db8::2]:80 ");
    resolver_unwatch(name);
    resolver_free(resolver);
}

/* Of more than there is room for, the same ones, in whatever order they come. */
static void test_many_addresses(void **state)
{
    enum { MANY = RESOLVER_ADDRESSES_MAX + 4 };
    struct resolver *resolver = make_resolver();
    char texts[MANY][20], last[32];

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "192.0.2.%u", MANY - i);
        server.addresses[i] = texts[i];
    }
    watch(resolver);
    run_until(&heard.resolved, 1);
    assert_int_equal(strncmp(heard.addresses, "192.0.2.1:80 192.0.2.2:80 ", 26), 0);
    (void)snprintf(last, sizeof last, " 192.0.2.%u:80 ", RESOLVER_ADDRESSES_MAX);
    assert_string_equal(heard.addresses + strlen(heard.addresses) - strlen(last), last);
    server.addresses[0] = texts[MANY - 1];
    server.addresses[MANY - 1] = texts[0];
    run_until(&server.questions, 4);
    assert_int_equal(heard.resolved, 1);
    resolver_free(resolver);
}

/* Looked up again and again; told when something is new alone. */
static void test_ttl(void **state)
{
    struct resolver *resolver = make_resolver();

    (void)state;
    server.addresses[0] = "192.0.2.1";
    server.addresses[1] = "192.0.2.2";
    watch(resolver);
    run_until(&heard.resolved, 1);
    double before = ev_now(loop);
    run_until(&server.questions, 2);
    assert_true(ev_now(loop) - before > SECOND / 2);
    server.addresses[0] = "192.0.2.2"; /* rotated */
    server.addresses[1] = "192.0.2.1";
    run_until(&server.questions, 4);
    assert_int_equal(heard.resolved, 1);
    server.addresses[1] = "192.0.2.3";
    run_until(&heard.resolved, 2);
    assert_string_equal(heard.addresses, "192.0.2.2:80 192.0.2.3:80 ");
    server.addresses[1] = NULL;
    run_until(&heard.resolved, 3);
    assert_string_equal(heard.addresses, "192.0.2.2:80 ");
    assert_int_equal(heard.failed, 0);
    resolver_free(resolver);
}

/* A TTL of 0 counts as 1, and that of an alias as well as that of its addresses. */
static void test_short_ttls(void **state)
{
    struct resolver *resolver = make_resolver();

    (void)state;
    server.addresses[0] = "192.0.2.1";
    server.ttl = 0;
    watch(resolver);
    run_until(&heard.resolved, 1);
    run_until(&server.questions, 3);
    server.ttl = 1000000;
    server.alias = "other.test";
    server.alias_ttl = 1;
    server.addresses[0] = "192.0.2.2";
    run_until(&heard.resolved, 2);
    run_until(&server.questions, 6);
    assert_int_equal(heard.failed, 0);
    resolver_free(resolver);
}

/* After each, the name is found; and what was known stays, so that finding it again is no news. */
static void test_failures(void **state)
{
    static const struct {
        unsigned rcode;
        const char *why;
    } rows[] = {
        {RCODE_NXDOMAIN, "Domain name not found"},
        {RCODE_OK, "DNS server returned answer with no data"},
        {RCODE_SERVFAIL, NULL}, /* c-ares asks the next server, and says what that said */
    };
    struct resolver *resolver = make_resolver();

    (void)state;
    watch(resolver);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        server.rcode = rows[i].rcode;
        server.addresses[0] = NULL;
        run_until(&heard.failed, heard.failed + 1);
        if (rows[i].why)
            assert_string_equal(heard.why, rows[i].why);
        assert_int_equal(heard.resolved, i == 0 ? 0 : 1);
        server.rcode = RCODE_OK;
        server.addresses[0] = "192.0.2.1";
        run_until(&server.questions, server.questions + 3);
    }
    assert_int_equal(heard.resolved, 1);
    resolver_free(resolver);
}

static void test_silence(void **state)
{
    struct resolver *resolver = make_resolver_with(20);

    (void)state;
    server.silent = true;
    server.addresses[0] = "192.0.2.1";
    watch(resolver);
    run_until(&heard.failed, 2);
    assert_string_equal(heard.why, "Timeout while contacting DNS servers");
    server.silent = false;
    run_until(&heard.resolved, 1);
    resolver_free(resolver);
}

/* 1, 2, 4, 8 and so on, and 1 again after a success. */
static void test_retries(void **state)
{
    struct resolver *resolver = make_resolver();

    (void)state;
    server.rcode = RCODE_NXDOMAIN;
    watch(resolver);
    run_until(&heard.failed, 1);
    for (unsigned i = 0; i < 4; i++) {
        double before = heard.at;
        run_until(&heard.failed, i + 2);
        assert_true(heard.at - before > SECOND * (1 << i) * 0.9);
    }
    server.rcode = RCODE_OK;
    server.addresses[0] = "192.0.2.1";
    run_until(&heard.resolved, 1);
    server.rcode = RCODE_NXDOMAIN;
    run_until(&heard.failed, 6);
    double before = heard.at;
    run_until(&heard.failed, 7);
    assert_true(heard.at - before < SECOND * 25);
    resolver_free(resolver);
}

/* hosts(5), which no server is asked for. */
static void test_hosts(void **state)
{
    struct resolver *resolver = make_resolver();

    (void)state;
    assert_non_null(resolver_watch(resolver, "localhost", 81, &calls, &heard));
    assert_non_null(resolver_watch(resolver, "localhost", 82, &calls, &heard));
    assert_int_equal(heard.resolved, 0);
    run_until(&heard.resolved, 2);
    assert_non_null(strstr(heard.addresses, "127.0.0.1:8"));
    assert_int_equal(server.questions, 0);
    resolver_free(resolver);
}

static void test_unwatch_in_call(void **state)
{
    struct resolver *resolver = make_resolver();
    struct resolver_name *name = watch(resolver);

    (void)state;
    heard.unwatch = &name;
    server.addresses[0] = "192.0.2.1";
    run_until(&heard.resolved, 1);
    assert_null(name);
    server.rcode = RCODE_NXDOMAIN;
    name = resolver_watch(resolver, NAME, 80, &calls, &heard);
    run_until(&heard.failed, 1);
    assert_null(name);
    name = resolver_watch(resolver, "localhost", 80, &calls, &heard); /* answered at once */
    run_until(&heard.resolved, 2);
    assert_null(name);
    resolver_free(resolver);
}

/* Of look-ups under way nobody hears, and nothing leaks. */
static void test_forgotten(void **state)
{
    struct resolver *resolver = make_resolver();
    struct resolver_name *name = watch(resolver), *other;

    (void)state;
    server.addresses[0] = "192.0.2.1";
    run_until(&server.questions, 1); /* the answer is on its way */
    resolver_unwatch(name);
    other = resolver_watch(resolver, NAME, 81, &calls, &heard);
    run_until(&heard.resolved, 1);
    assert_string_equal(heard.addresses, "192.0.2.1:81 ");
    resolver_unwatch(other);
    resolver_unwatch(NULL);

    server.silent = true;
    assert_non_null(resolver_watch(resolver, NAME, 82, &calls, &heard));
    assert_non_null(resolver_watch(resolver, NAME, 83, &calls, &heard));
    run_until(&server.questions, server.questions + 2);
    assert_non_null(resolver_watch(resolver, NAME, 84, &calls, &heard)); /* not begun */
    resolver_free(resolver);
    resolver_free(NULL);
    assert_int_equal(heard.resolved, 1);
    assert_int_equal(heard.failed, 0);
}

static void test_refused(void **state)
{
    const struct resolver_settings settings = {.servers = "no server", .second = 1};
    struct resolver *resolver = NULL;
    struct reason reason = {0};

    (void)state;
    assert_true(resolver_new_with(loop, &settings, &resolver, &reason) < 0);
    assert_null(resolver);
    assert_int_equal(strncmp(reason.text, "cannot look up names: ", 22), 0);
}

static void test_system(void **state)
{
    struct resolver *resolver = NULL;
    struct reason reason;

    (void)state;
    assert_int_equal(resolver_new(loop, &resolver, &reason), 0);
    assert_non_null(resolver_watch(resolver, "localhost", 80, &calls, &heard));
    run_until(&heard.resolved, 1);
    resolver_free(resolver);
}

#define RESOLVER_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RESOLVER_TEST(test_addresses),
        RESOLVER_TEST(test_many_addresses),
        RESOLVER_TEST(test_ttl),
        RESOLVER_TEST(test_short_ttls),
        RESOLVER_TEST(test_failures),
        RESOLVER_TEST(test_silence),
        RESOLVER_TEST(test_retries),
        RESOLVER_TEST(test_hosts),
        RESOLVER_TEST(test_unwatch_in_call),
        RESOLVER_TEST(test_forgotten),
        RESOLVER_TEST(test_refused),
        RESOLVER_TEST(test_system),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
