#include "handler/proxy.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "http/forward.h"

/* RFC 9110 §10.2.3, in seconds: what a client may try again after. */
#define RETRY_AFTER "5"

struct proxy {
    struct handler handler; /* first: a struct handler * is a struct proxy * */
    const struct config *config;
    struct span host_set;
    bool forwarded;
    struct files *pages;
};

static bool is_in_network(const struct config_network *network, const struct address *peer)
{
    const uint8_t *a = (const uint8_t *)&network->address.ipv4.sin_addr;
    const uint8_t *b = (const uint8_t *)&peer->ipv4.sin_addr;
    unsigned whole = network->bits / 8, rest = network->bits % 8;

    if (network->address.any.sa_family != peer->any.sa_family)
        return false;
    if (peer->any.sa_family == AF_UNIX)
        return true;
    if (peer->any.sa_family == AF_INET6) {
        a = network->address.ipv6.sin6_addr.s6_addr;
        b = peer->ipv6.sin6_addr.s6_addr;
    }
    for (unsigned i = 0; i < whole; i++)
        if (a[i] != b[i])
            return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static bool is_trusted(const struct config *config, const struct address *peer)
{
    for (size_t i = 0; i < config->trusted_proxy_count; i++)
        if (is_in_network(&config->trusted_proxies[i], peer))
            return true;
    return false;
}

static int compose(struct handler *handler, const struct request *request,
    const struct sockaddr_in6 *peer, struct buffer *out)
{
    const struct proxy *proxy = (const struct proxy *)handler;
    const struct address mapped = {.ipv6 = *peer, .length = sizeof *peer};
    struct address address = address_unmapped(&mapped);
    struct forward_client client = {
        .peer = &address,
        .scheme = SPAN("http"),
        .trusted = is_trusted(proxy->config, &address),
        .forwarded = proxy->forwarded,
        .host_set = proxy->host_set,
    };

    return forward_request(request, &client, out);
}

static void fail(
    struct handler *handler, const struct request *request, unsigned status, struct answer *answer)
{
    const struct proxy *proxy = (const struct proxy *)handler;

    (void)request;
    if (proxy->pages)
        files_answer_error(proxy->pages, status, answer);
    else
        answer_text(answer, status);
    if (status == 503)
        answer_field(answer, "Retry-After", "%s", RETRY_AFTER);
}

struct proxy *proxy_new(const struct config *config, const struct config_route *route,
    struct gateway *gateway, struct files *pages)
{
    struct proxy *proxy = calloc(1, sizeof *proxy);

    if (!proxy) {
        files_free(pages);
        return NULL;
    }
    proxy->handler = (struct handler){
        .gateway = gateway,
        .compose = compose,
        .fail = fail,
        .max_body_size = route->max_body_size,
    };
    proxy->config = config;
    proxy->forwarded = route->forwarded;
    proxy->pages = pages;
    if (route->upstream_host)
        proxy->host_set = span_of(route->upstream_host);
    return proxy;
}

void proxy_free(struct proxy *proxy)
{
    if (!proxy)
        return;
    files_free(proxy->pages);
    free(proxy);
}

struct handler *proxy_handler(struct proxy *proxy)
{
    return &proxy->handler;
}
