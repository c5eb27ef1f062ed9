#pragma once

#include "base/buffer.h"

/*
 * The two questions of whoever starts, stops and balances servers, as pages of a struct admin:
 *     /livez   200 "ok": the process serves; there is no other answer to it
 *     /readyz  200 "ready", or 503 "stopping" once new clients should go elsewhere
 */

#define HEALTH_CONTENT_TYPE "text/plain; charset=utf-8"

/* admin_page.write. @context is not used. */
int health_write_live(void *context, struct buffer *body);
/* @context is a const bool *: whether the server is ready, read at each request. */
int health_write_ready(void *context, struct buffer *body);
