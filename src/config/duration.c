#include "config/duration.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/span.h"

#define USEC_PER_MINUTE (60 * USEC_PER_SEC)
#define USEC_PER_HOUR (60 * USEC_PER_MINUTE)
#define USEC_PER_DAY (24 * USEC_PER_HOUR)
#define USEC_PER_WEEK (7 * USEC_PER_DAY)
#define USEC_PER_MONTH (UINT64_C(2629800) * USEC_PER_SEC) /* 30.44 days, as systemd counts it */
#define USEC_PER_YEAR (UINT64_C(31557600) * USEC_PER_SEC) /* 365.25 days */

static const struct {
    const char *name;
    uint64_t usec;
} units[] = {
    {"us", 1},
    {"usec", 1},
    {"\xc2\xb5s", 1}, /* U+00B5 micro sign */
    {"\xce\xbcs", 1}, /* U+03BC Greek small letter mu */
    {"ms", USEC_PER_MSEC},
    {"msec", USEC_PER_MSEC},
    {"", USEC_PER_SEC},
    {"s", USEC_PER_SEC},
    {"sec", USEC_PER_SEC},
    {"second", USEC_PER_SEC},
    {"seconds", USEC_PER_SEC},
    {"m", USEC_PER_MINUTE},
    {"min", USEC_PER_MINUTE},
    {"minute", USEC_PER_MINUTE},
    {"minutes", USEC_PER_MINUTE},
    {"h", USEC_PER_HOUR},
    {"hr", USEC_PER_HOUR},
    {"hour", USEC_PER_HOUR},
    {"hours", USEC_PER_HOUR},
    {"d", USEC_PER_DAY},
    {"day", USEC_PER_DAY},
    {"days", USEC_PER_DAY},
    {"w", USEC_PER_WEEK},
    {"week", USEC_PER_WEEK},
    {"weeks", USEC_PER_WEEK},
    {"M", USEC_PER_MONTH},
    {"month", USEC_PER_MONTH},
    {"months", USEC_PER_MONTH},
    {"y", USEC_PER_YEAR},
    {"year", USEC_PER_YEAR},
    {"years", USEC_PER_YEAR},
};

static const char digits[] = "0123456789", blanks[] = " \t";

/* Cuts "NUMBER [UNIT]" and the blanks behind it off *text. */
static int cut_term(const char **text, uint64_t *ret_usec)
{
    struct span number = {*text, strspn(*text, digits)};
    const char *unit = *text + number.length;
    uint64_t value;

    unit += strspn(unit, blanks);
    size_t length = strcspn(unit, "0123456789 \t");
    int r = span_to_u64(number, &value);
    if (r < 0)
        return r;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (!span_equal(span_of(units[i].name), (struct span){unit, length}))
            continue;
        *text = unit + length + strspn(unit + length, blanks);
        return __builtin_mul_overflow(value, units[i].usec, ret_usec) ? -ERANGE : 0;
    }
    return -EINVAL;
}

int duration_parse(const char *text, uint64_t *ret_usec)
{
    uint64_t sum = 0, term;

    text += strspn(text, blanks);
    if (span_equal(span_trim(span_of(text)), SPAN("infinity"))) {
        *ret_usec = USEC_INFINITY;
        return 0;
    }
    do {
        int r = cut_term(&text, &term);
        if (r < 0)
            return r;
        if (__builtin_add_overflow(sum, term, &sum) || sum == USEC_INFINITY)
            return -ERANGE;
    } while (*text);
    *ret_usec = sum;
    return 0;
}
