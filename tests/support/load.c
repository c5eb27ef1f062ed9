/*
 * load: clients that witness a server. They count every request that fails and every connection
 * that closes, and say so in a report; `load --help` documents the command line.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "load_options.h"
#include "load_run.h"

enum {
    EXIT_PASSED = 0,
    EXIT_FAILED = 1,
    EXIT_COULD_NOT_RUN = 2,
};

#define OTHER_FDS 32

/* One fd for each client. */
static int raise_fd_limit(unsigned clients, struct reason *reason)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return reason_set(reason, -errno, "RLIMIT_NOFILE: %s", strerror(errno));
    rlim_t needed = (rlim_t)clients + OTHER_FDS, hard = limit.rlim_max;
    limit.rlim_cur = hard;
    if (needed > hard) /* with CAP_SYS_RESOURCE only, getrlimit(2) */
        limit.rlim_cur = limit.rlim_max = needed;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return reason_set(reason, -errno, "%u clients need %ju file descriptors; the limit is %ju",
            clients, (uintmax_t)needed, (uintmax_t)hard);
    return 0;
}

static int run(struct options *options, struct reason *reason)
{
    static struct run run;
    int r = raise_fd_limit(options->clients, reason);

    if (r < 0)
        return r;
    r = run_init(&run, options, reason);
    if (r == 0) {
        run_loop(&run);
        run_report(&run, stdout);
        r = run_passed(&run) ? EXIT_PASSED : EXIT_FAILED;
        if (!run_balances(&run))
            r = reason_set(reason, -EBADMSG, "the counters do not add up: a fault of load itself");
        else if (ferror(stdout))
            r = reason_set(reason, -EIO, "the report could not be written");
    }
    run_clear(&run);
    return r;
}

int main(int argc, char **argv)
{
    struct options options;
    struct reason reason = {"out of memory"};
    int r = options_parse(argc, argv, &options, &reason);

    (void)signal(SIGPIPE, SIG_IGN);             /* the report's reader may be gone */
    (void)setvbuf(stderr, NULL, _IOLBF, 65536); /* a report there is one line: one write(2) */
    if (r == 0 && options.help)
        fputs(options_usage, stdout);
    else if (r == 0)
        r = run(&options, &reason);
    if (r < 0)
        fprintf(stderr, "load: %s\n", reason.text);
    options_clear(&options);
    return r < 0 ? EXIT_COULD_NOT_RUN : r;
}
