#include "observe/board.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

static struct board board;

static int set_up(void **state)
{
    (void)state;
    return board_create(&board);
}

static int tear_down(void **state)
{
    (void)state;
    board_close(&board);
    return 0;
}

/* Workers of another build write into it. */
static void test_layout(void **state)
{
    (void)state;
    assert_int_equal(offsetof(struct board_head, magic), 0);
    assert_int_equal(offsetof(struct board_head, version), 8);
    assert_int_equal(offsetof(struct board_head, stopping), 12);
    assert_int_equal(offsetof(struct board_head, generation), 16);
    assert_int_equal(offsetof(struct board_head, reloads), 20);
    assert_int_equal(offsetof(struct board_head, reloads_refused), 24);
    assert_int_equal(offsetof(struct board_head, worker_crashes), 28);
    assert_int_equal(offsetof(struct board_head, started_usec), 32);
    assert_int_equal(offsetof(struct board_head, parking), 40);
    assert_int_equal(offsetof(struct board_head, backends), 44);
    assert_int_equal(sizeof(struct board_head), 104);
    assert_int_equal(offsetof(struct board_slot, state), 0);
    assert_int_equal(offsetof(struct board_slot, pid), 4);
    assert_int_equal(offsetof(struct board_slot, generation), 8);
    assert_int_equal(offsetof(struct board_slot, worker), 12);
    assert_int_equal(offsetof(struct board_slot, counters), 16);
    assert_int_equal(sizeof(struct board_slot), 528);
    assert_int_equal(BOARD_SLOTS, 1024);
    assert_int_equal(offsetof(struct board_pause, until_usec), 0);
    assert_int_equal(offsetof(struct board_pause, since_usec), 8);
    assert_int_equal(offsetof(struct board_pause, upstream), 16);
    assert_int_equal(sizeof(struct board_pause), 272);
    assert_int_equal(BOARD_PAUSES, 64);
    assert_int_equal(offsetof(struct board_backend, slot), 0);
    assert_int_equal(offsetof(struct board_backend, number), 4);
    assert_int_equal(offsetof(struct board_backend, state), 8);
    assert_int_equal(offsetof(struct board_backend, waiting), 12);
    assert_int_equal(offsetof(struct board_backend, lent), 16);
    assert_int_equal(offsetof(struct board_backend, idle), 20);
    assert_int_equal(offsetof(struct board_backend, avoided_until_usec), 24);
    assert_int_equal(offsetof(struct board_backend, requests), 32);
    assert_int_equal(offsetof(struct board_backend, failures), 40);
    assert_int_equal(offsetof(struct board_backend, upstream), 48);
    assert_int_equal(offsetof(struct board_backend, server), 304);
    assert_int_equal(sizeof(struct board_backend), 752);
    assert_int_equal(BOARD_BACKENDS, 4096);
}

/* Each table is where the one before it ends, and the last byte is there. */
static void test_tables(void **state)
{
    struct stat status;

    (void)state;
    assert_ptr_equal(board.slots, board.head + 1);
    assert_ptr_equal(board.pauses, board.slots + BOARD_SLOTS);
    assert_ptr_equal(board.backends, board.pauses + BOARD_PAUSES);
    assert_int_equal(fstat(board.fd, &status), 0);
    assert_ptr_equal((char *)board.head + status.st_size, board.backends + BOARD_BACKENDS);
    assert_int_equal(board.backends[BOARD_BACKENDS - 1].slot, 0);
    assert_in_range(status.st_blocks * 512, 0, 16384); /* what nobody uses takes no memory */
}

static void test_create(void **state)
{
    struct timespec now;
    struct counters sums;

    (void)state;
    assert_int_equal(fcntl(board.fd, F_GETFD), FD_CLOEXEC);
    assert_memory_equal(board.head->magic, "BATONBRD", 8);
    assert_int_equal(board.head->version, BOARD_VERSION);
    assert_int_equal(board.head->generation, 0);
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
    uint64_t ago = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    assert_in_range(board.head->started_usec, ago - 60000000, ago);
    board_sum(&board, &sums);
    for (unsigned i = 0; i < COUNTER_MAX; i++)
        assert_int_equal(sums.values[i], 0);
}

