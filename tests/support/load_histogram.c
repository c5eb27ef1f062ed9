#include "load_histogram.h"

#define LINEAR_BITS 7
#define VALUE_MAX ((UINT64_C(1) << 41) - 1)

static unsigned step_of(uint64_t value)
{
    if (value < 2u << LINEAR_BITS)
        return (unsigned)value;
    if (value > VALUE_MAX)
        value = VALUE_MAX;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - LINEAR_BITS;
    return (shift << LINEAR_BITS) + (unsigned)(value >> shift);
}

/* The largest value that falls into @step. */
static uint64_t step_end(unsigned step)
{
    if (step < 2u << LINEAR_BITS)
        return step;
    unsigned shift = (step >> LINEAR_BITS) - 1;
    return ((UINT64_C(1) + step - (shift << LINEAR_BITS)) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->steps[step_of(value)]++;
}

void histogram_merge(struct histogram *sum, const struct histogram *other)
{
    sum->count += other->count;
    sum->sum += other->sum;
    if (other->max > sum->max)
        sum->max = other->max;
    for (unsigned i = 0; i < HISTOGRAM_STEPS; i++)
        sum->steps[i] += other->steps[i];
}

uint64_t histogram_percentile(const struct histogram *histogram, unsigned permille)
{
    uint64_t rank = (histogram->count * permille + 999) / 1000, seen = 0;

    if (rank == 0)
        rank = 1;
    for (unsigned i = 0; i < HISTOGRAM_STEPS; i++) {
        seen += histogram->steps[i];
        if (seen >= rank)
            return step_end(i) < histogram->max ? step_end(i) : histogram->max;
    }
    return histogram->max;
}
