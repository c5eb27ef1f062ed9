#pragma once

#include "base/error.h"
#include "config/config.h"
#include "connection/answer.h"
#include "handler/admin.h"
#include "observe/board.h"
#include "upstream/upstreams.h"

/*
 * Everything that answers requests under one configuration: the routes and what they need, and the
 * pages of Admin= listeners. Made by each worker before it says READY, and by `baton check`, so
 * that what makes a worker fail makes a check fail.
 */
struct service;

/*
 * @board: what the admin pages show, and where the worker in @slot shows its backends. @loop and
 * @counters: of the worker, for its backends. All three are NULL for a check, which answers
 * nothing; all stay the caller's and must outlive the service. Returns 0, or -errno with the
 * reason.
 */
int service_new(const struct config *config, const struct board *board, unsigned slot,
    struct ev_loop *loop, struct counters *counters, struct service **ret, struct reason *reason);
/* NULL is allowed. */
void service_free(struct service *service);
/* Who answers: on an Admin= listener its pages, else the route; NULL where no route matches. */
struct handler *service_route(struct service *service, bool admin, const struct request *request);
struct upstreams *service_upstreams(struct service *service);
/* The board may have other pauses than before. */
void service_apply_pauses(struct service *service);
