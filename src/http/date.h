#pragma once

#include <stdint.h>
#include <time.h>

#include "base/span.h"

#define DATE_TEXT_MAX 30

/* Writes an IMF-fixdate (RFC 9110 §5.6.7) and a NUL: 29 characters. Any locale. */
void date_format(time_t time, char text[static DATE_TEXT_MAX]);
/*
 * Reads any of the three forms of RFC 9110 §5.6.7 (IMF-fixdate, RFC 850, asctime). A two-digit year
 * over 50 years in the future of @now is in the past. Returns 0, or -EINVAL.
 */
int date_parse(struct span text, time_t now, time_t *ret);