static void test_slots(void **state)
{
    (void)state;
    for (unsigned i = 1; i < BOARD_SLOTS; i++) {
        board.slots[i].pid = 42; /* left over from whoever wrote past its end */
        assert_int_equal(board_take_slot(&board), i);
        assert_int_equal(board.slots[i].state, BOARD_STARTING);
        assert_int_equal(board.slots[i].pid, 0);
    }
    assert_int_equal(board_take_slot(&board), 0);
    board_release_slot(&board, 500);
    board_release_slot(&board, 7);
    assert_int_equal(board_take_slot(&board), 7);
    assert_int_equal(board_take_slot(&board), 500);
    assert_int_equal(board_take_slot(&board), 0);
}

static void test_release_keeps_the_counts(void **state)
{
    unsigned first = board_take_slot(&board), second = board_take_slot(&board);
    uint64_t *values = board.slots[first].counters.values;
    struct counters sums;

    (void)state;
    values[COUNTER_ACCEPTED] = 10;
    values[COUNTER_REQUESTS] = 100;
    values[COUNTER_END_CLIENT] = 7;
    board.slots[second].counters.values[COUNTER_REQUESTS] = 11;
    board.slots[second].counters.values[COUNTER_ACCEPTED] = 2;
    board_release_slot(&board, first);
    assert_int_equal(board.slots[first].state, BOARD_FREE);
    assert_int_equal(values[COUNTER_REQUESTS], 0);
    board_sum(&board, &sums);
    assert_int_equal(sums.values[COUNTER_ACCEPTED], 12);
    assert_int_equal(sums.values[COUNTER_REQUESTS], 111);
    assert_int_equal(sums.values[COUNTER_END_CLIENT], 7);
    assert_int_equal(sums.values[COUNTER_END_CRASHED], 3); /* they were open, and are not now */
    assert_int_equal(counters_open(&sums), 2);
    assert_int_equal(board.slots[0].counters.values[COUNTER_REQUESTS], 100);
    values[COUNTER_REQUESTS] = 1; /* a slot that nobody has does not count */
    board_sum(&board, &sums);
    assert_int_equal(sums.values[COUNTER_REQUESTS], 111);
}

/* As another process, or the next image of this one, has it. */
static void test_shared(void **state)
{
    struct board other;

    (void)state;
    assert_int_equal(board_open(dup(board.fd), &other), 0);
    assert_ptr_not_equal(other.head, board.head);
    unsigned slot = board_take_slot(&board);
    other.slots[slot].counters.values[COUNTER_REQUESTS]++;
    other.head->stopping = 1;
    assert_int_equal(board.slots[slot].counters.values[COUNTER_REQUESTS], 1);
    assert_int_equal(board.head->stopping, 1);
    int fd = other.fd;
    board_unmap(&other);
    assert_null(other.head);
    assert_int_equal(other.fd, -1);
    assert_int_equal(board_open(fd, &other), 0); /* unmapping left it open */
    assert_int_equal(other.slots[slot].counters.values[COUNTER_REQUESTS], 1);
    board_close(&other);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    board_close(&other);
    board_unmap(&other); /* none is allowed */
}

static void assert_refused(int fd, int error)
{
    struct board ret = {.fd = 42};

    assert_int_equal(board_open(fd, &ret), error);
    assert_int_equal(ret.fd, 42);
}

static void test_open_others(void **state)
{
    struct stat status;
    CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)state;
    assert_refused(-1, -EBADF);
    assert_refused(null, -EINVAL);
    board.head->version = BOARD_VERSION + 1;
    assert_refused(board.fd, -EINVAL);
    board.head->version = BOARD_VERSION;
    board.head->magic[7] = 'x';
    assert_refused(board.fd, -EINVAL);
    board.head->magic[7] = 'D';
    assert_int_equal(fstat(board.fd, &status), 0);
    assert_int_equal(ftruncate(board.fd, status.st_size + 1), 0);
    assert_refused(board.fd, -EINVAL);
    assert_int_equal(ftruncate(board.fd, status.st_size), 0);
    struct board again;
    assert_int_equal(board_open(board.fd, &again), 0);
    board_unmap(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test_setup_teardown(test_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_create, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_release_keeps_the_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_others, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
