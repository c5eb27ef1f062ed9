#include "handler/proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fd.h"
#include "config/network.h"
#include "exchange.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct config config;
static struct config_route route;
static struct config_network networks[4];
static struct gateway gateway;
static struct buffer head;

static int set_up(void **state)
{
    (void)state;
    config = (struct config){.trusted_proxies = networks};
    route = (struct config_route){.name = (char *)"api", .max_body_size = 77};
    answer_init(&answer);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    answer_destroy(&answer);
    buffer_clear(&head);
    return 0;
}

static void trust(const char *text)
{
    assert_int_equal(
        network_parse(span_of(text), &networks[config.trusted_proxy_count++], NULL), 0);
}

static struct sockaddr_in6 peer_of(const char *text)
{
    struct address address = {.ipv6 = {.sin6_family = AF_INET6}};

    if (strcmp(text, "unix") == 0)
        address.any.sa_family = AF_UNIX;
    else if (inet_pton(AF_INET6, text, &address.ipv6.sin6_addr) != 1) {
        address.any.sa_family = AF_INET;
        assert_int_equal(inet_pton(AF_INET, text, &address.ipv4.sin_addr), 1);
    }
    return address.ipv6;
}

/* The head that a request of this client has for the backend. */
static const char *compose(struct proxy *proxy, const char *fields, const char *peer)
{
    struct sockaddr_in6 address = peer_of(peer);
    struct handler *handler = proxy_handler(proxy);

    head.length = 0;
    assert_int_equal(
        handler->compose(handler, exchange_request("GET /a?b", fields), &address, &head), 0);
    return buffer_string(&head);
}

static void test_handler(void **state)
{
    struct proxy *proxy = proxy_new(&config, &route, &gateway, NULL);

    (void)state;
    assert_ptr_equal(proxy_handler(proxy)->gateway, &gateway);
    assert_int_equal(proxy_handler(proxy)->max_body_size, 77);
    proxy_free(proxy);
    proxy_free(NULL);
}

/* Whom its own word about others is believed of. */
static void test_trusted(void **state)
{
    static const struct {
        const char *networks[2], *peer;
        bool trusted;
        const char *said; /* of the client's address */
    } cases[] = {
        {{NULL}, "192.0.2.1", false, "192.0.2.1"},
        {{"192.0.2.1"}, "192.0.2.1", true, "192.0.2.1"},
        {{"192.0.2.1"}, "192.0.2.2", false, "192.0.2.2"},
        {{"192.0.2.0/24"}, "192.0.2.255", true, "192.0.2.255"},
        {{"192.0.2.0/24"}, "192.0.3.0", false, "192.0.3.0"},
        {{"192.0.2.128/25"}, "192.0.2.127", false, "192.0.2.127"},
        {{"192.0.2.128/25"}, "192.0.2.128", true, "192.0.2.128"},
        {{"172.16.0.0/12"}, "172.31.1.1", true, "172.31.1.1"},
        {{"172.16.0.0/12"}, "172.32.1.1", false, "172.32.1.1"},
        {{"0.0.0.0/0"}, "203.0.113.9", true, "203.0.113.9"},
        {{"0.0.0.0/0"}, "2001:db8::1", false, "2001:db8::1"},
        {{"::/0"}, "2001:db8::1", true, "2001:db8::1"},
        {{"::/0"}, "192.0.2.1", false, "192.0.2.1"},
        {{"2001:db8::/33"}, "2001:db8:7fff::1", true, "2001:db8:7fff::1"},
        {{"2001:db8::/33"}, "2001:db8:8000::1", false, "2001:db8:8000::1"},
        {{"2001:db8::1"}, "2001:db8::1", true, "2001:db8::1"},
        {{"2001:db8::1"}, "2001:db8::2", false, "2001:db8::2"},
        /* One of IPv4 on a socket for both (RFC 4291 §2.5.5.2). */
        {{"192.0.2.1"}, "::ffff:192.0.2.1", true, "192.0.2.1"},
        {{"192.0.2.1"}, "::ffff:192.0.2.2", false, "192.0.2.2"},
        {{"::/0"}, "::ffff:192.0.2.1", false, "192.0.2.1"},
        {{"unix"}, "unix", true, NULL},
        {{"unix"}, "192.0.2.1", false, "192.0.2.1"},
        {{"::/0", "0.0.0.0/0"}, "unix", false, NULL},
        {{"192.0.2.1", "192.0.2.2"}, "192.0.2.2", true, "192.0.2.2"},
    };
    struct proxy *proxy = proxy_new(&config, &route, &gateway, NULL);

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char expected[200];
        config.trusted_proxy_count = 0;
        for (size_t n = 0; n < 2 && cases[i].networks[n]; n++)
            trust(cases[i].networks[n]);
        const char *text = compose(
            proxy, "X-Forwarded-For: 203.0.113.7\r\nX-Real-IP: 203.0.113.8\r\n", cases[i].peer);
        bool trusted = strstr(text, "203.0.113.8") != NULL;
        if (trusted != cases[i].trusted)
            fail_msg("case %zu: %s", i, text);
        (void)snprintf(expected, sizeof expected, "\r\nX-Forwarded-For: %s%s%s\r\n",
            trusted ? "203.0.113.7" : "", trusted && cases[i].said ? ", " : "",
            cases[i].said ? cases[i].said : "");
        if ((trusted || cases[i].said) && !strstr(text, expected))
            fail_msg("case %zu: %s", i, text);
    }
    proxy_free(proxy);
}

