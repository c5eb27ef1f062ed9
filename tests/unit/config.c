#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "config/config.h"
#include "config/duration.h"
#include "config/keys.h"
#include "config/size.h"
#include "config/value.h"

/* What every configuration needs, so that the rest can be about one thing. */
#define WHOLE "[Listen http]\n[Route site]\nRoot=/srv\n"

/* Up to three files, a.conf and its drop-ins. */
static int parse(const char *const files[3], struct config **ret, struct buffer *problems)
{
    static const char *const names[] = {"a.conf", "b.conf", "c.conf"};
    CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};

    for (size_t i = 0; i < 3 && files[i]; i++)
        assert_int_equal(config_sources_add(&sources, names[i], files[i]), 0);
    return config_parse(&sources, ret, problems);
}

static struct config *parsed_files(const char *const files[3])
{
    CLEANUP_BUFFER struct buffer problems = {0};
    struct config *config = NULL;

    int r = parse(files, &config, &problems);
    if (r != 0 || problems.length > 0)
        fail_msg("%d: %s", r, buffer_string(&problems));
    return config;
}

static struct config *parsed(const char *text)
{
    return parsed_files((const char *const[3]){text});
}

static void refuses_files(const char *const files[3], const char *expected)
{
    CLEANUP_BUFFER struct buffer problems = {0};
    struct config *config = (struct config *)&problems; /* left alone */

    int r = parse(files, &config, &problems);
    const char *found = buffer_string(&problems);
    if (r != -EINVAL || strcmp(found, expected) != 0)
        fail_msg("%d from\n%s\ncame\n%s\ninstead of\n%s", r, files[0], found, expected);
    assert_ptr_equal(config, &problems);
}

static void refuses(const char *text, const char *expected)
{
    refuses_files((const char *const[3]){text}, expected);
}

static void test_defaults(void **state)
{
    CLEANUP_CONFIG struct config *config = parsed(WHOLE);

    (void)state;
    assert_int_equal(config->workers, 0);
    assert_int_equal(config->crash_limit, 10);
    assert_int_equal(config->drain_timeout_usec, 25 * USEC_PER_SEC);
    assert_int_equal(config->readiness_delay_usec, 0);
    assert_int_equal(config->start_timeout_usec, 30 * USEC_PER_SEC);
    assert_int_equal(config->worker_timeout_usec, 10 * USEC_PER_SEC);
    assert_int_equal(config->header_timeout_usec, 30 * USEC_PER_SEC);
    assert_int_equal(config->body_timeout_usec, 30 * USEC_PER_SEC);
    assert_int_equal(config->idle_timeout_usec, 75 * USEC_PER_SEC);
    assert_int_equal(config->send_timeout_usec, 60 * USEC_PER_SEC);
    assert_int_equal(config->linger_timeout_usec, 5 * USEC_PER_SEC);
    assert_int_equal(config->head_size, 16384);
    assert_int_equal(config->max_body_size, 1048576);
    assert_int_equal(config->max_fields, 100);
    assert_int_equal(config->max_ranges, 16);
    assert_int_equal(config->max_connections, 10000);
    assert_int_equal(config->cache_size, 16 << 20);
    assert_int_equal(config->access_log, ACCESS_LOG_OFF);
    assert_null(config->access_log_file);
    assert_null(config->control_socket);
    assert_int_equal(config->trusted_proxy_count, 0);
    assert_int_equal(config->upstream_count, 0);

    assert_int_equal(config->listen_count, 1);
    assert_string_equal(config->listens[0].name, "http");
    assert_int_equal(config->listens[0].address_count, 0);
    assert_false(config->listens[0].admin);
    assert_false(config->listens[0].accept_proxy);
    assert_null(config->listens[0].tunnel);

    const struct config_route *route = &config->routes[0];
    assert_int_equal(config->route_count, 1);
    assert_string_equal(route->name, "site");
    assert_int_equal(route->host_count, 0);
    assert_string_equal(route->path, "/");
    assert_string_equal(route->root, "/srv");
    assert_int_equal(route->index_count, 1);
    assert_string_equal(route->index[0], "index.html");
    assert_null(route->cache_control);
    assert_null(route->fallback);
    assert_int_equal(route->error_page_count, 0);
    assert_false(route->precompressed);
    assert_null(route->upstream);
    assert_null(route->upstream_host);
    assert_false(route->forwarded);
    assert_int_equal(route->max_body_size, 1048576);
}

/* A route to an upstream of one server. */
#define PROXY "[Listen http]\n[Route site]\nUpstream=u\n[Upstream u]\nServer=127.0.0.1:3000\n"

static void test_upstream_defaults(void **state)
{
    CLEANUP_CONFIG struct config *config = parsed(PROXY);

    (void)state;
    assert_int_equal(config->upstream_count, 1);
    const struct config_upstream *upstream = &config->upstreams[0];
    assert_string_equal(upstream->name, "u");
    assert_int_equal(upstream->server_count, 1);
    assert_int_equal(upstream->balance, BALANCE_ROUND_ROBIN);
    assert_int_equal(upstream->send_proxy, SEND_PROXY_NO);
    assert_int_equal(upstream->max_connections, 0);
    assert_int_equal(upstream->max_idle, 64);
    assert_int_equal(upstream->max_waiting, 1000);
    assert_int_equal(upstream->retries, 2);
    assert_int_equal(upstream->max_fails, 3);
    assert_int_equal(upstream->fail_timeout_usec, 10 * USEC_PER_SEC);
    assert_int_equal(upstream->connect_timeout_usec, 5 * USEC_PER_SEC);
    assert_int_equal(upstream->send_timeout_usec, 60 * USEC_PER_SEC);
    assert_int_equal(upstream->response_timeout_usec, 60 * USEC_PER_SEC);
    assert_int_equal(upstream->idle_timeout_usec, 30 * USEC_PER_SEC);
    assert_int_equal(upstream->tunnel_timeout_usec, 3600 * USEC_PER_SEC);
    assert_int_equal(upstream->hold_timeout_usec, 10 * USEC_PER_SEC);
    assert_int_equal(upstream->pause_timeout_usec, 300 * USEC_PER_SEC);
    assert_null(upstream->probe);
    assert_null(upstream->probe_host);
    assert_int_equal(upstream->probe_interval_usec, 5 * USEC_PER_SEC);
    assert_int_equal(upstream->probe_timeout_usec, 2 * USEC_PER_SEC);
    assert_int_equal(upstream->probe_rise, 2);
    assert_int_equal(upstream->probe_fall, 3);
    assert_int_equal(upstream->probe_status_least, 200);
    assert_int_equal(upstream->probe_status_most, 399);
}

