#include "base/timespan.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"

static const struct unit {
    const char *name;
    uint64_t usec;
} units[] = {
    {"d", 86400 * USEC_PER_SEC},
    {"h", 3600 * USEC_PER_SEC},
    {"min", 60 * USEC_PER_SEC},
    {"s", USEC_PER_SEC},
    {"ms", USEC_PER_MSEC},
};

enum { UNITS = sizeof units / sizeof *units };

const char *timespan_format(uint64_t usec, char ret[static TIMESPAN_TEXT_MAX])
{
    size_t largest = 0;

    while (largest < UNITS - 1 && usec < units[largest].usec)
        largest++;
    const struct unit *unit = &units[largest], *next = unit + 1;
    int length = snprintf(ret, TIMESPAN_TEXT_MAX, "%" PRIu64 "%s", usec / unit->usec, unit->name);
    uint64_t rest = largest < UNITS - 1 ? usec % unit->usec / next->usec : 0;
    if (rest > 0)
        (void)snprintf(
            ret + length, TIMESPAN_TEXT_MAX - (size_t)length, " %" PRIu64 "%s", rest, next->name);
    return ret;
}

uint64_t timespan_round(uint64_t usec)
{
    return usec < USEC_PER_SEC ? usec : usec - usec % USEC_PER_SEC;
}
