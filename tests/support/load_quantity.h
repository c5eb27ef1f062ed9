#pragma once

#include <stdint.h>

#include "base/span.h"

/*
 * Numbers of the command line. Each returns 0, or -EINVAL or -ERANGE with *ret undefined.
 */

/* Both ends belong to it. */
struct range {
    uint64_t low, high;
};

/* "250us", "20ms", "5s", "1min" → microseconds, up to a year of them */
int quantity_duration(struct span text, uint64_t *ret_usec);
/* "4096", "64K", "10M", "1G" → bytes (1K = 1024) */
int quantity_size(struct span text, uint64_t *ret);
/* "3" or "1-5" */
int quantity_range(struct span text, struct range *ret);
/* "64K", "0-4K" (each with its own unit) */
int quantity_size_range(struct span text, struct range *ret);
/* "5ms", "1ms-2s", "0-50ms" (a unit at the end counts for both) */
int quantity_duration_range(struct span text, struct range *ret_usec);