static void test_upstream_keys(void **state)
{
    CLEANUP_CONFIG struct config *config =
        parsed(PROXY "Server=Shop.example.COM:80  weight=7\nServer=unix:@shop\n"
                     "Balance=least-connections\nSendProxy=v2\nMaxConnections=5\nMaxIdle=0\n"
                     "MaxWaiting=6\nRetries=0\nMaxFails=1\nFailTimeout=1s\nConnectTimeout=2s\n"
                     "SendTimeout=3s\nResponseTimeout=infinity\nIdleTimeout=4s\n"
                     "TunnelTimeout=5s\nHoldTimeout=0\nPauseTimeout=6s\n"
                     "Probe=GET  /healthz?deep=1\nProbeHost=shop.test:8080\nProbeInterval=7s\n"
                     "ProbeTimeout=8s\nProbeRise=9\nProbeFall=10\nProbeStatus=204\n");
    const struct config_upstream *upstream = &config->upstreams[0];

    (void)state;
    assert_int_equal(upstream->server_count, 3);
    assert_string_equal(upstream->servers[0].text, "127.0.0.1:3000");
    assert_int_equal(upstream->servers[0].weight, 1);
    assert_string_equal(upstream->servers[1].text, "Shop.example.COM:80");
    assert_string_equal(upstream->servers[1].host, "shop.example.com");
    assert_int_equal(upstream->servers[1].weight, 7);
    assert_string_equal(upstream->servers[2].text, "unix:@shop");
    assert_int_equal(upstream->balance, BALANCE_LEAST_CONNECTIONS);
    assert_int_equal(upstream->send_proxy, SEND_PROXY_V2);
    assert_int_equal(upstream->max_connections, 5);
    assert_int_equal(upstream->max_idle, 0);
    assert_int_equal(upstream->max_waiting, 6);
    assert_int_equal(upstream->retries, 0);
    assert_int_equal(upstream->max_fails, 1);
    assert_int_equal(upstream->fail_timeout_usec, USEC_PER_SEC);
    assert_int_equal(upstream->connect_timeout_usec, 2 * USEC_PER_SEC);
    assert_int_equal(upstream->send_timeout_usec, 3 * USEC_PER_SEC);
    assert_int_equal(upstream->response_timeout_usec, USEC_INFINITY);
    assert_int_equal(upstream->idle_timeout_usec, 4 * USEC_PER_SEC);
    assert_int_equal(upstream->tunnel_timeout_usec, 5 * USEC_PER_SEC);
    assert_int_equal(upstream->hold_timeout_usec, 0);
    assert_int_equal(upstream->pause_timeout_usec, 6 * USEC_PER_SEC);
    assert_string_equal(upstream->probe, "/healthz?deep=1");
    assert_string_equal(upstream->probe_host, "shop.test:8080");
    assert_int_equal(upstream->probe_interval_usec, 7 * USEC_PER_SEC);
    assert_int_equal(upstream->probe_timeout_usec, 8 * USEC_PER_SEC);
    assert_int_equal(upstream->probe_rise, 9);
    assert_int_equal(upstream->probe_fall, 10);
    assert_int_equal(upstream->probe_status_least, 204);
    assert_int_equal(upstream->probe_status_most, 204);
}

static void test_upstream_words(void **state)
{
    static const char *const balances[] = {"round-robin", "least-connections", "hash"};
    static const char *const versions[] = {"no", "v1", "v2"};
    char text[200];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        (void)snprintf(
            text, sizeof text, PROXY "Balance=%s\nSendProxy=%s\n", balances[i], versions[i]);
        CLEANUP_CONFIG struct config *config = parsed(text);
        assert_int_equal(config->upstreams[0].balance, i);
        assert_int_equal(config->upstreams[0].send_proxy, i);
    }
}

static void test_proxy_keys(void **state)
{
    CLEANUP_CONFIG struct config *config =
        parsed("[Server]\nTrustedProxies=10.0.0.0/8 ::1\nTrustedProxies=unix\nMaxBodySize=5K\n"
               "[Listen http]\nAcceptProxy=yes\n[Listen tcp]\nTunnel=tcp\n"
               "[Route a]\nUpstream=web\nUpstreamHost=[::1]:8080\nForwarded=yes\n"
               "MaxBodySize=0\n[Route b]\nPath=/b\nUpstream=web\nRoot=/srv\n"
               "ErrorPage=502 /502.html\n[Upstream tcp]\nServer=a:1\n"
               "[Upstream web]\nServer=a:1\n");
    const struct config_route *a = &config->routes[0], *b = &config->routes[1];

    (void)state;
    assert_int_equal(config->trusted_proxy_count, 3);
    assert_int_equal(config->trusted_proxies[0].bits, 8);
    assert_int_equal(config->trusted_proxies[1].bits, 128);
    assert_int_equal(config->trusted_proxies[2].address.any.sa_family, AF_UNIX);
    assert_true(config->listens[0].accept_proxy);
    assert_null(config->listens[0].tunnel);
    assert_string_equal(config->listens[1].tunnel, "tcp");
    assert_int_equal(config->listens[1].tunnel_upstream, 0);
    assert_string_equal(a->upstream, "web");
    assert_int_equal(a->upstream_index, 1);
    assert_string_equal(a->upstream_host, "[::1]:8080");
    assert_true(a->forwarded);
    assert_int_equal(a->max_body_size, 0);
    assert_null(a->root);
    assert_int_equal(b->upstream_index, 1);
    assert_null(b->upstream_host);
    assert_int_equal(b->max_body_size, 5120); /* inherited */
    assert_string_equal(b->root, "/srv");
    assert_int_equal(b->error_page_count, 1);
}

/* Without a single request to answer, routes are not missed. */
static void test_only_tunnels(void **state)
{
    CLEANUP_CONFIG struct config *config =
        parsed("[Listen a]\nAdmin=yes\n[Listen t]\nTunnel=u\nAcceptProxy=1\n"
               "[Upstream u]\nServer=a:1\n");

    (void)state;
    assert_int_equal(config->route_count, 0);
}

