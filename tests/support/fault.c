/*
 * For LD_PRELOAD: a worker that dies or hangs before it is ready. The file that BATON_FAULT= names
 * says which and how: with "die 2" the second process that is forked from now on ends at once, with
 * "hang 1" the first one never gets any further.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No other program is to meet this library, and no later image of this one. */
__attribute__((constructor)) static void hide(void)
{
    (void)unsetenv("LD_PRELOAD");
}

static _Noreturn void hang(void)
{
    sigset_t none;

    sigemptyset(&none); /* a worker begins with all signals blocked */
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    for (;;)
        (void)pause();
}

static void fail(int fork_number)
{
    const char *path = getenv("BATON_FAULT");
    FILE *file = path ? fopen(path, "re") : NULL;
    char kind[8] = "";
    int wanted = 0;

    if (!file)
        return;
    int count = fscanf(file, "%7s %d", kind, &wanted);
    (void)fclose(file);
    if (count != 2 || wanted != fork_number)
        return;
    if (strcmp(kind, "die") == 0)
        _exit(7);
    if (strcmp(kind, "hang") == 0)
        hang();
}

pid_t fork(void)
{
    static int forks;
    pid_t (*system_fork)(void) = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");

    forks++;
    pid_t pid = system_fork();
    if (pid == 0)
        fail(forks);
    return pid;
}
