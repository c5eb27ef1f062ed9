#include "http/date.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Of our own, because strftime(3) and strptime(3) speak the locale's language. */
static const char days[7][10] = {
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char months[12][4] = {
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/* What the four digits of a year can say: 0000-01-01 to 9999-12-31. */
#define FIRST INT64_C(-62167219200)
#define LAST INT64_C(253402300799)

static void put_number(char *at, int number, int digits)
{
    while (digits-- > 0) {
        at[digits] = (char)('0' + number % 10);
        number /= 10;
    }
}

void date_format(time_t time, char text[static DATE_TEXT_MAX])
{
    struct tm tm;

    if (time < FIRST)
        time = FIRST;
    if (time > LAST)
        time = LAST;
    (void)gmtime_r(&time, &tm); /* cannot fail between those */
    memcpy(text, "Day, 00 Mon 0000 00:00:00 GMT", DATE_TEXT_MAX);
    memcpy(text, days[tm.tm_wday], 3);
    put_number(text + 5, tm.tm_mday, 2);
    memcpy(text + 8, months[tm.tm_mon], 3);
    put_number(text + 12, tm.tm_year + 1900, 4);
    put_number(text + 17, tm.tm_hour, 2);
    put_number(text + 20, tm.tm_min, 2);
    put_number(text + 23, tm.tm_sec, 2);
}

/* Each takes its part off the front of *rest, or returns false. */

static bool take(struct span *rest, struct span text)
{
    if (!span_starts(*rest, text))
        return false;
    rest->at += text.length;
    rest->length -= text.length;
    return true;
}

static bool take_number(struct span *rest, size_t digits, int *ret)
{
    uint64_t number;

    if (rest->length < digits || span_to_u64((struct span){rest->at, digits}, &number) < 0)
        return false;
    *ret = (int)number;
    rest->at += digits;
    rest->length -= digits;
    return true;
}

/* The first three letters of a day's name, or all of it. Whether it is the right day, nobody asks.
 */
static bool take_day(struct span *rest, bool whole)
{
    for (size_t i = 0; i < 7; i++)
        if (take(rest, (struct span){days[i], whole ? strlen(days[i]) : 3}))
            return true;
    return false;
}

static bool take_month(struct span *rest, struct tm *tm)
{
    for (int i = 0; i < 12; i++)
        if (take(rest, (struct span){months[i], 3})) {
            tm->tm_mon = i;
            return true;
        }
    return false;
}

static bool take_time(struct span *rest, struct tm *tm)
{
    return take_number(rest, 2, &tm->tm_hour) && take(rest, SPAN(":")) &&
           take_number(rest, 2, &tm->tm_min) && take(rest, SPAN(":")) &&
           take_number(rest, 2, &tm->tm_sec);
}

static bool take_year(struct span *rest, struct tm *tm)
{
    int year;

    if (!take_number(rest, 4, &year))
        return false;
    tm->tm_year = year - 1900;
    return true;
}

/* The year with those last digits that is less than 50 years ago or at most 50 years ahead. */
static bool take_short_year(struct span *rest, time_t now, struct tm *tm)
{
    struct tm today;
    int year;

    if (!take_number(rest, 2, &year) || !gmtime_r(&now, &today) || today.tm_year > 9999 - 1900 ||
        today.tm_year < -1900)
        return false;
    year += today.tm_year - today.tm_year % 100;
    if (year > today.tm_year + 50)
        year -= 100;
    else if (year <= today.tm_year - 50)
        year += 100;
    tm->tm_year = year;
    return true;
}

/* Sun, 06 Nov 1994 08:49:37 GMT */
static bool read_fixdate(struct span text, struct tm *tm)
{
    return take_day(&text, false) && take(&text, SPAN(", ")) &&
           take_number(&text, 2, &tm->tm_mday) && take(&text, SPAN(" ")) && take_month(&text, tm) &&
           take(&text, SPAN(" ")) && take_year(&text, tm) && take(&text, SPAN(" ")) &&
           take_time(&text, tm) && take(&text, SPAN(" GMT")) && text.length == 0;
}

/* Sunday, 06-Nov-94 08:49:37 GMT */
static bool read_rfc850(struct span text, time_t now, struct tm *tm)
{
    return take_day(&text, true) && take(&text, SPAN(", ")) &&
           take_number(&text, 2, &tm->tm_mday) && take(&text, SPAN("-")) && take_month(&text, tm) &&
           take(&text, SPAN("-")) && take_short_year(&text, now, tm) && take(&text, SPAN(" ")) &&
           take_time(&text, tm) && take(&text, SPAN(" GMT")) && text.length == 0;
}

/* Sun Nov  6 08:49:37 1994 */
static bool read_asctime(struct span text, struct tm *tm)
{
    return take_day(&text, false) && take(&text, SPAN(" ")) && take_month(&text, tm) &&
           take(&text, SPAN(" ")) &&
           take_number(&text, take(&text, SPAN(" ")) ? 1 : 2, &tm->tm_mday) &&
           take(&text, SPAN(" ")) && take_time(&text, tm) && take(&text, SPAN(" ")) &&
           take_year(&text, tm) && text.length == 0;
}

int date_parse(struct span text, time_t now, time_t *ret)
{
    struct tm tm = {0};

    if (!read_fixdate(text, &tm) && !read_rfc850(text, now, &tm) && !read_asctime(text, &tm))
        return -EINVAL;
    if (tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60) /* 60: a leap second */
        return -EINVAL;
    struct tm day = {.tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = tm.tm_mday};
    time_t time = timegm(&day);
    if (day.tm_mday != tm.tm_mday) /* the month has no such day */
        return -EINVAL;
    *ret = time + tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec;
    return 0;
}
