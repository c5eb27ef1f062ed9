#include "process/supervisor.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "observe/report.h"
#include "process/notify.h"

static const char *const phase_names[] = {
    [PHASE_STARTING] = "starting",
    [PHASE_SERVING] = "serving",
    [PHASE_PREFLIGHT] = "preflight",
    [PHASE_TRYING] = "trying",
    [PHASE_SETTLING] = "settling",
    [PHASE_LEAVING] = "leaving",
    [PHASE_STOPPING] = "stopping",
};

void supervisor_set_phase(struct supervisor *supervisor, enum phase phase)
{
    log_debug("Supervisor: %s -> %s", phase_names[supervisor->phase], phase_names[phase]);
    supervisor->phase = phase;
}

void supervisor_break(struct supervisor *supervisor, enum verdict verdict)
{
    supervisor->verdict = verdict;
    ev_break(supervisor->loop, EVBREAK_ALL);
}

/* Says it with @say, and remembers. */
static void tell(struct supervisor *supervisor, bool always, void (*say)(const char *status))
{
    CLEANUP_BUFFER struct buffer line = {0};

    if (report_line(&supervisor->board, &line) < 0 ||
        (supervisor->remark && buffer_printf(&line, "; %s", supervisor->remark) < 0))
        line.length = 0;
    const char *text = buffer_string(&line);
    if (!text)
        text = "";
    if (!always && supervisor->status_told && strcmp(supervisor->status_told, text) == 0)
        return;
    say(text);
    free(supervisor->status_told);
    supervisor->status_told = strdup(text); /* without memory it is told again */
}

void supervisor_tell_status(struct supervisor *supervisor)
{
    tell(supervisor, false, notify_status);
}

void supervisor_tell_ready(struct supervisor *supervisor)
{
    tell(supervisor, true, notify_ready);
}

void supervisor_answer_all(struct link *askers, int ok, const char *text)
{
    LIST_EACH (link, askers)
        control_answer(CONTAINER_OF(link, struct control_connection, link), ok, text);
}

void supervisor_move_asker(struct link *list, struct control_connection *asker)
{
    list_remove(&asker->link);
    list_append(list, &asker->link);
}

struct generation *supervisor_add_generation(
    struct supervisor *supervisor, unsigned number, struct config *config)
{
    struct generation *generation = generation_new(&supervisor->shared, number, config);

    if (generation)
        list_append(&supervisor->generations, &generation->link);
    return generation;
}

/* One whose place nobody chose is missed by nobody: signals do the same. */
int supervisor_open_control(
    struct supervisor *supervisor, const struct config *config, int *ret, struct reason *reason)
{
    char path[PATH_MAX];
    bool chosen = supervisor->options->control || config->control_socket;

    *ret = -1;
    if (!control_path(supervisor->options->control, config, path))
        return 0;
    char *slash = strrchr(path, '/');
    if (!chosen && slash) {
        *slash = '\0';
        (void)mkdir(path, 0755); /* if it is not there, binding says so */
        *slash = '/';
    }
    int r = control_listen(path, ret, reason);
    if (r < 0 && !chosen) {
        log_warning("No control socket, so only signals control this server: %s", reason->text);
        return 0;
    }
    return r;
}

/* As many whole lines as a reason holds, in which something else may stand before them. */
static void cut_problems(struct buffer *problems)
{
    static const char more[] = "and more, as baton check says";
    size_t room = sizeof((struct reason *)0)->text - sizeof more - 32;

    if (problems->length <= room)
        return;
    while (room > 0 && problems->bytes[room - 1] != '\n')
        room--;
    if (room == 0) /* a single long one */
        return;
    problems->length = room;
    (void)buffer_append_string(problems, more); /* there was room for longer ones */
}

int supervisor_parse(
    const struct config_sources *sources, struct config **ret, struct reason *reason)
{
    CLEANUP_BUFFER struct buffer problems = {0};
    int r = config_parse(sources, ret, &problems);

    if (r == 0)
        return 0;
    cut_problems(&problems);
    while (problems.length > 0 && problems.bytes[problems.length - 1] == '\n')
        problems.length--;
    const char *text = buffer_string(&problems);
    return reason_set(reason, r, "%s", text && text[0] ? text : strerror(-r));
}

/* The generation after the last one, under the candidate. */
int supervisor_try_candidate(struct supervisor *supervisor, struct reason *reason)
{
    CLEANUP_CONFIG struct config *config = NULL;
    int r = supervisor_parse(&supervisor->candidate, &config, reason);

    if (r == 0)
        r = activation_bind(&supervisor->activation, config, reason);
    if (r < 0)
        return r;
    supervisor->trying =
        supervisor_add_generation(supervisor, ++supervisor->last_generation, config);
    if (!supervisor->trying)
        return reason_set(reason, -ENOMEM, "out of memory");
    config = NULL;
    generation_start(supervisor->trying);
    return 0;
}

void supervisor_deinit(struct supervisor *supervisor)
{
    ev_timer *const timers[] = {&supervisor->settle, &supervisor->readiness, &supervisor->adoption,
        &supervisor->extend, &supervisor->status, &supervisor->watchdog, &supervisor->pause};

    for (size_t i = 0; i < SUPERVISOR_SIGNALS; i++)
        ev_signal_stop(supervisor->loop, &supervisor->signals[i]);
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++)
        ev_timer_stop(supervisor->loop, timers[i]);
    park_destroy(&supervisor->park);
    ev_loop_destroy(supervisor->loop);
    config_sources_clear(&supervisor->current);
    config_sources_clear(&supervisor->candidate);
    free(supervisor->binary);
    free(supervisor->status_told);
}