static void test_server_keys(void **state)
{
    CLEANUP_CONFIG struct config *config = parsed(
        WHOLE "[Server]\nWorkers=4\nCrashLimit=3\nDrainTimeout=1min 30s\nReadinessDelay=5\n"
              "StartTimeout=1h\nWorkerTimeout=250ms\nHeaderTimeout=7s\nBodyTimeout=8s\n"
              "IdleTimeout=infinity\nSendTimeout=9s\nLingerTimeout=2s\nHeadSize=8K\n"
              "MaxFields=256\nMaxBodySize=0\nMaxRanges=1\nMaxConnections=1000000\nCacheSize=64G\n"
              "AccessLog=json\nAccessLogFile=/var/log/baton access\n"
              "ControlSocket=/run/baton/control.sock\n");

    (void)state;
    assert_int_equal(config->workers, 4);
    assert_int_equal(config->crash_limit, 3);
    assert_int_equal(config->drain_timeout_usec, 90 * USEC_PER_SEC);
    assert_int_equal(config->readiness_delay_usec, 5 * USEC_PER_SEC);
    assert_int_equal(config->start_timeout_usec, 3600 * USEC_PER_SEC);
    assert_int_equal(config->worker_timeout_usec, 250 * USEC_PER_MSEC);
    assert_int_equal(config->header_timeout_usec, 7 * USEC_PER_SEC);
    assert_int_equal(config->body_timeout_usec, 8 * USEC_PER_SEC);
    assert_int_equal(config->idle_timeout_usec, USEC_INFINITY);
    assert_int_equal(config->send_timeout_usec, 9 * USEC_PER_SEC);
    assert_int_equal(config->linger_timeout_usec, 2 * USEC_PER_SEC);
    assert_int_equal(config->head_size, 8192);
    assert_int_equal(config->max_fields, 256);
    assert_int_equal(config->max_body_size, 0);
    assert_int_equal(config->max_ranges, 1);
    assert_int_equal(config->max_connections, 1000000);
    assert_int_equal(config->cache_size, UINT64_C(64) << 30);
    assert_int_equal(config->access_log, ACCESS_LOG_JSON);
    assert_string_equal(config->access_log_file, "/var/log/baton access");
    assert_string_equal(config->control_socket, "/run/baton/control.sock");
}

static void test_listen_keys(void **state)
{
    CLEANUP_CONFIG struct config *config = parsed(
        WHOLE "Path=/\n[Listen http]\nAddress=0.0.0.0:80 [::1]:81\nAddress=unix:/run/b.sock\n"
              "[Listen  admin ~ 2]\nAddress=8081\nAdmin=yes\n");
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    assert_int_equal(config->listen_count, 2);
    assert_int_equal(config->listens[0].address_count, 3);
    assert_false(config->listens[0].admin);
    const struct address *addresses = config->listens[0].addresses;
    assert_string_equal(address_format(&addresses[0], text), "0.0.0.0:80");
    assert_string_equal(address_format(&addresses[1], text), "[::1]:81");
    assert_string_equal(address_format(&addresses[2], text), "unix:/run/b.sock");
    assert_string_equal(config->listens[1].name, "admin ~ 2");
    assert_int_equal(config->listens[1].address_count, 1);
    assert_string_equal(address_format(config->listens[1].addresses, text), "[::]:8081");
    assert_true(config->listens[1].admin);
}

static void test_route_keys(void **state)
{
    CLEANUP_CONFIG struct config *config = parsed(
        "[Listen http]\n[Route site]\nHost=Example.COM  www.example.com\t[2001:DB8::1]\n"
        "Host=a_b-1.test 192.0.2.1\nPath=/a/b/\nRoot=/srv/with space\nIndex=index.html a.htm\n"
        "CacheControl=max-age=60, stale-if-error=\"5\";x\nFallback=/app/in dex.html\n"
        "ErrorPage=404 /404.html\nErrorPage=500  502\t503 /sorry page.html\n"
        "ErrorPage=404 /other.html\nPrecompressed=yes\n");
    static const char *const hosts[] = {
        "example.com", "www.example.com", "[2001:db8::1]", "a_b-1.test", "192.0.2.1"};
    static const unsigned statuses[] = {404, 500, 502, 503};
    const struct config_route *route = config->routes;

    (void)state;
    assert_int_equal(route->host_count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(route->hosts[i], hosts[i]);
    assert_string_equal(route->path, "/a/b/");
    assert_string_equal(route->root, "/srv/with space");
    assert_int_equal(route->index_count, 2); /* not the default too */
    assert_string_equal(route->index[0], "index.html");
    assert_string_equal(route->index[1], "a.htm");
    assert_string_equal(route->cache_control, "max-age=60, stale-if-error=\"5\";x");
    assert_string_equal(route->fallback, "/app/in dex.html");
    assert_int_equal(route->error_page_count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(route->error_pages[i].status, statuses[i]);
        assert_string_equal(
            route->error_pages[i].path, i == 0 ? "/other.html" : "/sorry page.html");
    }
    assert_true(route->precompressed);
}

static void test_booleans(void **state)
{
    static const char *const words[] = {
        "no", "yes", "false", "true", "off", "on", "0", "1", "NO", "Yes"};
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        (void)snprintf(text, sizeof text, WHOLE "Precompressed=%s\n", words[i]);
        CLEANUP_CONFIG struct config *config = parsed(text);
        assert_int_equal(config->routes[0].precompressed, i % 2);
    }
}

static void test_access_log_words(void **state)
{
    static const char *const texts[] = {WHOLE "[Server]\nAccessLog=off\n",
        WHOLE "[Server]\nAccessLog=combined\n", WHOLE "[Server]\nAccessLog=json\n"};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        CLEANUP_CONFIG struct config *config = parsed(texts[i]);
        assert_int_equal(config->access_log, i);
    }
}

/* The value of a bound of a key's range, as its type reads it. */
static uint64_t bound(const struct config_key *key, const char *text)
{
    uint64_t value = 0;

    if (key->set == value_set_duration)
        assert_int_equal(duration_parse(text, &value), 0);
    else
        assert_int_equal(size_parse(text, &value), 0);
    return value;
}

/* @begin ends inside of the key's section. */
static void try_bound(const char *begin, const struct config_key *key, uint64_t value, bool allowed)
{
    const char *unit = key->set == value_set_duration ? "us" : "";
    char text[200];

    (void)snprintf(text, sizeof text, "%s%s=%" PRIu64 "%s\n", begin, key->name, value, unit);
    if (allowed) {
        config_free(parsed(text));
        return;
    }
    CLEANUP_BUFFER struct buffer problems = {0};
    struct config *config = NULL;
    char expected[100];
    assert_int_equal(parse((const char *const[3]){text}, &config, &problems), -EINVAL);
    (void)snprintf(expected, sizeof expected, "from %s to %s\n", key->minimum, key->maximum);
    if (!strstr(buffer_string(&problems), expected)) /* every message names the range */
        fail_msg("%s instead of %s", buffer_string(&problems), expected);
}

static void try_bounds(const char *begin, const struct config_key *key)
{
    uint64_t minimum = bound(key, key->minimum), maximum = bound(key, key->maximum);

    try_bound(begin, key, minimum, true);
    if (minimum > 0)
        try_bound(begin, key, minimum - 1, false);
    if (maximum != USEC_INFINITY) {
        try_bound(begin, key, maximum, true);
        try_bound(begin, key, maximum + 1, false);
    }
}

