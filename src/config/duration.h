#pragma once

#include <stdint.h>

/*
 * Reads a time span as systemd.time(7) writes it: "1min 30s", "55s500ms", "2 h", "25" (seconds),
 * "infinity" (USEC_INFINITY). Whole numbers only. Returns 0, -EINVAL (not a time span), or -ERANGE
 * (does not fit; never rounded to infinity).
 */
int duration_parse(const char *text, uint64_t *ret_usec);
