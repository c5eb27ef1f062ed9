#include "load_run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "load_client.h"

/* Few at a time: the server's queue of connections is short (listen(2)). */
static void start_clients(struct run *run)
{
    if (run->starting) /* a client that fails at once comes back here */
        return;
    run->starting = true;
    while (!run->stopping && run->started < run->count &&
           run->started - run->settled < run->options->ramp)
        client_start(&run->clients[run->started++]);
    run->starting = false;
}

/* --rate */

uint64_t run_due_usec(const struct run *run, uint64_t n)
{
    return run->due_from_usec + n * USEC_PER_SEC / run->options->rate;
}

static void arm_due(struct run *run)
{
    uint64_t usec = run_due_usec(run, run->due_next);
    struct itimerspec at = {
        .it_value.tv_sec = (time_t)(usec / USEC_PER_SEC),
        .it_value.tv_nsec = (long)(usec % USEC_PER_SEC * 1000),
    };

    /* This also makes the fd unreadable until then. It cannot fail with a valid time. */
    (void)timerfd_settime(run->due_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void give_turns(struct run *run, uint64_t now)
{
    for (; run_due_usec(run, run->due_next) <= now; run->due_next++)
        client_take_turn(run->paced[run->due_next % run->paced_count]);
}

static void on_due(struct ev_loop *loop, ev_io *io, int events)
{
    struct run *run = io->data;

    (void)loop, (void)events;
    give_turns(run, clock_monotonic_usec());
    arm_due(run);
}

static void begin_pace(struct run *run)
{
    run->due_from_usec = clock_monotonic_usec();
    arm_due(run);
    ev_io_start(run->loop, &run->due_io);
}

/* Requests that were due before the end, and that no client was free to make. */
static uint64_t count_unsent(const struct run *run)
{
    uint64_t end = run->stopping ? run->stop_usec : clock_monotonic_usec();
    uint64_t due;

    if (!run_is_paced(run) || end < run->due_from_usec)
        return 0;
    due = (end - run->due_from_usec) * run->options->rate / USEC_PER_SEC + 1;
    return due > run->due_begun ? due - run->due_begun : 0;
}

/* What clients tell */

unsigned run_take_requests(struct run *run, unsigned wanted)
{
    unsigned taken = run->requests_left < wanted ? (unsigned)run->requests_left : wanted;

    if (run->options->requests == 0)
        return wanted;
    run->requests_left -= taken;
    if (run->requests_left == 0 && !run->stopping) /* not from here: a client is at work */
        ev_feed_event(run->loop, &run->end_timer, EV_CUSTOM);
    return taken;
}

void run_settled(struct run *run, struct client *client, bool answered)
{
    if (client->answered)
        return;
    if (!client->settled)
        run->settled++;
    client->settled = true;
    if (answered) {
        client->answered = true;
        run->answered++;
    }
    if (run->answered == run->count && !run->stopping && !run->running) {
        run->running = true;
        (void)fd_write_all(run->options->ready_fd, "running\n", strlen("running\n"));
        if (run->options->rate > 0)
            begin_pace(run);
    }
    start_clients(run);
}

void run_client_done(struct run *run)
{
    if (--run->live == 0)
        ev_break(run->loop, EVBREAK_ALL);
}

void run_record(struct run *run, const struct client *client, const char *kind, const char *what)
{
    struct address local;
    unsigned port = 0;

    if (run->first_failure_count == FIRST_FAILURES)
        return;
    if (client->fd >= 0 && address_of_socket(client->fd, &local) == 0) {
        if (local.any.sa_family == AF_INET)
            port = ntohs(local.ipv4.sin_port);
        if (local.any.sa_family == AF_INET6)
            port = ntohs(local.ipv6.sin6_port);
    }
    (void)snprintf(run->first_failures[run->first_failure_count++], FAILURE_TEXT,
        "%.6f s, group %td (%s), client %u, local port %u: %s: %s",
        usec_to_seconds(clock_monotonic_usec() - run->begin_usec),
        client->group - run->options->groups, group_kind_name(client->group->kind), client->number,
        port, kind, what);
}

/* Timeouts */

static void start_deadline_timer(struct run *run, uint64_t usec)
{
    ev_timer_set(&run->deadline_timer, usec_to_seconds(usec), 0.);
    ev_timer_start(run->loop, &run->deadline_timer);
}

void run_expect(struct run *run, struct client *client)
{
    uint64_t timeout = run->options->timeout_usec;

    client->deadline_usec = clock_monotonic_usec() + timeout;
    list_remove(&client->deadline);
    list_append(&run->deadlines, &client->deadline);
    if (!ev_is_active(&run->deadline_timer))
        start_deadline_timer(run, timeout);
}

void run_expect_nothing(struct client *client)
{
    list_remove(&client->deadline);
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct run *run = timer->data;
    uint64_t now = clock_monotonic_usec();

    (void)loop, (void)events;
    while (!list_empty(&run->deadlines)) {
        struct client *client = CONTAINER_OF(run->deadlines.next, struct client, deadline);
        if (client->deadline_usec > now) {
            start_deadline_timer(run, client->deadline_usec - now);
            return;
        }
        list_remove(&client->deadline);
        client_expire(client);
    }
}

/* The report */

static void add_up(const struct run *run, struct tally *ret_sum)
{
    memset(ret_sum, 0, sizeof *ret_sum);
    for (size_t i = 0; i < run->options->group_count; i++)
        tally_merge(ret_sum, &run->options->groups[i].tally);
}

static double run_seconds(const struct run *run)
{
    uint64_t end = run->live > 0 ? clock_monotonic_usec() : run->end_usec;

    return usec_to_seconds(end - run->begin_usec);
}

/* RFC 8259 §7 */
static void print_string(const char *text, FILE *stream)
{
    fputc('"', stream);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(stream, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            fprintf(stream, "\\u%04x", (unsigned char)*text);
        else
            fputc(*text, stream);
    }
    fputc('"', stream);
}

static void print_groups(const struct run *run, FILE *stream)
{
    double seconds = run_seconds(run);

    for (size_t i = 0; i < run->options->group_count; i++) {
        const struct group *group = &run->options->groups[i];
        fprintf(stream, "%s{\"group\":", i > 0 ? "," : "");
        print_string(group->text, stream);
        fprintf(stream, ",\"kind\":\"%s\",\"clients\":%u,", group_kind_name(group->kind),
            group->clients);
        tally_print(&group->tally, seconds, stream);
        fprintf(stream, "}");
    }
}

void run_report(const struct run *run, FILE *stream)
{
    struct tally sum;

    add_up(run, &sum);
    fprintf(stream, "{\"duration\":%.6f,\"clients\":%u,\"running\":%s,", run_seconds(run),
        run->count, run->running ? "true" : "false");
    if (run->options->rate > 0)
        fprintf(stream, "\"rate\":%" PRIu64 ",\"unsent\":%" PRIu64 ",", run->options->rate,
            count_unsent(run));
    tally_print(&sum, run_seconds(run), stream);
    fprintf(stream, ",\"groups\":[");
    print_groups(run, stream);
    fprintf(stream, "],\"first_failures\":[");
    for (unsigned i = 0; i < run->first_failure_count; i++) {
        fprintf(stream, "%s", i > 0 ? "," : "");
        print_string(run->first_failures[i], stream);
    }
    fprintf(stream, "]}\n");
    fflush(stream);
}

bool run_passed(const struct run *run)
{
    struct tally sum;

    add_up(run, &sum);
    return tally_failed(&sum) == 0 && (sum.closed_idle == 0 || run->options->allow_close_idle);
}

bool run_balances(const struct run *run)
{
    for (size_t i = 0; i < run->options->group_count; i++)
        if (!tally_balances(&run->options->groups[i].tally))
            return false;
    return true;
}

static void on_progress(struct ev_loop *loop, ev_timer *timer, int events)
{
    const struct run *run = timer->data;
    struct tally sum;

    (void)loop, (void)events;
    add_up(run, &sum);
    fprintf(stderr,
        "%.0f s: %" PRIu64 " requests, %" PRIu64 " responses, %" PRIu64 " failed, %" PRIu64
        " closed\n",
        run_seconds(run), sum.requests, sum.responses, tally_failed(&sum), sum.closed_idle);
}

/* Beginning and end */

/* No request begins any more. @at_once: because time is up, not because all have been made. */
static void run_stop(struct run *run, bool at_once)
{
    if (!run->stopping) {
        run->stop_usec = clock_monotonic_usec();
        if (run_is_paced(run))
            give_turns(run, run->stop_usec);
        ev_io_stop(run->loop, &run->due_io);
        run->stopping = true;
    }
    if (at_once) {
        ev_io_stop(run->loop, &run->stdin_io);
        ev_timer_stop(run->loop, &run->end_timer);
        run->unthrottled = true;
    }
    for (unsigned i = 0; i < run->count; i++)
        client_stop(&run->clients[i]);
}

static void on_end(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    run_stop(timer->data, events & EV_TIMER);
}

static void on_signal(struct ev_loop *loop, ev_signal *signal, int events)
{
    (void)loop, (void)events;
    if (signal->signum == SIGUSR1)
        run_report(signal->data, stderr);
    else
        run_stop(signal->data, true);
}

static void on_stdin(struct ev_loop *loop, ev_io *io, int events)
{
    char ignored[4096];
    ssize_t n = read(STDIN_FILENO, ignored, sizeof ignored);

    (void)loop, (void)events;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        run_stop(io->data, true);
}

static void init_watchers(struct run *run)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1};

    ev_timer_init(&run->deadline_timer, on_deadline, 0., 0.);
    ev_timer_init(&run->end_timer, on_end, usec_to_seconds(run->options->duration_usec), 0.);
    ev_timer_init(&run->progress_timer, on_progress, 1., 1.);
    ev_io_init(&run->stdin_io, on_stdin, STDIN_FILENO, EV_READ);
    ev_io_init(&run->due_io, on_due, run->due_fd, EV_READ);
    run->deadline_timer.data = run->end_timer.data = run->progress_timer.data = run;
    run->stdin_io.data = run->due_io.data = run;
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        ev_signal_init(&run->signals[i], on_signal, numbers[i]);
        run->signals[i].data = run;
        ev_signal_start(run->loop, &run->signals[i]);
    }
}