static void test_ranges(void **state)
{
    static const struct {
        const char *begin;
        unsigned keys;
    } sections[CONFIG_SECTION_TYPES] = {
        [CONFIG_SERVER] = {WHOLE "[Server]\n", 17},
        [CONFIG_LISTEN] = {WHOLE "[Listen http]\n", 0},
        [CONFIG_ROUTE] = {WHOLE, 1},
        [CONFIG_UPSTREAM] = {PROXY "Probe=/\n", 17},
    };

    (void)state;
    for (size_t i = 0; i < CONFIG_SECTION_TYPES; i++) {
        const struct config_section_info *info = &config_section_infos[i];
        unsigned tried = 0;
        for (size_t j = 0; j < info->key_count; j++) {
            if (!info->keys[j].minimum)
                continue;
            try_bounds(sections[i].begin, &info->keys[j]);
            tried++;
        }
        assert_int_equal(tried, sections[i].keys);
    }
}

/* The bits of draft_section are 64. */
static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < CONFIG_SECTION_TYPES; i++) {
        assert_in_range(config_section_infos[i].key_count, 1, 64);
        for (size_t j = 0; j < config_section_infos[i].key_count; j++) {
            const struct config_key *key = &config_section_infos[i].keys[j];
            assert_int_equal(!key->minimum, !key->maximum);
            for (size_t k = 0; k < j; k++)
                assert_string_not_equal(key->name, config_section_infos[i].keys[k].name);
        }
    }
}

#define SERVER "[Listen h]\n[Route r]\nRoot=/r\n[Server]\n" /* the next line is the fifth */
#define LISTEN "[Route r]\nRoot=/r\n[Listen h]\n"           /* the next line is the fourth */
#define ROUTE "[Listen h]\n[Route r]\nRoot=/r\n"            /* the next line is the fourth */
#define PROXIED "[Listen h]\n[Upstream u]\nServer=a:1\n[Route r]\nUpstream=u\n" /* then: 6 */
#define UPSTREAM                                                                                   \
    "[Listen h]\n[Route r]\nUpstream=u\n[Upstream u]\nServer=a:1\n" /* the next line is the sixth  \
                                                                     */
#define ONE_LABEL "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg"
#define PATH_RULE                                                                                  \
    "must begin with / and have no empty, '.' or '..' segments: no request would match\n"
#define FILE_RULE "must name a file below Root= by a path that begins with /, such as /index.html\n"
#define PAGE_RULE                                                                                  \
    "must be one or more statuses from 400 to 599, and a file below Root=: 404 /404.html\n"
#define PROBE_RULE                                                                                 \
    "must be a path that begins with /, perhaps with a query, of printable ASCII without spaces "  \
    "and '#'; it is asked for with GET\n"
#define STATUS_RULE "must be a status from 200 to 599, or a range of them, such as 200-399\n"
#define AUTHORITY_RULE                                                                             \
    "must be a host, or a host and a port, as in a Host field: example.com, [2001:db8::1]:8080\n"
#define NO_HOST " is not a host name (non-ASCII names: in their xn-- form)\n"
#define NAME_RULE "the name of a section is printable ASCII without ':', 255 characters at most\n"

