#pragma once

#include <stdint.h>

#include "load_quantity.h"

/*
 * Random numbers that a seed repeats: xorshift64*, Vigna 2016. The state must not be 0: of that it
 * makes 0 for ever.
 */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

static inline uint64_t random_between(uint64_t *state, struct range range)
{
    return range.low + (random_next(state) >> 11) % (range.high - range.low + 1);
}