static void test_host_and_forwarded(void **state)
{
    struct proxy *proxy = proxy_new(&config, &route, &gateway, NULL);

    (void)state;
    const char *text = compose(proxy, "", "192.0.2.1");
    assert_memory_equal(text, "GET /a?b HTTP/1.1\r\nHost: x\r\n", 28);
    assert_null(strstr(text, "\r\nForwarded:"));
    assert_non_null(strstr(text, "\r\nX-Forwarded-Proto: http\r\n"));
    proxy_free(proxy);
    route.upstream_host = (char *)"inner.example";
    route.forwarded = true;
    proxy = proxy_new(&config, &route, &gateway, NULL);
    text = compose(proxy, "", "192.0.2.1");
    assert_memory_equal(text, "GET /a?b HTTP/1.1\r\nHost: inner.example\r\n", 40);
    assert_non_null(strstr(text, "\r\nX-Forwarded-Host: x\r\n"));
    assert_non_null(strstr(text, "\r\nForwarded: for=192.0.2.1;host=\"x\";proto=http\r\n"));
    proxy_free(proxy);
}

static void fail_with(struct proxy *proxy, unsigned status)
{
    struct handler *handler = proxy_handler(proxy);

    answer_reset(&answer);
    (handler->fail)(handler, exchange_request("GET /", ""), status, &answer);
    assert_int_equal(answer.status, status);
    /* RFC 9110 §10.2.3: what is only busy, or away for a moment. */
    assert_field("Retry-After", status == 503 ? "5" : NULL);
}

static void test_failures(void **state)
{
    struct proxy *proxy = proxy_new(&config, &route, &gateway, NULL);

    (void)state;
    fail_with(proxy, 502);
    assert_string_equal(exchange_body(), "502 Bad Gateway\n");
    fail_with(proxy, 503);
    assert_string_equal(exchange_body(), "503 Service Unavailable\n");
    fail_with(proxy, 504);
    assert_string_equal(exchange_body(), "504 Gateway Timeout\n");
    proxy_free(proxy);
}

/* ErrorPage= below the route's Root=. */
static void test_pages(void **state)
{
    struct config_error_page pages[] = {{502, (char *)"/sorry.html"}, {503, (char *)"/none.html"}};
    char folder[] = "/tmp/baton-proxy-XXXXXX", path[64];
    struct media_types *types;
    struct files *files;
    struct reason reason;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/sorry.html", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, "sorry", 5), 5);
    fd_close(fd);
    route.root = folder;
    route.path = (char *)"/";
    route.error_pages = pages;
    route.error_page_count = COUNT(pages);
    assert_int_equal(media_types_new(SPAN(""), &types), 0);
    assert_int_equal(files_new(&route, types, 1, NULL, &files, &reason), 0);
    struct proxy *proxy = proxy_new(&config, &route, &gateway, files);
    fail_with(proxy, 502);
    assert_string_equal(exchange_body(), "sorry");
    assert_field("Content-Type", "text/html; charset=utf-8");
    fail_with(proxy, 503); /* the page is not there */
    assert_string_equal(exchange_body(), "503 Service Unavailable\n");
    fail_with(proxy, 504); /* and none is wanted */
    assert_string_equal(exchange_body(), "504 Gateway Timeout\n");
    proxy_free(proxy);
    media_types_free(types);
    (void)unlink(path);
    (void)rmdir(folder);
}

#define WITH_ANSWER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ANSWER(test_handler),
        WITH_ANSWER(test_trusted),
        WITH_ANSWER(test_host_and_forwarded),
        WITH_ANSWER(test_failures),
        WITH_ANSWER(test_pages),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