/* SplitMix64 (Steele 2014): seeds that differ by one give unrelated numbers. */
static uint64_t seed_of(uint64_t seed, unsigned client)
{
    uint64_t z = seed + (client + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void init_clients(struct run *run)
{
    struct client *client = run->clients;

    for (size_t i = 0; i < run->options->group_count; i++) {
        struct group *group = &run->options->groups[i];
        dialer_init(&group->dialer,
            group->target.length > 0 ? &group->target : &run->options->target, run->count);
        for (unsigned n = 0; n < group->clients; n++, client++) {
            unsigned all = (unsigned)(client - run->clients);
            client_init(client, run, group, n, seed_of(run->options->seed, all));
            if (group->kind != GROUP_KEEPALIVE)
                continue;
            client->due = run->paced_count;
            run->paced[run->paced_count++] = client;
        }
    }
}

int run_init(struct run *run, struct options *options, struct reason *reason)
{
    *run = (struct run){.options = options, .count = options->clients, .live = options->clients};
    list_init(&run->deadlines);
    run->requests_left = options->requests;
    run->due_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (run->due_fd < 0)
        return reason_set(reason, -errno, "timerfd: %s", strerror(errno));
    run->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!run->loop)
        return reason_set(reason, -ENOSYS, "no event loop");
    run->clients = calloc(run->count, sizeof *run->clients);
    run->paced = calloc(run->count, sizeof(struct client *));
    if (!run->clients || !run->paced)
        return reason_set(reason, -ENOMEM, "out of memory");
    init_watchers(run);
    init_clients(run);
    return 0;
}

void run_loop(struct run *run)
{
    run->begin_usec = clock_monotonic_usec();
    ev_now_update(run->loop); /* what timers count from */
    if (run->options->duration_usec > 0)
        ev_timer_start(run->loop, &run->end_timer);
    if (run->options->until_stdin_closes)
        ev_io_start(run->loop, &run->stdin_io);
    if (run->options->progress)
        ev_timer_start(run->loop, &run->progress_timer);
    start_clients(run);
    ev_run(run->loop, 0);
    run->end_usec = clock_monotonic_usec();
}

void run_clear(struct run *run)
{
    for (unsigned i = 0; run->clients && i < run->count; i++)
        client_clear(&run->clients[i]);
    free(run->clients);
    free(run->paced);
    if (run->loop)
        ev_loop_destroy(run->loop);
    (void)fd_close(run->due_fd);
}
