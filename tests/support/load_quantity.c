#include "load_quantity.h"

#include <errno.h>
#include <stddef.h>

#include "base/clock.h"

#define DURATION_MAX (366 * 24 * 60 * 60 * USEC_PER_SEC)

struct unit {
    struct span name;
    uint64_t factor;
};

/* "50ms" → 50 and "ms" */
static int split(struct span text, uint64_t *ret_number, struct span *ret_unit)
{
    struct span digits = {text.at, 0};

    while (digits.length < text.length && text.at[digits.length] >= '0' &&
           text.at[digits.length] <= '9')
        digits.length++;
    *ret_unit = (struct span){text.at + digits.length, text.length - digits.length};
    return span_to_u64(digits, ret_number);
}

static int scale(uint64_t number, struct span unit, const struct unit *units, uint64_t *ret)
{
    for (; units->factor > 0; units++) {
        if (!span_equal(unit, units->name))
            continue;
        return __builtin_mul_overflow(number, units->factor, ret) ? -ERANGE : 0;
    }
    return -EINVAL;
}

static int scale_duration(uint64_t number, struct span unit, uint64_t *ret)
{
    static const struct unit units[] = {
        {SPAN("us"), 1},
        {SPAN("ms"), USEC_PER_MSEC},
        {SPAN("s"), USEC_PER_SEC},
        {SPAN("min"), 60 * USEC_PER_SEC},
        {{NULL, 0}, 0},
    };

    if (number == 0 && unit.length == 0) { /* zero needs no unit */
        *ret = 0;
        return 0;
    }
    int r = scale(number, unit, units, ret);
    return r == 0 && *ret > DURATION_MAX ? -ERANGE : r;
}

int quantity_duration(struct span text, uint64_t *ret_usec)
{
    struct span unit;
    uint64_t number;
    int r = split(text, &number, &unit);

    return r < 0 ? r : scale_duration(number, unit, ret_usec);
}

int quantity_size(struct span text, uint64_t *ret)
{
    static const struct unit units[] = {
        {SPAN(""), 1},
        {SPAN("K"), UINT64_C(1) << 10},
        {SPAN("M"), UINT64_C(1) << 20},
        {SPAN("G"), UINT64_C(1) << 30},
        {{NULL, 0}, 0},
    };
    struct span unit;
    uint64_t number;
    int r = split(text, &number, &unit);

    return r < 0 ? r : scale(number, unit, units, ret);
}

static int set_range(uint64_t low, uint64_t high, struct range *ret)
{
    if (high < low)
        return -EINVAL;
    *ret = (struct range){low, high};
    return 0;
}

int quantity_range(struct span text, struct range *ret)
{
    struct span rest = text, first = span_cut(&rest, '-');
    uint64_t low, high;
    int r = span_to_u64(first, &low);

    if (r == 0)
        r = span_to_u64(rest.at ? rest : first, &high);
    return r < 0 ? r : set_range(low, high, ret);
}

int quantity_size_range(struct span text, struct range *ret)
{
    struct span rest = text, first = span_cut(&rest, '-');
    uint64_t low, high;
    int r = quantity_size(first, &low);

    if (r == 0)
        r = quantity_size(rest.at ? rest : first, &high);
    return r < 0 ? r : set_range(low, high, ret);
}

int quantity_duration_range(struct span text, struct range *ret_usec)
{
    struct span rest = text, first = span_cut(&rest, '-'), low_unit, high_unit;
    uint64_t low, high;
    int r = split(first, &low, &low_unit);

    if (r == 0)
        r = split(rest.at ? rest : first, &high, &high_unit);
    if (r == 0)
        r = scale_duration(low, low_unit.length > 0 ? low_unit : high_unit, &low);
    if (r == 0)
        r = scale_duration(high, high_unit, &high);
    return r < 0 ? r : set_range(low, high, ret_usec);
}
