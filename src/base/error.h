#pragma once

/*
 * Errors
 *
 * Every function that can fail returns an int:
 *     0   success
 *     <0  a negative errno: fatal for the operation, forwarded unchanged to main or to the role
 *     >0  a case the function documents by name and its caller must handle; never forwarded
 *
 * Libraries return, they never log. What an admin must read travels in a struct reason, filled
 * where the cause is known and printed where the decision is made.
 */

struct reason {
    char text[512];
};

/*
 * Writes why something failed into @reason (NULL: nobody asked) and returns @error, so that the
 * place that knows the cause ends with `return reason_set(reason, -EINVAL, "...")`. A text too long
 * is cut.
 */
int reason_set(struct reason *reason, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
