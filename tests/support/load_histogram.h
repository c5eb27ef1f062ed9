#pragma once

#include <stdint.h>

/*
 * Latencies in log-linear steps, as HdrHistogram counts them: values below 256 exactly, above that
 * 128 steps for every power of two, so that a percentile is off by less than 0.8 percent. The
 * maximum and the mean are exact.
 */
#define HISTOGRAM_STEPS 4480 /* up to 2^41 microseconds, 25 days; what is longer counts as that */

struct histogram {
    uint64_t count, sum, max;
    uint64_t steps[HISTOGRAM_STEPS];
};

void histogram_add(struct histogram *histogram, uint64_t value);
void histogram_merge(struct histogram *sum, const struct histogram *other);
/* The smallest value that @permille of 1000 values do not exceed; 0 without any value. */
uint64_t histogram_percentile(const struct histogram *histogram, unsigned permille);
