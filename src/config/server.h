#pragma once

#include "base/span.h"
#include "config/config.h"

/*
 * One Server= of an upstream: "ADDRESS [weight=N]", with an address that is known, or a name that
 * has to be looked up.
 */

/* Returns 0 with *ret, which server_clear() clears; -EINVAL with the reason; or -ENOMEM. */
int server_parse(struct span text, struct config_server *ret, struct reason *reason);
void server_clear(struct config_server *server);
