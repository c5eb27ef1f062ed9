#include "upstream/upstreams.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "observe/pauses.h"

struct upstreams {
    struct resolver *resolver; /* NULL: all servers have addresses */
    struct upstream **items;
    size_t count;
    struct upstream *stand_in;
};

/* What holds for a backend whose upstream was removed from the configuration. */
static const struct config_upstream stand_in_config = {
    .name = (char *)"removed",
    .send_timeout_usec = 60 * USEC_PER_SEC,
    .response_timeout_usec = 60 * USEC_PER_SEC,
    .tunnel_timeout_usec = 3600 * USEC_PER_SEC,
};

static bool needs_resolver(const struct config *config)
{
    for (size_t i = 0; i < config->upstream_count; i++)
        for (size_t j = 0; j < config->upstreams[i].server_count; j++)
            if (config->upstreams[i].servers[j].host)
                return true;
    return false;
}

static int fill(struct upstreams *upstreams, const struct config *config, struct ev_loop *loop,
    struct counters *counters, struct backends *backends, struct reason *reason)
{
    int r = needs_resolver(config) ? resolver_new(loop, &upstreams->resolver, reason) : 0;

    upstreams->items = calloc(config->upstream_count + 1, sizeof *upstreams->items);
    if (r == 0 && !upstreams->items)
        return reason_set(reason, -ENOMEM, "out of memory");
    for (size_t i = 0; i < config->upstream_count && r == 0; i++) {
        r = upstream_new(&config->upstreams[i], loop, upstreams->resolver, counters, backends,
            &upstreams->items[i], reason);
        upstreams->count += r == 0;
    }
    if (r == 0)
        r = upstream_new(
            &stand_in_config, loop, NULL, counters, NULL, &upstreams->stand_in, reason);
    return r;
}

int upstreams_new(const struct config *config, struct ev_loop *loop, struct counters *counters,
    const struct board *board, unsigned slot, struct upstreams **ret, struct reason *reason)
{
    struct upstreams *upstreams = calloc(1, sizeof *upstreams);
    struct backends backends;

    backends_init(&backends, board, slot);
    int r = upstreams ? fill(upstreams, config, loop, counters, &backends, reason)
                      : reason_set(reason, -ENOMEM, "out of memory");

    if (r < 0) {
        upstreams_free(upstreams);
        return r;
    }
    *ret = upstreams;
    return 0;
}

void upstreams_free(struct upstreams *upstreams)
{
    if (!upstreams)
        return;
    for (size_t i = 0; i < upstreams->count; i++)
        upstream_free(upstreams->items[i]);
    upstream_free(upstreams->stand_in);
    resolver_free(upstreams->resolver);
    free(upstreams->items);
    free(upstreams);
}

struct gateway *upstreams_at(struct upstreams *upstreams, size_t index)
{
    return &upstreams->items[index]->gateway;
}

struct gateway *upstreams_find(struct upstreams *upstreams, struct span name)
{
    for (size_t i = 0; i < upstreams->count; i++)
        if (span_equal(span_of(upstreams->items[i]->config->name), name))
            return &upstreams->items[i]->gateway;
    return &upstreams->stand_in->gateway;
}

void upstreams_release_idle(struct upstreams *upstreams)
{
    for (size_t i = 0; i < upstreams->count; i++)
        upstream_release_idle(upstreams->items[i]);
}

size_t upstreams_fd_count(const struct upstreams *upstreams)
{
    size_t count = 0;

    for (size_t i = 0; i < upstreams->count; i++) {
        const struct upstream *upstream = upstreams->items[i];
        count += upstream->dialling;
        for (size_t j = 0; j < upstream->server_count; j++)
            count += upstream->servers[j].idle_count;
    }
    return count;
}

static void apply_pause(struct upstream *upstream, const struct board *board, uint64_t now_usec)
{
    const struct board_pause *pause = pauses_find(board, upstream->config->name, now_usec);

    if (pause)
        upstream_pause(upstream, usec_to_seconds(pause->until_usec - now_usec));
    else
        upstream_resume(upstream);
}

void upstreams_apply_pauses(struct upstreams *upstreams, const struct board *board)
{
    uint64_t now_usec = clock_monotonic_usec();

    for (size_t i = 0; i < upstreams->count; i++)
        apply_pause(upstreams->items[i], board, now_usec);
}

size_t upstreams_count(const struct upstreams *upstreams)
{
    return upstreams->count;
}

struct upstream *upstreams_get(struct upstreams *upstreams, size_t index)
{
    return upstreams->items[index];
}