static const struct {
    const char *text, *problems;
} refusals[] = {
    /* Sections. */
    {ROUTE "[Rout x]\nFoo=1\n", "a.conf:4: unknown section [Rout]; did you mean [Route]?\n"},
    {ROUTE "[server]\n", "a.conf:4: unknown section [server]; did you mean [Server]?\n"},
    {ROUTE "[Unit]\n", "a.conf:4: unknown section [Unit]\n"},
    {ROUTE "[]\n", "a.conf:4: unknown section []\n"},
    {ROUTE "[ ]\n", "a.conf:4: unknown section []\n"},
    {ROUTE "[Route\nFoo=1\n", "a.conf:4: a section ends with ']', and nothing follows it\n"},
    {ROUTE "[\n", "a.conf:4: a section ends with ']', and nothing follows it\n"},
    {ROUTE "[Route a] b\n", "a.conf:4: a section ends with ']', and nothing follows it\n"},
    {ROUTE "[Server x]\n", "a.conf:4: [Server] takes no name\n"},
    {ROUTE "[Listen]\n", "a.conf:4: [Listen] needs a name: [Listen NAME]\n"},
    {ROUTE "[Route ]\n", "a.conf:4: [Route] needs a name: [Route NAME]\n"},
    {ROUTE "[Listen a:b]\n", "a.conf:4: " NAME_RULE},
    {ROUTE "[Listen \xc3\xa9]\n", "a.conf:4: " NAME_RULE},
    {"Workers=2\n" WHOLE, "a.conf:1: Workers= stands before the first [SECTION]\n"},
    /* Keys. */
    {SERVER "Wrokers=2\n", "a.conf:5: unknown key Wrokers= in [Server]; did you mean Workers=?\n"},
    {SERVER "workers=2\n", "a.conf:5: unknown key workers= in [Server]; did you mean Workers=?\n"},
    {SERVER "Quux=2\n", "a.conf:5: unknown key Quux= in [Server]\n"},
    {LISTEN "Addres=80\n", "a.conf:4: unknown key Addres= in [Listen]; did you mean Address=?\n"},
    {ROUTE "Hosts=a\n", "a.conf:4: unknown key Hosts= in [Route]; did you mean Host=?\n"},
    {LISTEN "Root=/x\n", "a.conf:4: Root= is a key of [Route], not of [Listen]\n"},
    {ROUTE "Workers=1\n", "a.conf:4: Workers= is a key of [Server], not of [Route]\n"},
    {ROUTE "Root\n", "a.conf:4: neither [SECTION], nor KEY=VALUE, nor a comment\n"},
    /* Values of each type. */
    {SERVER "Workers=0\n", "a.conf:5: Workers=0: must be auto, or a number from 1 to 256\n"},
    {SERVER "Workers=Auto\n", "a.conf:5: Workers=Auto: must be auto, or a number from 1 to 256\n"},
    {SERVER "MaxFields=-1\n", "a.conf:5: MaxFields=-1: must be a number from 1 to 256\n"},
    {SERVER "MaxFields=18446744073709551617\n",
        "a.conf:5: MaxFields=18446744073709551617: must be a number from 1 to 256\n"},
    {SERVER "MaxFields=10K\n", "a.conf:5: MaxFields=10K: must be a number from 1 to 256\n"},
    {SERVER "HeaderTimeout=0\n", "a.conf:5: HeaderTimeout=0: must be a time span such as 500ms or "
                                 "1min 30s, from 1ms to 1d\n"},
    {SERVER "HeaderTimeout=infinity\n",
        "a.conf:5: HeaderTimeout=infinity: must be a time span such "
        "as 500ms or 1min 30s, from 1ms to 1d\n"},
    {SERVER "IdleTimeout=soon\n", "a.conf:5: IdleTimeout=soon: must be a time span such as 500ms "
                                  "or 1min 30s, from 1ms to infinity\n"},
    {SERVER "HeadSize=1G\n",
        "a.conf:5: HeadSize=1G: must be a size in bytes, or with K, M, G or T, "
        "from 1K to 64K\n"},
    {SERVER "AccessLog=yes\n", "a.conf:5: AccessLog=yes: must be off, combined or json\n"},
    {SERVER "AccessLogFile=log\n", "a.conf:5: AccessLogFile=log: must be an absolute path\n"},
    {SERVER "ControlSocket=run\n", "a.conf:5: ControlSocket=run: must be an absolute path\n"},
    {LISTEN "Admin=maybe\n", "a.conf:4: Admin=maybe: must be yes or no\n"},
    {LISTEN "Address=80 http\n", "a.conf:4: Address=80 http: 'http' is not a port (1 to 65535)\n"},
    {LISTEN "Address=unix:run\n", "a.conf:4: Address=unix:run: 'unix:run' names no socket: write "
                                  "unix:/absolute/path or unix:@abstract-name\n"},
    {LISTEN "Address=unix:/" ONE_LABEL ONE_LABEL "\n",
        "a.conf:4: Address=unix:/" ONE_LABEL ONE_LABEL ": 'unix:/" ONE_LABEL ONE_LABEL
        "' is longer than the 107 bytes unix(7) allows\n"},
    /* Values of a route. */
    {ROUTE "Host=*.a.b\n",
        "a.conf:4: Host=*.a.b: '*.a.b' is a wildcard, and each host has to be named in full\n"},
    {ROUTE "Host=a b:80\n",
        "a.conf:4: Host=a b:80: 'b:80' has a port, and a route answers on every "
        "port (IPv6 addresses: in brackets)\n"},
    {ROUTE "Host=[::1]:80\n", "a.conf:4: Host=[::1]:80: '[::1]:80'" NO_HOST},
    {ROUTE "Host=a..b\n", "a.conf:4: Host=a..b: 'a..b'" NO_HOST},
    {ROUTE "Host=a.b.\n", "a.conf:4: Host=a.b.: 'a.b.'" NO_HOST},
    {ROUTE "Host=.\n", "a.conf:4: Host=.: '.'" NO_HOST},
    {ROUTE "Host=a/b\n", "a.conf:4: Host=a/b: 'a/b'" NO_HOST},
    {ROUTE "Host=[::g]\n", "a.conf:4: Host=[::g]: '[::g]'" NO_HOST},
    {ROUTE "Host=[]\n", "a.conf:4: Host=[]: '[]'" NO_HOST},
    {ROUTE "Host=b\xc3\xbc.de\n", "a.conf:4: Host=b\xc3\xbc.de: 'b\xc3\xbc.de'" NO_HOST},
    {ROUTE "Host=" ONE_LABEL "h\n", "a.conf:4: Host=" ONE_LABEL "h: '" ONE_LABEL "h'" NO_HOST},
    {ROUTE "Path=api\n", "a.conf:4: Path=api: " PATH_RULE},
    {ROUTE "Path=/a//b\n", "a.conf:4: Path=/a//b: " PATH_RULE},
    {ROUTE "Path=/a/../b\n", "a.conf:4: Path=/a/../b: " PATH_RULE},
    {ROUTE "Path=/a/.\n", "a.conf:4: Path=/a/.: " PATH_RULE},
    {ROUTE "Path=//\n", "a.conf:4: Path=//: " PATH_RULE},
    {ROUTE "Root=srv\n", "a.conf:4: Root=srv: must be an absolute path\n"},
    {ROUTE "Index=a b/c\n", "a.conf:4: Index=a b/c: 'b/c' is not the name of a file\n"},
    {ROUTE "Index=..\n", "a.conf:4: Index=..: '..' is not the name of a file\n"},
    {ROUTE "Index=.\n", "a.conf:4: Index=.: '.' is not the name of a file\n"},
    {ROUTE "CacheControl=caf\xc3\xa9\n", "a.conf:4: CacheControl=caf\xc3\xa9: must be printable "
                                         "ASCII: it becomes the value of a header field\n"},
    {ROUTE "CacheControl=a\tb\n",
        "a.conf:4: CacheControl=a\tb: must be printable ASCII: it becomes "
        "the value of a header field\n"},
    {ROUTE "Fallback=a.html\n", "a.conf:4: Fallback=a.html: " FILE_RULE},
    {ROUTE "Fallback=/a/\n", "a.conf:4: Fallback=/a/: " FILE_RULE},
    {ROUTE "Fallback=/../a\n", "a.conf:4: Fallback=/../a: " FILE_RULE},
    {ROUTE "ErrorPage=404\n", "a.conf:4: ErrorPage=404: " PAGE_RULE},
    {ROUTE "ErrorPage=/404.html\n", "a.conf:4: ErrorPage=/404.html: " PAGE_RULE},
    {ROUTE "ErrorPage=404/404.html\n", "a.conf:4: ErrorPage=404/404.html: " PAGE_RULE},
    {ROUTE "ErrorPage=399 /a\n", "a.conf:4: ErrorPage=399 /a: " PAGE_RULE},
    {ROUTE "ErrorPage=404 600 /a\n", "a.conf:4: ErrorPage=404 600 /a: " PAGE_RULE},
    {ROUTE "ErrorPage=4xx /a\n", "a.conf:4: ErrorPage=4xx /a: " PAGE_RULE},
    {ROUTE "ErrorPage=404 /a/\n", "a.conf:4: ErrorPage=404 /a/: " PAGE_RULE},
    /* Values of proxying. */
    {SERVER "TrustedProxies=::1 10.0.0.1/8\n",
        "a.conf:5: TrustedProxies=::1 10.0.0.1/8: '10.0.0.1/8' has bits set behind the first 8; "
        "the network is 10.0.0.0/8\n"},
    {UPSTREAM "Server=3000\n", "a.conf:6: Server=3000: '3000' is a port without a host: write "
                               "127.0.0.1:3000\n"},
    {UPSTREAM "Server=a:2 weight=0\n",
        "a.conf:6: Server=a:2 weight=0: weight= must be a number from 1 to 1000\n"},
    {UPSTREAM "Balance=random\n",
        "a.conf:6: Balance=random: must be round-robin, least-connections or hash\n"},
    {UPSTREAM "SendProxy=yes\n", "a.conf:6: SendProxy=yes: must be no, v1 or v2\n"},
    {UPSTREAM "Probe=healthz\n", "a.conf:6: Probe=healthz: " PROBE_RULE},
    {UPSTREAM "Probe=POST /\n", "a.conf:6: Probe=POST /: " PROBE_RULE},
    {UPSTREAM "Probe=GET\n", "a.conf:6: Probe=GET: " PROBE_RULE},
    {UPSTREAM "Probe=GET/\n", "a.conf:6: Probe=GET/: " PROBE_RULE},
    {UPSTREAM "Probe=/a b\n", "a.conf:6: Probe=/a b: " PROBE_RULE},
    {UPSTREAM "Probe=/a#b\n", "a.conf:6: Probe=/a#b: " PROBE_RULE},
    {UPSTREAM "Probe=/\xc3\xa9\n", "a.conf:6: Probe=/\xc3\xa9: " PROBE_RULE},
    {UPSTREAM "Probe=/\nProbeStatus=199\n", "a.conf:7: ProbeStatus=199: " STATUS_RULE},
    {UPSTREAM "Probe=/\nProbeStatus=200-600\n", "a.conf:7: ProbeStatus=200-600: " STATUS_RULE},
    {UPSTREAM "Probe=/\nProbeStatus=300-200\n", "a.conf:7: ProbeStatus=300-200: " STATUS_RULE},
    {UPSTREAM "Probe=/\nProbeStatus=200-\n", "a.conf:7: ProbeStatus=200-: " STATUS_RULE},
    {UPSTREAM "Probe=/\nProbeStatus=2xx\n", "a.conf:7: ProbeStatus=2xx: " STATUS_RULE},
    {UPSTREAM "Probe=/\nProbeHost=a/b\n", "a.conf:7: ProbeHost=a/b: " AUTHORITY_RULE},
    {PROXIED "UpstreamHost=a b\n", "a.conf:6: UpstreamHost=a b: " AUTHORITY_RULE},
    {PROXIED "UpstreamHost=[::1\n", "a.conf:6: UpstreamHost=[::1: " AUTHORITY_RULE},
    {PROXIED "UpstreamHost=a:\n", "a.conf:6: UpstreamHost=a:: '' is not a port (1 to 65535)\n"},
    {PROXIED "UpstreamHost=a:65536\n",
        "a.conf:6: UpstreamHost=a:65536: '65536' is not a port (1 to 65535)\n"},
    /* What may stand beside what. */
    {PROXIED "Root=/r\n", "a.conf:6: [Route r] has Upstream=, beside which Root= is for the files "
                          "of ErrorPage= alone\n"},
    {PROXIED "ErrorPage=502 /x\n",
        "a.conf:6: ErrorPage= needs Root=, which [Route r] does not have\n"},
    {PROXIED "Index=x\n", "a.conf:6: Index= is for files, and [Route r] has Upstream=\n"},
    {PROXIED "CacheControl=x\n",
        "a.conf:6: CacheControl= is for files, and [Route r] has Upstream=\n"},
    {PROXIED "Fallback=/x\n", "a.conf:6: Fallback= is for files, and [Route r] has Upstream=\n"},
    {PROXIED "\nPrecompressed=no\n",
        "a.conf:7: Precompressed= is for files, and [Route r] has Upstream=\n"},
    {ROUTE "UpstreamHost=a\n",
        "a.conf:4: UpstreamHost= needs Upstream=, which [Route r] does not have\n"},
    {ROUTE "Forwarded=yes\n",
        "a.conf:4: Forwarded= needs Upstream=, which [Route r] does not have\n"},
    {UPSTREAM "ProbeRise=3\n",
        "a.conf:6: ProbeRise= needs Probe=, which [Upstream u] does not have\n"},
    {UPSTREAM "[Listen h]\nAdmin=yes\nTunnel=u\n[Listen g]\n",
        "a.conf:8: [Listen h] has Admin=yes, and answers by itself: it cannot have Tunnel=\n"},
    {"[Listen h]\nAdmin=yes\n[Listen t]\nTunnel=u\n"
     "[Route r]\nUpstream=u\n"
     "[Upstream u]\nServer=a:1\n",
        "a.conf: every [Listen NAME] has Admin=yes or Tunnel=, so no [Route NAME] can be "
        "reached\n"},
    /* Upstreams. */
    {ROUTE "[Upstream u]\n", "a.conf:4: [Upstream u] has no Server=\n"},
    {UPSTREAM "Server=\n", "a.conf:4: [Upstream u] has no Server=\n"},
    {ROUTE "[Upstream u]\nServer=a\n", "a.conf:5: Server=a: 'a' has no port, as in a:8080\n"},
    {UPSTREAM "Server=A:1 weight=2\n",
        "a.conf:6: [Upstream u] has Server=a:1, as [Upstream u] at a.conf:5 has\n"},
    {UPSTREAM "Server=[::1]:1\nServer=[0::1]:1\n",
        "a.conf:7: [Upstream u] has Server=[::1]:1, as [Upstream u] at a.conf:6 has\n"},
    {"[Listen h]\n[Upstream shop]\nServer=a:1\n[Route r]\nPath=/\nUpstream=shpo\n",
        "a.conf:6: Upstream=shpo: there is no [Upstream shpo]; did you mean [Upstream shop]?\n"},
    {ROUTE "[Listen t]\nTunnel=x\n", "a.conf:5: Tunnel=x: there is no [Upstream x]\n"},
    /* Across sections. */
    {"[Listen h]\n[Route a]\n", "a.conf:2: [Route a] has neither Root= nor Upstream=\n"},
    {"[Listen h]\n[Route a]\nRoot=/r\nRoot=\n",
        "a.conf:2: [Route a] has neither Root= nor Upstream=\n"},
    {"[Listen h]\n[Route a]\nRoot=r\n", "a.conf:3: Root=r: must be an absolute path\n"},
    {"[Listen h]\n[Route a]\nRoot=/a\n[Route b]\nRoot=/b\nPath=b\n",
        "a.conf:6: Path=b: " PATH_RULE},
    {"[Listen h]\n[Route a]\nRoot=/a\n[Route b]\nRoot=/b\nHost=.\n",
        "a.conf:6: Host=.: '.'" NO_HOST},
    {"[Listen h]\n[Route a]\nRoot=/a\n[Route b]\nRoot=/b\n",
        "a.conf:4: [Route b] has Path=/ without Host=, as [Route a] at a.conf:2 has\n"},
    {"[Listen h]\n[Route a]\nRoot=/a\nPath=/x\nHost=one two\n"
     "[Route b]\nRoot=/b\nHost=three\nHost=TWO\nPath=/x\n",
        "a.conf:9: [Route b] has Host=two and Path=/x, as [Route a] at a.conf:5 has\n"},
    {"[Listen h]\n[Route a]\nRoot=/a\nHost=one one\n",
        "a.conf:4: [Route a] has Host=one and Path=/, as [Route a] at a.conf:4 has\n"},
    {"[Route r]\nRoot=/r\n[Listen a]\nAddress=8080\n[Listen b]\n\nAddress=80 [::]:8080\n",
        "a.conf:7: [Listen b] has Address=[::]:8080, as [Listen a] at a.conf:4 has\n"},
    {"[Route r]\nRoot=/r\n[Listen a]\nAddress=unix:@x\nAddress=unix:@x\n",
        "a.conf:5: [Listen a] has Address=unix:@x, as [Listen a] at a.conf:4 has\n"},
    /* As a whole. */
    {"", "a.conf: there is no [Listen NAME] section\n"},
    {"[Route r]\nRoot=/r\n", "a.conf: there is no [Listen NAME] section\n"},
    {"[Listen h]\n", "a.conf: there is no [Route NAME] section to answer requests\n"},
    {"[Listen h]\nAdmin=yes\n[Route r]\nRoot=/r\n", "a.conf: every [Listen NAME] has Admin=yes or "
                                                    "Tunnel=, so no [Route NAME] can be reached\n"},
    /* A section that was refused is there all the same. */
    {"[Listen]\n[Route r]\nRoot=/r\n", "a.conf:1: [Listen] needs a name: [Listen NAME]\n"},
    {"[Listen h]\n[Route]\nRoot=/r\n", "a.conf:2: [Route] needs a name: [Route NAME]\n"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        refuses(refusals[i].text, refusals[i].problems);
}

static void test_all_problems(void **state)
{
    (void)state;
    refuses_files((const char *const[3]){"Foo=1\n[Server]\nWorkers=x\nfoo\n[Lisen a]\nBar=1\n"
                                         "[Route a]\nPath=/a\nHots=a\nAdmin=no\n",
                      "[Route b]\nRoot=/b\nPath=/a\nPath=/a#b\n[Route c]\nHost=*\nRoot=/c\n",
                      "Baz=1\n[Route d]\nRoot=/d\nPath=/a\n"},
        "a.conf:1: Foo= stands before the first [SECTION]\n"
        "a.conf:3: Workers=x: must be auto, or a number from 1 to 256\n"
        "a.conf:4: neither [SECTION], nor KEY=VALUE, nor a comment\n"
        "a.conf:5: unknown section [Lisen]; did you mean [Listen]?\n"
        "a.conf:9: unknown key Hots= in [Route]; did you mean Host=?\n"
        "a.conf:10: Admin= is a key of [Listen], not of [Route]\n"
        "b.conf:6: Host=*: '*' is a wildcard, and each host has to be named in full\n"
        "c.conf:1: Baz= stands before the first [SECTION]\n"
        "a.conf:7: [Route a] has neither Root= nor Upstream=\n"
        "c.conf:2: [Route d] has Path=/a without Host=, as [Route a] at a.conf:7 has\n"
        "a.conf: there is no [Listen NAME] section\n");
}

static void test_later_files_override(void **state)
{
    CLEANUP_CONFIG struct config *config = parsed_files((const char *const[3]){
        "[Server]\nWorkers=1\nCrashLimit=5\n[Listen http]\nAddress=80\n"
        "[Route a]\nRoot=/a\nHost=one\nErrorPage=404 /4\n",
        "[Route a]\nRoot=/b\nHost=two\nErrorPage=404 /5\nErrorPage=500 /5\n[Server]\nWorkers=2\n",
        "[Server]\nWorkers=3\n[Route c]\nRoot=/c\nHost=three\n[Listen http]\nAddress=81\n"});

    (void)state;
    assert_int_equal(config->workers, 3);
    assert_int_equal(config->crash_limit, 5);
    assert_int_equal(config->listen_count, 1);
    assert_int_equal(config->listens[0].address_count, 2);
    assert_int_equal(config->route_count, 2);
    assert_string_equal(config->routes[0].root, "/b");
    assert_int_equal(config->routes[0].host_count, 2);
    assert_string_equal(config->routes[0].hosts[1], "two");
    assert_int_equal(config->routes[0].error_page_count, 2);
    assert_string_equal(config->routes[0].error_pages[0].path, "/5");
    assert_string_equal(config->routes[1].name, "c");
}

static void test_empty_values(void **state)
{
    CLEANUP_CONFIG struct config *config = parsed_files((const char *const[3]){
        "[Server]\nWorkers=7\nMaxBodySize=2M\nAccessLog=json\nAccessLogFile=/a\n"
        "[Listen http]\nAddress=80\nAdmin=yes\n"
        "[Route a]\nRoot=/a\nHost=one\nIndex=a\nPath=/a\nCacheControl=no-store\nFallback=/f\n"
        "ErrorPage=404 /4\nPrecompressed=on\n[Route b]\nRoot=/b\nIndex=\n",
        "[Server]\nWorkers=\nMaxBodySize=\nAccessLog=\nAccessLogFile=\n"
        "[Listen http]\nAddress=\nAddress=81\nAdmin=\n"
        "[Route a]\nHost=\nHost=two\nIndex=\nIndex=b\nPath=\nCacheControl=\nFallback=\n"
        "ErrorPage=\nPrecompressed=\n"});
    char text[ADDRESS_TEXT_MAX];
    const struct config_route *a = &config->routes[0], *b = &config->routes[1];

    (void)state;
    assert_int_equal(config->workers, 0);
    assert_int_equal(config->max_body_size, 1048576);
    assert_int_equal(config->access_log, ACCESS_LOG_OFF);
    assert_null(config->access_log_file);
    assert_int_equal(config->listens[0].address_count, 1);
    assert_string_equal(address_format(config->listens[0].addresses, text), "[::]:81");
    assert_false(config->listens[0].admin);
    assert_int_equal(a->host_count, 1);
    assert_string_equal(a->hosts[0], "two");
    assert_int_equal(a->index_count, 1);
    assert_string_equal(a->index[0], "b");
    assert_string_equal(a->path, "/");
    assert_null(a->cache_control);
    assert_null(a->fallback);
    assert_int_equal(a->error_page_count, 0);
    assert_false(a->precompressed);
    assert_int_equal(b->index_count, 0); /* the default of a list is cleared as well */
}

/* A conflict is where the value stands that is in force, not where a former one stood. */
static void test_conflict_after_override(void **state)
{
    (void)state;
    refuses_files(
        (const char *const[3]){"[Listen a]\nAddress=80\n[Listen b]\nAddress=81\n"
                               "[Route a]\nRoot=/a\nHost=one\n[Route b]\nRoot=/b\nHost=two\n",
            "[Listen a]\nAddress=\n\nAddress=82 81\n[Route a]\nHost=\nHost=three\nHost=four two\n"},
        "b.conf:4: [Listen a] has Address=[::]:81, as [Listen b] at a.conf:4 has\n"
        "b.conf:8: [Route a] has Host=two and Path=/, as [Route b] at a.conf:10 has\n");
}

/* What a drop-in takes back is not there any more. */
static void test_proxy_empty_values(void **state)
{
    CLEANUP_CONFIG struct config *config = parsed_files((const char *const[3]){
        "[Server]\nTrustedProxies=unix\nMaxBodySize=7\n[Listen http]\nTunnel=u\n"
        "[Route a]\nUpstream=u\nUpstreamHost=h\nForwarded=yes\nMaxBodySize=1\n"
        "[Upstream u]\nServer=a:1\nServer=b:1\nProbe=/\nProbeHost=p\nProbeStatus=204\n"
        "Balance=hash\n",
        "[Server]\nTrustedProxies=\n[Listen http]\nTunnel=\n"
        "[Route a]\nUpstream=\nUpstreamHost=\nForwarded=\nMaxBodySize=\nRoot=/a\nIndex=i\n"
        "[Upstream u]\nServer=\nServer=a:1\nProbe=\nProbeHost=\nProbeStatus=\nBalance=\n"});
    const struct config_route *route = &config->routes[0];
    const struct config_upstream *upstream = &config->upstreams[0];

    (void)state;
    assert_int_equal(config->trusted_proxy_count, 0);
    assert_null(config->listens[0].tunnel);
    assert_null(route->upstream);
    assert_null(route->upstream_host);
    assert_false(route->forwarded);
    assert_int_equal(route->max_body_size, 7);
    assert_int_equal(upstream->server_count, 1);
    assert_null(upstream->probe);
    assert_null(upstream->probe_host);
    assert_int_equal(upstream->probe_status_least, 200);
    assert_int_equal(upstream->balance, BALANCE_ROUND_ROBIN);
}

static void test_same_host_other_path(void **state)
{
    CLEANUP_CONFIG struct config *config =
        parsed("[Listen h]\n[Route a]\nRoot=/a\nHost=one\n[Route b]\nRoot=/b\nHost=one\nPath=/b\n"
               "[Route c]\nRoot=/c\n[Route d]\nRoot=/d\nPath=/b\n");

    (void)state;
    assert_int_equal(config->route_count, 4);
}

static void test_only_admin(void **state)
{
    CLEANUP_CONFIG struct config *config = parsed("[Listen a]\nAdmin=yes\n");

    (void)state;
    assert_int_equal(config->route_count, 0);
}

static void test_longest_names(void **state)
{
    char name[257], text[400], problem[200];

    (void)state;
    memset(name, 'n', sizeof name);
    name[255] = '\0';
    (void)snprintf(text, sizeof text, "[Listen %s]\nAdmin=1\n", name);
    CLEANUP_CONFIG struct config *config = parsed(text);
    assert_string_equal(config->listens[0].name, name);
    name[255] = 'n';
    name[256] = '\0';
    (void)snprintf(text, sizeof text, "[Listen %s]\nAdmin=1\n", name);
    (void)snprintf(problem, sizeof problem, "a.conf:1: " NAME_RULE);
    refuses(text, problem);
}

/* unix(7): 107 bytes and the NUL. */
static void test_longest_control_socket(void **state)
{
    char path[109], text[300], problem[300];

    (void)state;
    memset(path, 'p', sizeof path);
    path[0] = '/';
    path[107] = '\0';
    (void)snprintf(text, sizeof text, SERVER "ControlSocket=%s\n", path);
    CLEANUP_CONFIG struct config *config = parsed(text);
    assert_string_equal(config->control_socket, path);
    path[107] = 'p';
    path[108] = '\0';
    (void)snprintf(text, sizeof text, SERVER "ControlSocket=%s\n", path);
    (void)snprintf(problem, sizeof problem,
        "a.conf:5: ControlSocket=%s: must be at most 107 bytes long (unix(7) has no room for "
        "more)\n",
        path);
    refuses(text, problem);
}

/* RFC 1035 §2.3.4: labels of 63 and names of 253. A line has no room for a name that long. */
static void test_longest_host(void **state)
{
    static const struct config_key key = {
        .offset = offsetof(struct config_route, hosts),
        .count_offset = offsetof(struct config_route, host_count),
    };
    char host[] = ONE_LABEL "." ONE_LABEL "." ONE_LABEL "." ONE_LABEL;
    struct config_route route = {0};
    struct reason reason;

    (void)state;
    assert_int_equal(value_add_hosts(&route, &key, host, &reason), -EINVAL);
    host[254] = '\0';
    assert_int_equal(value_add_hosts(&route, &key, host, &reason), -EINVAL);
    host[253] = '\0';
    assert_int_equal(value_add_hosts(&route, &key, host, &reason), 0);
    assert_string_equal(route.hosts[0], host);
    assert_int_equal(value_add_hosts(&route, &key, "", &reason), 0);
    assert_int_equal(route.host_count, 0);
    free(route.hosts);
}

static void test_no_sources(void **state)
{
    struct config_sources none = {0};
    CLEANUP_BUFFER struct buffer problems = {0};
    struct config *config = NULL;

    (void)state;
    assert_int_equal(config_parse(&none, &config, &problems), -EINVAL);
    assert_string_equal(
        buffer_string(&problems), "configuration: there is no [Listen NAME] section\n");
}

/* What was in the buffer stays. */
static void test_problems_are_appended(void **state)
{
    CLEANUP_BUFFER struct buffer problems = {0};
    struct config *config = NULL;

    (void)state;
    assert_int_equal(buffer_append_string(&problems, "first\n"), 0);
    assert_int_equal(parse((const char *const[3]){"[Listen h]\n"}, &config, &problems), -EINVAL);
    assert_string_equal(buffer_string(&problems),
        "first\na.conf: there is no [Route NAME] section to answer requests\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_upstream_defaults),
        cmocka_unit_test(test_upstream_keys),
        cmocka_unit_test(test_upstream_words),
        cmocka_unit_test(test_proxy_keys),
        cmocka_unit_test(test_only_tunnels),
        cmocka_unit_test(test_proxy_empty_values),
        cmocka_unit_test(test_server_keys),
        cmocka_unit_test(test_listen_keys),
        cmocka_unit_test(test_route_keys),
        cmocka_unit_test(test_booleans),
        cmocka_unit_test(test_access_log_words),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_all_problems),
        cmocka_unit_test(test_later_files_override),
        cmocka_unit_test(test_empty_values),
        cmocka_unit_test(test_conflict_after_override),
        cmocka_unit_test(test_same_host_other_path),
        cmocka_unit_test(test_only_admin),
        cmocka_unit_test(test_longest_names),
        cmocka_unit_test(test_longest_control_socket),
        cmocka_unit_test(test_longest_host),
        cmocka_unit_test(test_no_sources),
        cmocka_unit_test(test_problems_are_appended),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
