#include "load_client.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "load_run.h"

/* After a failure, so that a server that is down is not asked as fast as the CPU allows. */
#define FAILURE_PAUSE_USEC (10 * USEC_PER_MSEC)
#define DIAL_AGAIN_USEC USEC_PER_MSEC
/* A download reads so often at the most, and makes up for no more time lost than between two. */
#define READS_PER_SEC 20

static void rest(struct client *client);
static void retry(struct client *client);

/* xorshift64*, Vigna 2016 */
static uint64_t random_between(struct client *client, struct range range)
{
    uint64_t x = client->random;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    client->random = x;
    return range.low + (x * UINT64_C(0x2545F4914F6CDD1D) >> 11) % (range.high - range.low + 1);
}

/* The only place where the state changes. */
static void enter(struct client *client, enum client_state state)
{
    assert(client->state != CLIENT_DONE); /* it has been counted out */
    client->state = state;
}

static bool timer_runs(const struct client *client)
{
    return ev_is_active(&client->timer);
}

static void start_timer(struct client *client, uint64_t usec)
{
    ev_timer_stop(client->run->loop, &client->timer);
    ev_timer_set(&client->timer, usec_to_seconds(usec), 0.);
    ev_timer_start(client->run->loop, &client->timer);
}

/* Which events matter, from the state alone. EV_READ also tells of a close. */
static int events_wanted(const struct client *client)
{
    if (client->fd < 0)
        return 0;
    switch (client->state) {
    case CLIENT_CONNECTING:
        return EV_WRITE;
    case CLIENT_SENDING: /* between two pieces the timer decides */
        return client->group->kind == GROUP_SLOWHEAD ? EV_READ : EV_READ | EV_WRITE;
    case CLIENT_RECEIVING: /* in the pause of a download nothing is read */
        return timer_runs(client) ? 0 : EV_READ;
    case CLIENT_RESTING:
    case CLIENT_CLOSING:
        return EV_READ;
    case CLIENT_DONE:
        return 0;
    }
    return 0;
}

/* Called once at the end of each event, so that a state passed through costs no epoll_ctl(2). */
static void watch(struct client *client)
{
    int wanted = events_wanted(client);
    int watched = ev_is_active(&client->io) ? client->io.events & (EV_READ | EV_WRITE) : 0;

    if (wanted == watched)
        return;
    ev_io_stop(client->run->loop, &client->io);
    if (wanted == 0)
        return;
    ev_io_set(&client->io, client->fd, wanted);
    ev_io_start(client->run->loop, &client->io);
}

static void drop_connection(struct client *client)
{
    ev_io_stop(client->run->loop, &client->io);
    client->fd = fd_close(client->fd);
}

static void finish(struct client *client)
{
    drop_connection(client);
    ev_timer_stop(client->run->loop, &client->timer);
    run_expect_nothing(client);
    enter(client, CLIENT_DONE);
    run_client_done(client->run);
}

static void count_failure(struct client *client, enum failure failure, const char *what)
{
    client->group->tally.failures[failure]++;
    run_record(client->run, client, failure_name(failure), what);
}

/*
 * The connection is of no more use: every request on it that has no answer has failed; where none
 * was open, the connection itself has.
 */
static void fail(struct client *client, enum failure failure, const char *what)
{
    unsigned open = client->batch - client->next;

    client->group->tally.unanswered += open;
    for (unsigned i = 0; i < open || i == 0; i++)
        count_failure(client, failure, what);
    client->next = client->batch;
    run_settled(client->run, client, false);
    drop_connection(client);
    retry(client);
}

static void fail_errno(
    struct client *client, enum failure failure, int error, const char *while_what)
{
    char what[FAILURE_TEXT];

    (void)snprintf(what, sizeof what, "%s %s", strerror(error), while_what);
    fail(client, failure, what);
}

/* Nothing was asked, and the server closed the connection or reset it. An idle client connects
 * again, another one when its next request is due. */
static void lose_resting(struct client *client, int error)
{
    client->group->tally.closed_idle++;
    if (!client->run->options->allow_close_idle)
        run_record(client->run, client, "closed_idle",
            error ? strerror(error) : "closed by the server, unannounced, with no request open");
    drop_connection(client);
    if (client->group->kind == GROUP_IDLE)
        rest(client);
}

static void complete(struct client *client);

