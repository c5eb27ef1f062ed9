#pragma once

#include "base/span.h"
#include "config/config.h"

/*
 * Reads "192.0.2.1", "10.0.0.0/8", "2001:db8::/32" or "unix". Returns 0, or -EINVAL with the
 * reason; for an address with bits behind the prefix, that names the network it is in.
 */
int network_parse(struct span text, struct config_network *ret, struct reason *reason);
