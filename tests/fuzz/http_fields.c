/*
 * Field values: Range, dates, Accept-Encoding and the preconditions, with anything in them.
 *
 * Each line of the input is a field: its first byte chooses the name, the rest is the value.
 */
#include <stdlib.h>
#include <string.h>

#include "http/accept.h"
#include "http/date.h"
#include "http/precondition.h"
#include "http/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW 1700000000
#define RANGES 8

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_range(struct span value, uint64_t size)
{
    struct range ranges[RANGES];
    size_t count = RANGES;
    int result = range_parse(value, size, ranges, &count);

    require((result == RANGE_PARTIAL) == (count > 0) && count <= RANGES);
    for (size_t i = 0; i < count; i++) {
        require(ranges[i].length > 0 && ranges[i].offset < size);
        require(ranges[i].length <= size - ranges[i].offset);
    }
}

static void check_date(struct span value)
{
    char text[DATE_TEXT_MAX];
    time_t time, again;

    if (date_parse(value, NOW, &time) < 0 || time > INT64_C(253402300799)) /* a leap second */
        return;
    date_format(time, text);
    require(strlen(text) == DATE_TEXT_MAX - 1);
    require(date_parse(span_of(text), NOW, &again) == 0 && again == time);
}

static void check_accept(const struct request *request)
{
    enum coding accepted[CODING_COUNT];
    size_t count = accept_codings(request, accepted);
    bool seen[CODING_COUNT] = {false};

    require(count <= CODING_COUNT);
    for (size_t i = 0; i < count; i++) {
        require(accepted[i] < CODING_COUNT && !seen[accepted[i]]);
        seen[accepted[i]] = true;
    }
}

static void check_preconditions(struct request *request)
{
    static const struct span etags[] = {SPAN("\"a\""), SPAN("W/\"a\""), {NULL, 0}};

    for (size_t i = 0; i < sizeof etags / sizeof *etags; i++) {
        int result = precondition_check(request, etags[i], 784111777, NOW);
        require(result == PRECONDITION_PASSED || result == PRECONDITION_FAILED ||
                result == PRECONDITION_NOT_MODIFIED);
        require(result != PRECONDITION_NOT_MODIFIED || request->method == METHOD_GET);
        (void)precondition_range_applies(request, etags[i], 784111777, NOW);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"Accept-Encoding", "If-Match", "If-None-Match",
        "If-Modified-Since", "If-Unmodified-Since", "If-Range"};
    static struct request request;
    char *copy = malloc(size + 1); /* its end is watched */
    struct span rest = {copy, size};

    require(copy);
    memcpy(copy, data, size);
    copy[size] = '\n';
    request.method = size % 2 ? METHOD_GET : METHOD_PUT;
    request.field_count = 0;
    while (rest.length > 0 && request.field_count < REQUEST_FIELDS_MAX) {
        struct span value = span_cut(&rest, '\n');
        if (value.length == 0)
            continue;
        size_t name = (unsigned char)*value.at++ % (sizeof names / sizeof *names);
        value.length--;
        check_range(value, 0);
        check_range(value, 1000);
        check_range(value, UINT64_MAX);
        check_date(value);
        request.fields[request.field_count++] =
            (struct field){.name = span_of(names[name]), .value = span_trim(value)};
    }
    check_accept(&request);
    check_preconditions(&request);
    free(copy);
    return 0;
}
