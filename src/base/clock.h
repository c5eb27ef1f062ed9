#pragma once

#include <stdint.h>

/*
 * Times are microseconds in a uint64_t, named …_usec, as in systemd's interfaces.
 */
#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_INFINITY UINT64_MAX

/* CLOCK_MONOTONIC, as MONOTONIC_USEC= of sd_notify(3) wants it. */
uint64_t clock_monotonic_usec(void);

static inline double usec_to_seconds(uint64_t usec)
{
    return (double)usec / (double)USEC_PER_SEC;
}

/* The same clock beside libev's durations: ev_now() jumps when the time of day is set. */
static inline double clock_monotonic_seconds(void)
{
    return usec_to_seconds(clock_monotonic_usec());
}
