#include "process/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define SAID_MAX 8192

extern char **environ;

void preflight_nonce(char ret[static 33])
{
    unsigned char bytes[16] = {0};

    /* Against accidents, not against attackers: if there is no randomness, zeros still differ from
     * what another program prints. */
    (void)!getrandom(bytes, sizeof bytes, 0);
    for (size_t i = 0; i < sizeof bytes; i++)
        (void)sprintf(ret + 2 * i, "%02x", bytes[i]);
}

/* Returns whether there may be more. */
static bool read_piece(struct preflight *preflight)
{
    char piece[4096];
    ssize_t n = read(preflight->output, piece, sizeof piece);

    if (n > 0 && preflight->said.length < SAID_MAX) /* the rest is read, or the child would block */
        (void)buffer_append(&preflight->said, (struct span){piece, (size_t)n});
    if (n == 0)
        ev_io_stop(preflight->loop, &preflight->io);
    return n > 0;
}

static void on_output(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    (void)events;
    (void)read_piece(io->data); /* one a turn: a program that is not Baton may print for ever */
}

static bool has_proof(struct preflight *preflight)
{
    char proof[80];
    const char *said = buffer_string(&preflight->said);

    (void)snprintf(proof, sizeof proof, PREFLIGHT_WORD " %s\n", preflight->nonce);
    return said && strstr(said, proof);
}

/* What it printed, as one line. */
static void describe(struct preflight *preflight, int status, struct reason *reason)
{
    char *said = (char *)buffer_string(&preflight->said);
    size_t length = said ? strlen(said) : 0;

    while (length > 0 && (said[length - 1] == '\n' || said[length - 1] == ' '))
        said[--length] = '\0';
    for (size_t i = 0; i < length; i++)
        if (said[i] == '\n')
            said[i] = ';';
    if (preflight->timed_out)
        (void)reason_set(reason, 0, "the binary on disk did not answer within StartTimeout=");
    else if (WIFSIGNALED(status))
        (void)reason_set(reason, 0, "the binary on disk was killed by SIG%s while it checked",
            sigabbrev_np(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == 0)
        (void)reason_set(reason, 0, "the binary on disk is not a Baton that can take over");
    else if (length > 0)
        (void)reason_set(reason, 0, "the check failed: %s", said);
    else
        (void)reason_set(reason, 0, "the binary on disk failed with status %d and said nothing",
            WEXITSTATUS(status));
}

static void clear(struct preflight *preflight)
{
    ev_io_stop(preflight->loop, &preflight->io);
    ev_timer_stop(preflight->loop, &preflight->timer);
    ev_child_stop(preflight->loop, &preflight->exit);
    preflight->output = fd_close(preflight->output);
    preflight->pid = 0;
    buffer_clear(&preflight->said);
}

static void on_reaped(struct ev_loop *loop, ev_child *watcher, int events)
{
    struct preflight *preflight = watcher->data;
    struct reason reason;
    int status = watcher->rstatus;

    (void)loop;
    (void)events;
    while (preflight->said.length < SAID_MAX && read_piece(preflight))
        ;
    bool passed = !preflight->timed_out && WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
                  has_proof(preflight);
    if (!passed)
        describe(preflight, status, &reason);
    clear(preflight);
    preflight->done(preflight->owner, passed ? NULL : reason.text);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct preflight *preflight = timer->data;

    (void)loop;
    (void)events;
    preflight->timed_out = true;
    (void)kill(-preflight->pid, SIGKILL);
}

/*
 * The child's signals are the system's defaults, and none is blocked. It leads a process group, so
 * that whatever a program that is not Baton starts can be killed with it.
 */
static int spawn(const char *binary, int state_fd, int output, pid_t *ret_pid)
{
    char word[] = "check", option[] = "--state", number[] = "3", *name = strdup(binary);
    char *arguments[] = {name, word, option, number, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;

    if (!name)
        return -ENOMEM;
    sigemptyset(&none);
    sigfillset(&all);
    int r = posix_spawn_file_actions_init(&actions);
    if (r == 0)
        r = posix_spawnattr_init(&attributes);
    if (r == 0) {
        (void)posix_spawnattr_setsigmask(&attributes, &none);
        (void)posix_spawnattr_setsigdefault(&attributes, &all);
        (void)posix_spawnattr_setflags(
            &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
        r = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
        if (r == 0)
            r = posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
        if (r == 0)
            r = posix_spawn_file_actions_adddup2(&actions, state_fd, PREFLIGHT_FD);
        if (r == 0)
            r = posix_spawn(ret_pid, binary, &actions, &attributes, arguments, environ);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    free(name);
    return -r;
}

int preflight_start(struct preflight *preflight, struct ev_loop *loop, const char *binary,
    int state_fd, const char *nonce, double timeout, void (*done)(void *owner, const char *refusal),
    void *owner, struct reason *reason)
{
    int pipe_fds[2];
    pid_t pid;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return reason_set(reason, -errno, "no pipe for the check of the binary: %m");
    int r = fd_set_nonblock(pipe_fds[0], true);
    if (r == 0)
        r = spawn(binary, state_fd, pipe_fds[1], &pid);
    fd_close(pipe_fds[1]);
    if (r < 0) {
        fd_close(pipe_fds[0]);
        return reason_set(reason, r, "%s cannot be run: %s", binary, strerror(-r));
    }
    *preflight = (struct preflight){
        .loop = loop, .pid = pid, .output = pipe_fds[0], .done = done, .owner = owner};
    (void)snprintf(preflight->nonce, sizeof preflight->nonce, "%s", nonce);
    ev_child_init(&preflight->exit, on_reaped, pid, 0);
    ev_io_init(&preflight->io, on_output, preflight->output, EV_READ);
    ev_timer_init(&preflight->timer, on_timeout, timeout, 0);
    preflight->exit.data = preflight->io.data = preflight->timer.data = preflight;
    ev_child_start(loop, &preflight->exit);
    ev_io_start(loop, &preflight->io);
    if (timeout > 0)
        ev_timer_start(loop, &preflight->timer);
    return 0;
}

void preflight_cancel(struct preflight *preflight)
{
    if (preflight->pid == 0)
        return;
    (void)kill(-preflight->pid, SIGKILL); /* libev reaps it */
    clear(preflight);
}
