#include "config/size.h"

#include <errno.h>
#include <string.h>

#include "base/span.h"

int size_parse(const char *text, uint64_t *ret_bytes)
{
    static const char suffixes[] = "KMGT";
    struct span number = span_of(text);
    uint64_t value, unit = 1;
    const char *suffix;

    if (number.length > 0 && (suffix = strchr(suffixes, text[number.length - 1]))) {
        number.length--;
        unit = UINT64_C(1024) << (10 * (suffix - suffixes));
    }
    int r = span_to_u64(number, &value);
    if (r < 0)
        return r;
    if (__builtin_mul_overflow(value, unit, &value))
        return -ERANGE;
    *ret_bytes = value;
    return 0;
}
