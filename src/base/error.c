#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

int reason_set(struct reason *reason, int error, const char *format, ...)
{
    if (reason) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(reason->text, sizeof reason->text, format, arguments); /* cut if too long */
        va_end(arguments);
    }
    return error;
}
