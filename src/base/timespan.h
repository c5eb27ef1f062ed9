#pragma once

#include <stdint.h>

/*
 * Times for people, as systemd.time(7) writes them: "1min 30s", "2d 3h", "450ms". Of longer ones
 * the two largest units, rounded down.
 */
#define TIMESPAN_TEXT_MAX 32

/* Returns @ret. */
const char *timespan_format(uint64_t usec, char ret[static TIMESPAN_TEXT_MAX]);
/* Without the fraction of a second, where there are seconds: for times that were measured. */
uint64_t timespan_round(uint64_t usec);
