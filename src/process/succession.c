#include "process/succession.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "process/service.h"

static int copy_sources(const struct config_sources *from, struct config_sources *to)
{
    int r = 0;

    for (size_t i = 0; i < from->count && r == 0; i++)
        r = config_sources_add(to, from->items[i].name, from->items[i].text);
    return r;
}

static int add_workers(const struct generation *generation, struct state *state)
{
    int r = 0;

    LIST_EACH (link, (struct link *)&generation->children) {
        const struct child *child = CONTAINER_OF(link, struct child, link);
        struct state_worker worker = {child->pid, generation->number, child->number, child->slot,
            child->channel, generation->state == GENERATION_RETIRING, generation->deadline_usec};
        if (r == 0)
            r = state_add_worker(state, &worker);
    }
    return r;
}

static void add_connections(const struct link *list, enum state_role role, struct state *state)
{
    LIST_EACH (link, (struct link *)list) {
        if (state->connection_count == STATE_CONNECTIONS_MAX)
            return; /* control.c allows fewer */
        state->connections[state->connection_count++] = (struct state_connection){
            CONTAINER_OF(link, struct control_connection, link)->io.fd, role};
    }
}

int succession_describe(struct supervisor *supervisor, const char *nonce, struct state *state)
{
    char ours[ACTIVATION_SOCKETS_MAX + 1];

    activation_ours(&supervisor->activation, ours);
    state->binary = strdup(supervisor->binary);
    state->ours = strdup(ours);
    state->nonce = strdup(nonce);
    state->board = supervisor->board.fd;
    state->control = supervisor->control.io.fd;
    state->inbox_read = supervisor->inbox.read;
    state->inbox_write = supervisor->inbox.write;
    state->generation = supervisor->serving ? supervisor->serving->number : 0;
    state->last_generation = supervisor->last_generation;
    state->asked_usec = supervisor->asked_usec;
    state->again = supervisor->again;
    int r = state->binary && state->ours && state->nonce ? 0 : -ENOMEM;
    if (r == 0)
        r = copy_sources(&supervisor->current, &state->current);
    if (r == 0)
        r = copy_sources(&supervisor->candidate, &state->candidate);
    LIST_EACH (link, &supervisor->generations)
        if (r == 0)
            r = add_workers(CONTAINER_OF(link, struct generation, link), state);
    add_connections(&supervisor->control.connections, STATE_NEW, state);
    add_connections(&supervisor->askers, STATE_ASKER, state);
    add_connections(&supervisor->queue, STATE_QUEUED, state);
    return r;
}

/* Moves an fd that the next image needs out of the way of the sockets, open across execve(2). */
static int carry(int *fd, int above)
{
    if (*fd < 0)
        return 0;
    int copy = fcntl(*fd, F_DUPFD, above); /* clears close-on-exec */
    if (copy < 0)
        return -errno;
    fd_close(*fd);
    *fd = copy;
    return 0;
}

static int carry_all(struct state *state, int above)
{
    int r = carry(&state->board, above);

    if (r == 0)
        r = carry(&state->control, above);
    if (r == 0)
        r = carry(&state->inbox_read, above);
    if (r == 0)
        r = carry(&state->inbox_write, above);
    for (size_t i = 0; i < state->worker_count && r == 0; i++)
        r = carry(&state->workers[i].channel, above);
    for (size_t i = 0; i < state->connection_count && r == 0; i++)
        r = carry(&state->connections[i].fd, above);
    return r;
}

static void release_connections(struct link *connections)
{
    LIST_EACH (link, connections)
        (void)control_release_connection(CONTAINER_OF(link, struct control_connection, link));
}

static void release_generations(struct supervisor *supervisor)
{
    LIST_EACH (link, &supervisor->generations) {
        struct generation *generation = CONTAINER_OF(link, struct generation, link);
        LIST_EACH (inner, &generation->children)
            (void)child_release(CONTAINER_OF(inner, struct child, link));
        generation_free(generation);
    }
}

/* Lets go of everything; the fds that the state names stay open. */
static void dissolve(struct supervisor *supervisor)
{
    release_connections(&supervisor->askers);
    release_connections(&supervisor->queue);
    release_connections(&supervisor->control.connections);
    (void)control_release(&supervisor->control);
    release_generations(supervisor);
    supervisor_deinit(supervisor);
}

static int execute(const struct state *state, int state_fd, char **arguments, struct reason *reason)
{
    char number[16];

    (void)snprintf(number, sizeof number, "%d", state_fd);
    if (setenv(SUCCESSION_VARIABLE, number, 1) < 0)
        return reason_set(reason, -errno, "the environment cannot be set: %m");
    (void)execv(state->binary, arguments);
    int error = errno;
    (void)unsetenv(SUCCESSION_VARIABLE);
    return reason_set(reason, -error, "%s cannot be executed: %s", state->binary, strerror(error));
}

/* Makes the state and the sockets what the next image finds, out of what is left of this one. */
static int pass_on(struct state *state, struct activation *activation, int *ret_state_fd)
{
    int above = activation_end(activation), r = carry_all(state, above);

    if (r == 0)
        r = state_save(state, ret_state_fd);
    if (r == 0)
        r = carry(ret_state_fd, above);
    if (r == 0)
        r = activation_export(activation);
    return r;
}

int succession_execute(struct supervisor *supervisor, int *ret_state_fd, struct reason *reason)
{
    struct state state;
    char **arguments = supervisor->options->arguments;
    struct activation activation = supervisor->activation;

    state_init(&state);
    int r = succession_describe(supervisor, "", &state);
    if (r == 0) {
        dissolve(supervisor);
        r = pass_on(&state, &activation, ret_state_fd);
        activation_forget(&activation);
        board_unmap(&supervisor->board);
    }
    if (r < 0)
        (void)reason_set(reason, r, "the state cannot be passed on: %s", strerror(-r));
    else
        r = execute(&state, *ret_state_fd, arguments, reason);
    state_clear(&state);
    return r;
}