/* The server has ended the connection: @error is 0 at the end of the stream, else an errno. */
static void lose(struct client *client, int error)
{
    char what[FAILURE_TEXT];

    if (client->state == CLIENT_RESTING)
        return lose_resting(client, error);
    if (client->state == CLIENT_CLOSING) {
        if (error != 0)
            return fail_errno(client, FAILURE_RESET, error, "after the last answer");
        drop_connection(client);
        return rest(client);
    }
    if (error == 0 && answer_ends_by_close(&client->answer)) {
        complete(client);
        drop_connection(client);
        return rest(client);
    }
    (void)snprintf(what, sizeof what, "%s after %" PRIu64 " bytes of the answer%s",
        error ? strerror(error) : "closed by the server", client->answer.bytes,
        client->state == CLIENT_SENDING ? ", with the request not sent in full" : "");
    fail(client, error ? FAILURE_RESET : FAILURE_CLOSED_EARLY, what);
}

/* Answered before the request was sent in full: that can only be a refusal. */
static bool is_early(const struct client *client, unsigned request)
{
    return client->sent < client->group->ends[request + 1];
}

/* A whole answer fails for one thing at the most. */
static void judge(struct client *client)
{
    enum failure failure;
    struct reason reason;

    if (!group_judge(client->group, &client->answer, &client->comparison, &failure, &reason))
        count_failure(client, failure, reason.text);
    else if (is_early(client, client->next))
        count_failure(client, FAILURE_BAD_RESPONSE, "answered before the request was sent in full");
}

static bool connection_ends(const struct client *client)
{
    return client->group->kind == GROUP_CONNECT || answer_is_last(&client->answer);
}

static void begin_answer(struct client *client)
{
    answer_begin(&client->answer, client->group->to_head);
    comparison_begin(&client->comparison, group_expectation(client->group, client->next));
}

/* An answer is whole. */
static void complete(struct client *client)
{
    struct tally *tally = &client->group->tally;
    uint64_t now = clock_monotonic_usec();

    tally->responses++;
    tally->statuses[client->answer.status]++;
    histogram_add(&tally->latency, now > client->begin_usec ? now - client->begin_usec : 0);
    judge(client);
    client->next++;
    run_settled(client->run, client, true);
    if (connection_ends(client)) {
        tally->unprocessed += client->batch - client->next;
        client->next = client->batch;
        if (client->group->kind == GROUP_CONNECT)
            tally->closed_requested++;
        else
            tally->closed_announced++;
    } else if (client->next < client->batch) {
        begin_answer(client);
    }
}

/* The last answer of a batch is whole; a @surplus followed it. */
static void end_batch(struct client *client, bool surplus)
{
    ev_timer_stop(client->run->loop, &client->timer);
    if (surplus)
        return fail(client, FAILURE_BAD_RESPONSE, "bytes after the end of the answer");
    if (connection_ends(client)) {
        enter(client, CLIENT_CLOSING);
        return run_expect(client->run, client);
    }
    if (client->sent < client->send_end) { /* judged already; the rest cannot be sent any more */
        drop_connection(client);
        return retry(client);
    }
    rest(client);
}

static void pause_download(struct client *client, size_t length)
{
    uint64_t rate = client->group->rate, now = clock_monotonic_usec();
    uint64_t earliest = now - USEC_PER_SEC / READS_PER_SEC;

    if (client->read_usec < earliest)
        client->read_usec = earliest;
    client->read_usec += length * USEC_PER_SEC / rate;
    if (client->read_usec > now)
        start_timer(client, client->read_usec - now);
}

static bool is_throttled(const struct client *client)
{
    return client->group->rate > 0 && !client->run->unthrottled;
}

static size_t read_limit(const struct client *client)
{
    size_t all = sizeof client->run->bytes, some = client->group->rate / READS_PER_SEC;

    if (!is_throttled(client) || some > all)
        return all;
    return some > 0 ? some : 1;
}

static void take_content(struct client *client, struct span content)
{
    comparison_feed(&client->comparison, content);
    if (client->group->kind != GROUP_DOWNLOAD)
        return;
    run_settled(client->run, client, true);
    run_expect(client->run, client);
}

