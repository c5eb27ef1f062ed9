#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

static void check_route(const struct config *config, const struct config_route *route)
{
    assert(*route->name && *route->path == '/');
    assert(route->upstream ? route->upstream_index < config->upstream_count : route->root != NULL);
    assert(!route->root || *route->root == '/');
    assert(!route->upstream || !route->root == !route->error_page_count);
    assert(!route->fallback || *route->fallback == '/');
    assert(route->max_body_size <= UINT64_C(1) << 40);
    for (size_t j = 0; j < route->host_count; j++)
        assert(*route->hosts[j] && !strpbrk(route->hosts[j], "* \t"));
    for (size_t j = 0; j < route->error_page_count; j++)
        assert(route->error_pages[j].status >= 400 && route->error_pages[j].status <= 599 &&
               *route->error_pages[j].path == '/');
}

static void check_upstream(const struct config_upstream *upstream)
{
    assert(*upstream->name && upstream->server_count > 0);
    for (size_t i = 0; i < upstream->server_count; i++) {
        const struct config_server *server = &upstream->servers[i];
        assert(*server->text && server->weight >= 1 && server->weight <= 1000);
        assert(server->host ? *server->host && server->port > 0 && server->address.length == 0
                            : server->address.length > 0);
    }
    assert(upstream->balance <= BALANCE_HASH && upstream->send_proxy <= SEND_PROXY_V2);
    assert(!upstream->probe || (*upstream->probe == '/' && !strpbrk(upstream->probe, " #")));
    assert(upstream->probe_status_least <= upstream->probe_status_most);
}

static void check_listen(const struct config *config, const struct config_listen *listen)
{
    assert(*listen->name && (!listen->admin || !listen->tunnel));
    assert(!listen->tunnel || listen->tunnel_upstream < config->upstream_count);
}

/* What config.h promises of a configuration that was accepted. */
static void check_accepted(const struct config *config)
{
    assert(config->listen_count > 0);
    for (size_t i = 0; i < config->listen_count; i++)
        check_listen(config, &config->listens[i]);
    for (size_t i = 0; i < config->route_count; i++)
        check_route(config, &config->routes[i]);
    for (size_t i = 0; i < config->upstream_count; i++)
        check_upstream(&config->upstreams[i]);
    for (size_t i = 0; i < config->trusted_proxy_count; i++)
        assert(config->trusted_proxies[i].bits <= 128);
    assert(config->workers <= 1024 && config->header_timeout_usec > 0);
    assert(config->head_size >= 1024 && config->head_size <= 65536);
    assert(config->max_fields >= 1 && config->max_fields <= 256);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* A file that is text up to its end, or to a NUL: config_sources_read() lets none through. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    CLEANUP_BUFFER struct buffer problems = {0};
    CLEANUP_CONFIG struct config *config = NULL;
    char *text = strndup((const char *)bytes, length);
    struct config_source source = {.name = (char *)"f", .text = text};

    int r = config_parse(&(struct config_sources){&source, 1}, &config, &problems);
    assert(r == 0 || r == -EINVAL);
    assert((r == 0) == (problems.length == 0) && (r == 0) == (config != NULL));
    if (r == 0)
        check_accepted(config);
    else
        assert(problems.bytes[0] == 'f' && problems.bytes[problems.length - 1] == '\n');
    free(text);
    return 0;
}