/* The fds came through execve(2) open; they are ours alone again. */
static int reclaim(const struct state *state)
{
    int r = fd_set_cloexec(state->board, true);

    if (r == 0)
        r = fd_set_cloexec(state->inbox_read, true);
    if (r == 0)
        r = fd_set_cloexec(state->inbox_write, true);

    if (r == 0 && state->control >= 0)
        r = fd_set_cloexec(state->control, true);
    for (size_t i = 0; i < state->worker_count && r == 0; i++)
        r = fd_set_cloexec(state->workers[i].channel, true);
    for (size_t i = 0; i < state->connection_count && r == 0; i++)
        r = fd_set_cloexec(state->connections[i].fd, true);
    return r;
}

static struct generation *find_generation(struct supervisor *supervisor, unsigned number)
{
    LIST_EACH (link, &supervisor->generations)
        if (CONTAINER_OF(link, struct generation, link)->number == number)
            return CONTAINER_OF(link, struct generation, link);
    return NULL;
}

static int adopt_worker(struct supervisor *supervisor, const struct state_worker *worker)
{
    struct child_identity identity = {
        worker->generation, worker->number, worker->slot, worker->pid, worker->channel};
    struct generation *generation = find_generation(supervisor, worker->generation);

    if (!generation)
        generation = supervisor_add_generation(supervisor, worker->generation, NULL);
    if (!generation)
        return -ENOMEM;
    generation->deadline_usec = worker->deadline_usec;
    return generation_adopt(generation, &identity, worker->retiring);
}

/* The current generation's configuration, by which its workers are replaced. This build may not
 * read it. */
static struct config *read_current(const struct supervisor *supervisor)
{
    struct config *config = NULL;
    struct reason reason;

    if (supervisor_parse(&supervisor->current, &config, &reason) < 0)
        log_warning("This build does not read the configuration that is being served: workers that "
                    "die before the reload is done are not replaced: %s",
            reason.text);
    return config;
}

static int adopt_generations(struct supervisor *supervisor, const struct state *state)
{
    struct generation *serving = NULL;
    int r = 0;

    if (state->generation > 0) {
        serving =
            supervisor_add_generation(supervisor, state->generation, read_current(supervisor));
        if (!serving)
            return -ENOMEM;
    }
    for (size_t i = 0; i < state->worker_count && r == 0; i++)
        r = adopt_worker(supervisor, &state->workers[i]);
    if (r == 0 && serving) {
        generation_make_current(serving);
        supervisor->serving = serving;
    }
    return r;
}

static void adopt_connections(struct supervisor *supervisor, const struct state *state)
{
    for (size_t i = 0; i < state->connection_count; i++) {
        const struct state_connection *connection = &state->connections[i];
        struct control_connection *adopted = control_adopt(&supervisor->control, connection->fd);
        if (adopted && connection->role == STATE_ASKER)
            supervisor_move_asker(&supervisor->askers, adopted);
        else if (adopted && connection->role == STATE_QUEUED)
            supervisor_move_asker(&supervisor->queue, adopted);
    }
}

static int resume(struct supervisor *supervisor, struct state *state, struct reason *reason)
{
    int r = reclaim(state);

    if (r == 0)
        r = board_open(state->board, &supervisor->board);
    if (r < 0)
        return reason_set(
            reason, r, "the fds passed on are not what they should be: %s", strerror(-r));
    r = activation_take(&supervisor->activation, state->ours, reason);
    if (r < 0)
        return r;
    supervisor->binary = state->binary;
    supervisor->current = state->current;
    supervisor->candidate = state->candidate;
    state->binary = NULL;
    state->current = state->candidate = (struct config_sources){0};
    supervisor->inbox = (struct inbox){state->inbox_read, state->inbox_write};
    supervisor->last_generation = state->last_generation;
    supervisor->asked_usec = state->asked_usec;
    supervisor->again = state->again;
    control_init(
        &supervisor->control, supervisor->loop, state->control, supervisor->asked, supervisor);
    adopt_connections(supervisor, state);
    r = adopt_generations(supervisor, state);
    /* Workers that died while nobody watched raised a SIGCHLD that nobody heard. */
    (void)raise(SIGCHLD);
    return r < 0 ? reason_set(reason, r, "the workers cannot be taken over: %s", strerror(-r)) : 0;
}

int succession_resume(struct supervisor *supervisor, int state_fd, struct reason *reason)
{
    CLEANUP_STATE struct state state;

    state_init(&state);
    int r = state_load(state_fd, &state, reason);
    fd_close(state_fd);
    if (r == 0)
        r = resume(supervisor, &state, reason);
    return r;
}

static int check_state(int state_fd, struct state *state, struct reason *reason)
{
    CLEANUP_CONFIG struct config *config = NULL;
    struct service *service;
    int r = state_load(state_fd, state, reason);

    if (r == 0)
        r = supervisor_parse(&state->candidate, &config, reason);
    if (r == 0)
        r = service_new(config, NULL, 0, NULL, NULL, &service, reason);
    if (r == 0)
        service_free(service);
    return r;
}

int succession_check(int state_fd)
{
    CLEANUP_STATE struct state state;
    struct reason reason = {""};

    state_init(&state);
    int r = check_state(state_fd, &state, &reason);
    if (r < 0)
        (void)fprintf(stderr, "%s\n", reason.text[0] ? reason.text : strerror(-r));
    else
        r = printf(PREFLIGHT_WORD " %s\n", state.nonce) < 0 || fflush(stdout) != 0;
    return r != 0;
}
