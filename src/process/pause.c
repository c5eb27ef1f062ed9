#include "process/pause.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/timespan.h"
#include "config/suggest.h"
#include "observe/backends.h"
#include "observe/pauses.h"

static void tell_workers(struct supervisor *supervisor)
{
    LIST_EACH (link, &supervisor->generations)
        generation_tell_pauses(CONTAINER_OF(link, struct generation, link));
}

void pause_watch(struct supervisor *supervisor)
{
    const struct board_pause *first = pauses_first(&supervisor->board);
    uint64_t now = clock_monotonic_usec();

    ev_timer_stop(supervisor->loop, &supervisor->pause);
    if (!first)
        return;
    double seconds = first->until_usec > now ? usec_to_seconds(first->until_usec - now) : 0;
    ev_timer_set(&supervisor->pause, seconds, 0);
    ev_timer_start(supervisor->loop, &supervisor->pause);
}

/* Workers end a pause in time by themselves. */
void pause_expired(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct supervisor *supervisor = timer->data;
    const struct board_pause *first;
    uint64_t now = clock_monotonic_usec();

    (void)loop;
    (void)events;
    while ((first = pauses_first(&supervisor->board)) && first->until_usec <= now) {
        log_warning("[Upstream %s] is no longer paused: PauseTimeout= is over", first->upstream);
        pauses_clear(&supervisor->board, first->upstream);
    }
    tell_workers(supervisor);
    pause_watch(supervisor);
}

/* NULL: there is none of that name. */
static const struct config_upstream *find_upstream(const struct config *config, const char *name)
{
    for (size_t i = 0; config && i < config->upstream_count; i++)
        if (strcmp(config->upstreams[i].name, name) == 0)
            return &config->upstreams[i];
    return NULL;
}

static const struct config *config_of(const struct supervisor *supervisor)
{
    return supervisor->serving ? supervisor->serving->config : NULL;
}

/* As the configuration allows it: no other is shown to anybody. */
static bool is_name(const char *text)
{
    for (const char *c = text; *c; c++)
        if (*c < ' ' || *c > '~')
            return false;
    return text[0] != '\0';
}

static void answer_unknown(
    const struct supervisor *supervisor, struct control_connection *asker, const char *name)
{
    const struct config *config = config_of(supervisor);
    struct suggest suggest = {.wrong = name};
    char text[2 * CONTROL_REQUEST_MAX + 64];

    for (size_t i = 0; config && i < config->upstream_count; i++)
        suggest_offer(&suggest, config->upstreams[i].name);
    if (!is_name(name))
        (void)snprintf(text, sizeof text, "no upstream has such a name");
    else if (!config)
        (void)snprintf(text, sizeof text, "the server has no configuration that it can look at");
    else if (suggest.nearest)
        (void)snprintf(text, sizeof text, "there is no [Upstream %s]; did you mean %s?", name,
            suggest.nearest);
    else
        (void)snprintf(text, sizeof text, "there is no [Upstream %s]", name);
    control_answer(asker, 0, text);
}

void pause_begin(
    struct supervisor *supervisor, struct control_connection *asker, const char *upstream)
{
    const struct config_upstream *config = find_upstream(config_of(supervisor), upstream);
    char text[CONTROL_REQUEST_MAX + 128], longest[TIMESPAN_TEXT_MAX];
    uint64_t now = clock_monotonic_usec();

    if (!config) {
        answer_unknown(supervisor, asker, upstream);
        return;
    }
    if (pauses_set(&supervisor->board, upstream, now, now + config->pause_timeout_usec) < 0) {
        (void)snprintf(text, sizeof text, "%d upstreams are paused already", BOARD_PAUSES);
        control_answer(asker, 0, text);
        return;
    }
    tell_workers(supervisor);
    pause_watch(supervisor);
    (void)snprintf(text, sizeof text, "Paused %s: requests wait, for %s at the most", upstream,
        timespan_format(config->pause_timeout_usec, longest));
    log_notice("%s", text);
    control_answer(asker, 1, text);
}

static void describe_end(
    const struct board_pause *pause, uint64_t now, uint64_t waiting, char *text, size_t size)
{
    char lasted[TIMESPAN_TEXT_MAX];

    (void)timespan_format(timespan_round(now - pause->since_usec), lasted);
    if (waiting == 1)
        (void)snprintf(
            text, size, "Resumed %s after %s: 1 request goes on", pause->upstream, lasted);
    else
        (void)snprintf(text, size, "Resumed %s after %s: %" PRIu64 " requests go on",
            pause->upstream, lasted, waiting);
}

/* Also one that the configuration does not have any more. */
void pause_end(
    struct supervisor *supervisor, struct control_connection *asker, const char *upstream)
{
    uint64_t now = clock_monotonic_usec();
    const struct board_pause *pause = pauses_find(&supervisor->board, upstream, now);
    char text[CONTROL_REQUEST_MAX + 128];

    if (!pause && !find_upstream(config_of(supervisor), upstream)) {
        answer_unknown(supervisor, asker, upstream);
        return;
    }
    if (!pause) {
        (void)snprintf(text, sizeof text, "[Upstream %s] is not paused", upstream);
        control_answer(asker, 0, text);
        return;
    }
    describe_end(pause, now, backends_waiting(&supervisor->board, upstream), text, sizeof text);
    pauses_clear(&supervisor->board, upstream);
    tell_workers(supervisor);
    pause_watch(supervisor);
    log_notice("%s", text);
    control_answer(asker, 1, text);
}
