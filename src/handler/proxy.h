#pragma once

#include "config/config.h"
#include "connection/answer.h"
#include "connection/gateway.h"
#include "handler/files.h"

/*
 * Forwards the requests of one route to its Upstream=: says what a backend is told of the client,
 * and what a client gets where no backend answered.
 */
struct proxy;

/*
 * @pages answers with ErrorPage= (NULL: plain text); it becomes the proxy's. The rest stays the
 * caller's and must outlive it. Returns NULL when memory ran out: then @pages is freed.
 */
struct proxy *proxy_new(const struct config *config, const struct config_route *route,
    struct gateway *gateway, struct files *pages);
/* NULL is allowed. */
void proxy_free(struct proxy *proxy);
struct handler *proxy_handler(struct proxy *proxy);