static void take_answers(struct client *client, struct span bytes)
{
    struct span content;
    struct reason reason = {"out of memory"};

    for (;;) {
        int r = answer_feed(&client->answer, &bytes, &content, &reason);
        if (r < 0)
            return fail(client, FAILURE_BAD_RESPONSE, reason.text);
        if (r == 0)
            return;
        if (r == ANSWER_CONTENT) {
            take_content(client, content);
            continue;
        }
        complete(client);
        if (client->next == client->batch)
            return end_batch(client, bytes.length > 0);
        if (is_early(client, client->next - 1))
            return fail(client, FAILURE_BAD_RESPONSE, "an answer to an earlier request came early");
    }
}

static void receive(struct client *client)
{
    ssize_t n = recv(client->fd, client->run->bytes, read_limit(client), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        return lose(client, n < 0 ? errno : 0);
    client->group->tally.bytes += (uint64_t)n;
    if (client->state == CLIENT_RESTING || client->state == CLIENT_CLOSING)
        return fail(client, FAILURE_BAD_RESPONSE, "bytes with no request open");
    take_answers(client, (struct span){client->run->bytes, (size_t)n});
    if (client->state == CLIENT_RECEIVING && is_throttled(client))
        pause_download(client, (size_t)n);
}

/* Sends what is left of the batch, or the next piece of it. */
static void transmit(struct client *client)
{
    const struct group *group = client->group;
    bool slow = group->kind == GROUP_SLOWHEAD;
    size_t length = client->send_end - client->sent;
    uint64_t now = slow ? clock_monotonic_usec() : 0;

    enter(client, CLIENT_SENDING);
    if (slow) {
        size_t piece = random_between(client, group->piece);
        length = piece < length ? piece : length;
    }
    ssize_t n = send(client->fd, group->requests.bytes + client->sent, length, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return lose(client, errno);
    client->sent += n > 0 ? (size_t)n : 0;
    if (client->sent == client->send_end) {
        enter(client, CLIENT_RECEIVING);
        if (slow) /* its own slowness is none of the server's */
            client->begin_usec = now;
    } else if (slow) {
        start_timer(client, random_between(client, group->gap_usec));
    }
}

static void connected(struct client *client)
{
    client->group->tally.connections_opened++;
    transmit(client);
}

static void fail_connect(struct client *client, int error)
{
    bool refused = error == ECONNREFUSED;

    fail(client, refused ? FAILURE_CONNECT_REFUSED : FAILURE_CONNECT_FAILED, strerror(error));
}

static void dial(struct client *client)
{
    int r = dialer_dial(&client->run->dialer, (int)client->group->receive_buffer, &client->fd);

    enter(client, CLIENT_CONNECTING);
    if (r < 0)
        fail_connect(client, -r);
    else if (r == DIAL_FULL)
        start_timer(client, DIAL_AGAIN_USEC);
    else if (r == 0)
        connected(client);
}

static void end_dial(struct client *client)
{
    int error = 0;
    socklen_t length = sizeof error;

    if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        error = errno;
    if (error != 0)
        fail_connect(client, error);
    else
        connected(client);
}

static bool is_paced(const struct client *client)
{
    return client->run->options->rate > 0 && client->group->kind == GROUP_KEEPALIVE;
}

/* Begins the next batch: counts its requests, and sends them on a connection old or new. */
static void begin(struct client *client)
{
    struct run *run = client->run;
    unsigned batch = client->final ? 1 : run_take_requests(run, client->group->depth);

    if (batch == 0)
        return finish(client);
    client->group->tally.requests += batch;
    client->batch = batch;
    client->next = 0;
    client->sent = 0;
    client->send_end = client->group->ends[batch];
    client->begin_usec = clock_monotonic_usec();
    if (is_paced(client) && run_is_paced(run)) {
        client->begin_usec = run_due_usec(run, client->due);
        client->due += run->paced_count;
        run->due_begun++;
    }
    begin_answer(client);
    run_expect(run, client);
    if (client->fd < 0)
        dial(client);
    else
        transmit(client);
}

/* How long until the next request; USEC_INFINITY: until client_take_turn() or client_stop(). */
static uint64_t think(struct client *client)
{
    if (client->group->kind == GROUP_IDLE)
        return client->fd >= 0 ? USEC_INFINITY : 0;
    if (!is_paced(client))
        return random_between(client, client->group->think_usec);
    if (!client->answered)
        return 0;
    if (!run_is_paced(client->run))
        return USEC_INFINITY;
    return run_due_usec(client->run, client->due) > clock_monotonic_usec() ? USEC_INFINITY : 0;
}

/* No request is open any more: the next one comes after @wait_usec, unless the run is over. */
static void rest_for(struct client *client, uint64_t wait_usec)
{
    enter(client, CLIENT_RESTING);
    ev_timer_stop(client->run->loop, &client->timer);
    run_expect_nothing(client);
    if (client->run->stopping) {
        if (client->group->kind != GROUP_IDLE || client->final || client->fd < 0)
            return finish(client);
        client->final = true;
        return begin(client);
    }
    if (wait_usec == 0)
        begin(client);
    else if (wait_usec != USEC_INFINITY)
        start_timer(client, wait_usec);
}

/* After an answer. */
static void rest(struct client *client)
{
    rest_for(client, think(client));
}

/* After a failure: who has a plan keeps to it. */
static void retry(struct client *client)
{
    uint64_t wait = is_paced(client) ? think(client) : 0;

    rest_for(client, wait > FAILURE_PAUSE_USEC ? wait : FAILURE_PAUSE_USEC);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
    struct client *client = io->data;

    (void)loop;
    if (client->state == CLIENT_CONNECTING)
        end_dial(client);
    else if (client->state == CLIENT_SENDING && !(events & EV_READ))
        transmit(client);
    else
        receive(client);
    watch(client);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct client *client = timer->data;

    (void)loop, (void)events;
    switch (client->state) {
    case CLIENT_RESTING:
        begin(client);
        break;
    case CLIENT_CONNECTING:
        dial(client);
        break;
    case CLIENT_SENDING:
        transmit(client);
        break;
    default: /* the pause of a download is over: it is watched again */
        break;
    }
    watch(client);
}

void client_init(
    struct client *client, struct run *run, struct group *group, unsigned number, uint64_t seed)
{
    *client = (struct client){.run = run, .group = group, .number = number, .fd = -1};
    client->random = seed > 0 ? seed : 1; /* of 0, xorshift makes 0 for ever */
    list_init(&client->deadline);
    ev_io_init(&client->io, on_io, -1, 0);
    ev_timer_init(&client->timer, on_timer, 0., 0.);
    /* What the kernel has already told of a connection is heard before anything is sent on it. */
    ev_set_priority(&client->io, 1);
    client->io.data = client->timer.data = client;
}

void client_clear(struct client *client)
{
    drop_connection(client);
    ev_timer_stop(client->run->loop, &client->timer);
    answer_clear(&client->answer);
}

void client_start(struct client *client)
{
    begin(client);
    watch(client);
}

void client_take_turn(struct client *client)
{
    if (client->state != CLIENT_RESTING || timer_runs(client))
        return;
    begin(client);
    watch(client);
}

/* What it waits for began before its timeout did, and has not ended. */
static bool is_overdue(const struct client *client)
{
    return list_empty(&client->deadline) && client->state != CLIENT_RESTING &&
           client->state != CLIENT_DONE;
}

/* Where this process itself was late, what it waits for may have come in time. */
static void catch_up(struct client *client)
{
    const struct tally *tally = &client->group->tally;
    struct pollfd connection = {.fd = client->fd, .events = POLLOUT};
    uint64_t before;

    if (client->state == CLIENT_CONNECTING) {
        if (poll(&connection, 1, 0) <= 0) /* a negative fd is ignored, poll(2) */
            return;
        run_expect(client->run, client);
        return end_dial(client);
    }
    do {
        before = tally->bytes;
        receive(client);
    } while (is_overdue(client) && tally->bytes > before);
}

void client_expire(struct client *client)
{
    static const char *const awaited[] = {
        [CLIENT_RESTING] = "nothing",
        [CLIENT_CONNECTING] = "the connection",
        [CLIENT_SENDING] = "the request to be sent in full",
        [CLIENT_RECEIVING] = "the answer",
        [CLIENT_CLOSING] = "the server to close the connection after its last answer",
        [CLIENT_DONE] = "nothing",
    };
    char what[FAILURE_TEXT];

    catch_up(client);
    if (is_overdue(client)) {
        (void)snprintf(what, sizeof what, "waited for %s; %" PRIu64 " bytes of an answer came",
            awaited[client->state], client->answer.bytes);
        fail(client, FAILURE_TIMEOUT, what);
    }
    watch(client);
}

void client_stop(struct client *client)
{
    if (client->state != CLIENT_RESTING) /* rest() will know */
        return;
    if (client->fd >= 0) /* a close that has happened by now still counts */
        receive(client);
    if (client->state == CLIENT_RESTING)
        rest(client);
    watch(client);
}
