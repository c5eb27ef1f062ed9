#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/load_histogram.c" /* the load client is a program: nothing to link with */

static void test_steps(void **state)
{
    (void)state;
    for (unsigned step = 0; step + 1 < HISTOGRAM_STEPS; step++) {
        assert_int_equal(step_of(step_end(step)), step);
        assert_int_equal(step_of(step_end(step) + 1), step + 1);
    }
    assert_int_equal(step_of(VALUE_MAX), HISTOGRAM_STEPS - 1);
    assert_int_equal(step_of(UINT64_MAX), HISTOGRAM_STEPS - 1);
}

static void test_precision(void **state)
{
    (void)state;
    for (uint64_t value = 1; value < VALUE_MAX; value += 1 + value / 7) {
        uint64_t end = step_end(step_of(value));
        assert_in_range(end, value, value + value / 128);
    }
}

static struct histogram *make(void)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);

    assert_non_null(histogram);
    return histogram;
}

static void test_percentiles(void **state)
{
    static const struct {
        unsigned permille;
        uint64_t value;
    } cases[] = {
        {0, 1}, {1, 1}, {500, 100}, {505, 101}, {900, 180}, {990, 198}, {999, 200}, {1000, 200}};
    struct histogram *histogram = make(), *half = make();

    (void)state;
    assert_int_equal(histogram_percentile(histogram, 500), 0);
    for (uint64_t value = 200; value > 0; value--)
        histogram_add(value % 2 ? histogram : half, value);
    histogram_merge(histogram, half);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(histogram_percentile(histogram, cases[i].permille), cases[i].value);
    assert_int_equal(histogram->count, 200);
    assert_int_equal(histogram->sum, 200 * 201 / 2);
    assert_int_equal(histogram->max, 200);
    free(histogram);
    free(half);
}

static void test_maximum_bounds_percentiles(void **state)
{
    struct histogram *histogram = make();

    (void)state;
    histogram_add(histogram, 1000001);
    assert_int_equal(histogram_percentile(histogram, 500), 1000001);
    histogram_add(histogram, UINT64_MAX / 2);
    assert_int_equal(histogram->max, UINT64_MAX / 2);
    assert_int_equal(histogram_percentile(histogram, 999), VALUE_MAX);
    free(histogram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_precision),
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_maximum_bounds_percentiles),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
