#pragma once

#include "base/error.h"
#include "config/config.h"
#include "connection/answer.h"
#include "http/media.h"
#include "upstream/upstreams.h"

/*
 * Picks the route of a request, and owns the routes' handlers.
 *
 * Routes that name the request's host go first (letter case and a final dot do not matter), then
 * those without Host=; among either, the longest Path= that is a prefix of the request's decoded
 * path, at the border of a segment: "/api" is one of "/api" and "/api/x", not of "/apix"; "/api/"
 * is one of "/api/x", not of "/api".
 */
struct router;

/*
 * Opens what the routes need. @config, @types, @upstreams and @loop stay the caller's and must
 * outlive the router; without the latter two (NULL) it is only a check. Returns 0, or with the
 * reason -EINVAL (two routes for the same host and path) or -errno.
 */
int router_new(const struct config *config, const struct media_types *types,
    struct upstreams *upstreams, struct ev_loop *loop, struct router **ret, struct reason *reason);
/* NULL is allowed. */
void router_free(struct router *router);

/*
 * Returns the handler, the router's own; NULL where no route matches. Requests that no route is for
 * have handlers too: a path that cannot be decoded (400), "OPTIONS *" (RFC 9110 §9.3.7), CONNECT
 * (405), and those that Max-Forwards lets go no further.
 */
struct handler *router_find(struct router *router, const struct request *request);
