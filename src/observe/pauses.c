#include "observe/pauses.h"

#include <errno.h>
#include <string.h>

/* Read once: the supervisor may be writing. */
static uint64_t end_of(const struct board_pause *pause)
{
    return __atomic_load_n(&pause->until_usec, __ATOMIC_ACQUIRE);
}

static bool is_of(const struct board_pause *pause, const char *upstream)
{
    return strncmp(pause->upstream, upstream, sizeof pause->upstream) == 0;
}

const struct board_pause *pauses_find(
    const struct board *board, const char *upstream, uint64_t now_usec)
{
    for (size_t i = 0; i < BOARD_PAUSES; i++)
        if (end_of(&board->pauses[i]) > now_usec && is_of(&board->pauses[i], upstream))
            return &board->pauses[i];
    return NULL;
}

/* That of this upstream, also when it is over; else one that is free. */
static struct board_pause *find_place(struct board *board, const char *upstream)
{
    struct board_pause *place = NULL;

    for (size_t i = 0; i < BOARD_PAUSES; i++) {
        struct board_pause *pause = &board->pauses[i];
        if (pause->until_usec == 0 && !place)
            place = pause;
        if (pause->until_usec != 0 && is_of(pause, upstream))
            return pause;
    }
    return place;
}

int pauses_set(struct board *board, const char *upstream, uint64_t now_usec, uint64_t until_usec)
{
    struct board_pause *pause = find_place(board, upstream);
    size_t length = strlen(upstream);

    if (length >= sizeof pause->upstream)
        return -ENAMETOOLONG;
    if (!pause)
        return -ENOSPC;
    if (pause->until_usec <= now_usec)
        pause->since_usec = now_usec;
    if (pause->until_usec == 0)
        memcpy(pause->upstream, upstream, length + 1);
    __atomic_store_n(&pause->until_usec, until_usec, __ATOMIC_RELEASE);
    return 0;
}

void pauses_clear(struct board *board, const char *upstream)
{
    for (size_t i = 0; i < BOARD_PAUSES; i++)
        if (board->pauses[i].until_usec != 0 && is_of(&board->pauses[i], upstream))
            __atomic_store_n(&board->pauses[i].until_usec, 0, __ATOMIC_RELEASE);
}

const struct board_pause *pauses_first(const struct board *board)
{
    const struct board_pause *first = NULL;

    for (size_t i = 0; i < BOARD_PAUSES; i++) {
        const struct board_pause *pause = &board->pauses[i];
        if (pause->until_usec != 0 && (!first || pause->until_usec < first->until_usec))
            first = pause;
    }
    return first;
}
