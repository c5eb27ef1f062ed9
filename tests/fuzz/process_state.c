/*
 * A state: what is accepted is complete, within its bounds, and formats to a text that reads back
 * as the same state, which formats to the same text.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "process/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void check_accepted(const struct state *state)
{
    assert(state->binary && state->ours && state->nonce);
    assert(state->board >= 3 && state->inbox_read >= 3 && state->inbox_write >= 3);
    assert(state->control == -1 || state->control >= 3);
    assert(state->worker_count <= STATE_WORKERS_MAX);
    assert(state->connection_count <= STATE_CONNECTIONS_MAX);
    for (size_t i = 0; i < state->worker_count; i++) {
        const struct state_worker *worker = &state->workers[i];
        assert(worker->pid >= 1 && worker->number >= 1 && worker->channel >= 3);
        assert(worker->slot >= 1 && worker->slot < BOARD_SLOTS);
    }
    for (size_t i = 0; i < state->connection_count; i++)
        assert(state->connections[i].fd >= 3 && state->connections[i].role <= STATE_QUEUED);
}

static void check_both_ways(const struct state *state)
{
    CLEANUP_BUFFER struct buffer first = {0}, second = {0};
    CLEANUP_STATE struct state again;

    state_init(&again);
    assert(state_format(state, &first) == 0);
    assert(state_parse(buffer_span(&first), &again, NULL) == 0);
    check_accepted(&again);
    assert(state_format(&again, &second) == 0);
    assert(span_equal(buffer_span(&first), buffer_span(&second)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct reason reason = {""};
    CLEANUP_STATE struct state state;

    state_init(&state);
    int r = state_parse((struct span){(const char *)bytes, length}, &state, &reason);
    assert(r == 0 || r == -EINVAL || r == -EPROTONOSUPPORT);
    assert((r == 0) == (reason.text[0] == '\0'));
    if (r == 0) {
        check_accepted(&state);
        check_both_ways(&state);
    }
    return 0;
}
