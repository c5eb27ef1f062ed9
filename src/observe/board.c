#include "observe/board.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

static const char magic[8] = "BATONBRD";

#define PAUSES_AT (sizeof(struct board_head) + BOARD_SLOTS * sizeof(struct board_slot))
#define BACKENDS_AT (PAUSES_AT + BOARD_PAUSES * sizeof(struct board_pause))
#define BOARD_SIZE (BACKENDS_AT + BOARD_BACKENDS * sizeof(struct board_backend))

static int map(int fd, struct board *ret)
{
    void *memory = mmap(NULL, BOARD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (memory == MAP_FAILED)
        return -errno;
    ret->fd = fd;
    ret->head = memory;
    ret->slots = (struct board_slot *)(ret->head + 1);
    ret->pauses = (struct board_pause *)((char *)memory + PAUSES_AT);
    ret->backends = (struct board_backend *)((char *)memory + BACKENDS_AT);
    return 0;
}

int board_create(struct board *ret)
{
    CLEANUP_FD int fd = memfd_create("baton-board", MFD_CLOEXEC);
    struct timespec now;

    if (fd < 0 || ftruncate(fd, (off_t)BOARD_SIZE) < 0)
        return -errno;
    int r = map(fd, ret);
    if (r < 0)
        return r;
    (void)TAKE_FD(fd);
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    memcpy(ret->head->magic, magic, sizeof magic);
    ret->head->version = BOARD_VERSION;
    ret->head->started_usec = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    return 0;
}

int board_open(int fd, struct board *ret)
{
    struct board board = {.fd = -1};
    struct stat status;

    if (fstat(fd, &status) < 0)
        return -errno;
    if (status.st_size != (off_t)BOARD_SIZE)
        return -EINVAL;
    int r = map(fd, &board);
    if (r < 0)
        return r;
    if (memcmp(board.head->magic, magic, sizeof magic) != 0 ||
        board.head->version != BOARD_VERSION) {
        (void)munmap(board.head, BOARD_SIZE);
        return -EINVAL;
    }
    *ret = board;
    return 0;
}

void board_unmap(struct board *board)
{
    if (board->head)
        (void)munmap(board->head, BOARD_SIZE);
    *board = (struct board){.fd = -1};
}

void board_close(struct board *board)
{
    fd_close(board->fd);
    board_unmap(board);
}

unsigned board_take_slot(struct board *board)
{
    for (unsigned i = 1; i < BOARD_SLOTS; i++) {
        struct board_slot *slot = &board->slots[i];
        if (slot->state == BOARD_FREE) {
            memset(slot, 0, sizeof *slot);
            slot->state = BOARD_STARTING;
            return i;
        }
    }
    return 0;
}

/* The slot comes last: from then on another worker may take the entry. */
static void free_backend(struct board_backend *backend)
{
    memset((char *)backend + sizeof backend->slot, 0, sizeof *backend - sizeof backend->slot);
    __atomic_store_n(&backend->slot, 0, __ATOMIC_RELEASE);
}

void board_release_slot(struct board *board, unsigned number)
{
    struct board_slot *slot = &board->slots[number];
    uint32_t used = __atomic_load_n(&board->head->backends, __ATOMIC_ACQUIRE);

    for (uint32_t i = 0; i < used && i < BOARD_BACKENDS; i++)
        if (__atomic_load_n(&board->backends[i].slot, __ATOMIC_RELAXED) == number)
            free_backend(&board->backends[i]);

    slot->counters.values[COUNTER_END_CRASHED] += counters_open(&slot->counters);
    counters_add(&board->slots[0].counters, &slot->counters);
    memset(slot, 0, sizeof *slot);
}

void board_sum(const struct board *board, struct counters *ret)
{
    *ret = board->slots[0].counters;
    for (unsigned i = 1; i < BOARD_SLOTS; i++)
        if (board->slots[i].state != BOARD_FREE)
            counters_add(ret, &board->slots[i].counters);
}
