#include "load_client.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "load_arrival.h"
#include "load_random.h"
#include "load_run.h"

/* After a failure, so that a server that is down is not asked as fast as the CPU allows. */
#define FAILURE_PAUSE_USEC (10 * USEC_PER_MSEC)
#define DIAL_AGAIN_USEC USEC_PER_MSEC

/* The only place where the state changes. */
void client_enter(struct client *client, enum client_state state)
{
    assert(client->state != CLIENT_DONE); /* it has been counted out */
    client->state = state;
}

static bool timer_runs(const struct client *client)
{
    return ev_is_active(&client->timer);
}

void client_start_timer(struct client *client, uint64_t usec)
{
    ev_timer_stop(client->run->loop, &client->timer);
    ev_timer_set(&client->timer, usec_to_seconds(usec), 0.);
    ev_timer_start(client->run->loop, &client->timer);
}

/* Whether messages go through it, not requests. */
bool client_is_tunnel(const struct client *client)
{
    return client->upgraded || client->group->kind == GROUP_RAW;
}

/* What a tunnel owes beside what is asked: pongs. */
static int events_owed(const struct client *client)
{
    return client->tunnel.out.length > client->tunnel.sent ? EV_WRITE : 0;
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
        return timer_runs(client) ? EV_READ : EV_READ | EV_WRITE;
    case CLIENT_RECEIVING: /* in the pause of a download nothing is read */
        return timer_runs(client) ? 0 : EV_READ | events_owed(client);
    case CLIENT_RESTING:
    case CLIENT_CLOSING:
        return EV_READ | events_owed(client);
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

void client_drop(struct client *client)
{
    ev_io_stop(client->run->loop, &client->io);
    client->fd = fd_close(client->fd);
    client->upgraded = false;
    tunnel_reset(&client->tunnel);
}

void client_finish(struct client *client)
{
    client_drop(client);
    ev_timer_stop(client->run->loop, &client->timer);
    run_expect_nothing(client);
    client_enter(client, CLIENT_DONE);
    run_client_done(client->run);
}

void client_count_failure(struct client *client, enum failure failure, const char *what)
{
    client->group->tally.failures[failure]++;
    run_record(client->run, client, failure_name(failure), what);
}

/*
 * The connection is of no more use: every request on it that has no answer has failed; where none
 * was open, the connection itself has.
 */
void client_fail(struct client *client, enum failure failure, const char *what)
{
    unsigned open = client->batch - client->next;

    client->group->tally.unanswered += open;
    for (unsigned i = 0; i < open || i == 0; i++)
        client_count_failure(client, failure, what);
    client->next = client->batch;
    run_settled(client->run, client, false);
    client_drop(client);
    client_retry(client);
}

static void fail_errno(
    struct client *client, enum failure failure, int error, const char *while_what)
{
    char what[FAILURE_TEXT];

    (void)snprintf(what, sizeof what, "%s %s", strerror(error), while_what);
    client_fail(client, failure, what);
}

/* Nothing was asked, and the server closed the connection or reset it. An idle client connects
 * again, another one when its next request is due. */
static void lose_resting(struct client *client, int error)
{
    client->group->tally.closed_idle++;
    if (!client->run->options->allow_close_idle)
        run_record(client->run, client, "closed_idle",
            error ? strerror(error) : "closed by the server, unannounced, with no request open");
    client_drop(client);
    if (client->group->kind == GROUP_IDLE)
        client_rest(client);
}

/* The server has ended the connection: @error is 0 at the end of the stream, else an errno. */
void client_lose(struct client *client, int error)
{
    char what[FAILURE_TEXT];

    if (client->state == CLIENT_RESTING)
        return lose_resting(client, error);
    if (client->state == CLIENT_CLOSING) {
        if (error != 0)
            return fail_errno(client, FAILURE_RESET, error, "after the last answer");
        if (client->upgraded && !client->tunnel.closed)
            return client_fail(client, FAILURE_CLOSED_EARLY, "closed without a Close frame");
        client_drop(client);
        return client_rest(client);
    }
    if (error == 0 && answer_ends_by_close(&client->answer)) {
        arrival_complete(client);
        client_drop(client);
        return client_rest(client);
    }
    (void)snprintf(what, sizeof what, "%s after %" PRIu64 " bytes of the answer%s",
        error ? strerror(error) : "closed by the server",
        client_is_tunnel(client) ? client->tunnel.received : client->answer.bytes,
        client->state == CLIENT_SENDING ? ", with the request not sent in full" : "");
    client_fail(client, error ? FAILURE_RESET : FAILURE_CLOSED_EARLY, what);
}

/* Sends what is left of the batch, or the next piece of it. */
static void transmit(struct client *client)
{
    const struct group *group = client->group;
    bool slow = group->piece.high > 0 && !client->run->unthrottled;
    size_t length = client->send_end - client->sent;
    uint64_t now = slow ? clock_monotonic_usec() : 0;

    client_enter(client, CLIENT_SENDING);
    if (slow) {
        size_t piece = random_between(&client->random, group->piece);
        length = piece < length ? piece : length;
    }
    ssize_t n = send(client->fd, group->requests.bytes + client->sent, length, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return client_lose(client, errno);
    client->sent += n > 0 ? (size_t)n : 0;
    if (group->kind == GROUP_UPLOAD && n > 0) /* its timeout counts from the last piece */
        run_expect(client->run, client);
    if (client->sent == client->send_end) {
        client_enter(client, CLIENT_RECEIVING);
        if (slow) /* its own slowness is none of the server's */
            client->begin_usec = now;
    } else if (slow) {
        client_start_timer(client, random_between(&client->random, group->gap_usec));
    }
}

/* Sends what is left of the message, and of what else the tunnel owes. */
static void transmit_messages(struct client *client)
{
    struct span unsent = tunnel_unsent(&client->tunnel);
    ssize_t n = send(client->fd, unsent.at, unsent.length, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return client_lose(client, errno);
    tunnel_note_sent(&client->tunnel, n > 0 ? (size_t)n : 0);
    if (client->state == CLIENT_SENDING && tunnel_unsent(&client->tunnel).length == 0)
        client_enter(client, CLIENT_RECEIVING);
}

/* Says what the batch is made of, on a connection that is there. */
static void speak(struct client *client)
{
    struct group *group = client->group;

    if (!client_is_tunnel(client))
        return transmit(client);
    client_enter(client, CLIENT_SENDING);
    if (tunnel_say(&client->tunnel, &group->phrases, &client->random) < 0)
        return client_fail(client, FAILURE_BAD_RESPONSE, "no memory for a message");
    transmit_messages(client);
}

/* The end of a tunnel, from our side. */
static void part(struct client *client)
{
    client_enter(client, CLIENT_CLOSING);
    run_expect(client->run, client);
    client->group->tally.closed_requested++;
    if (!client->upgraded)
        (void)shutdown(client->fd, SHUT_WR); /* it may be lost already: then that is read */
    else if (tunnel_say_close(&client->tunnel) < 0)
        client_fail(client, FAILURE_BAD_RESPONSE, "no memory for a message");
    else
        transmit_messages(client);
}

static void connected(struct client *client)
{
    client->group->tally.connections_opened++;
    speak(client);
}

static void fail_connect(struct client *client, int error)
{
    bool refused = error == ECONNREFUSED;

    client_fail(
        client, refused ? FAILURE_CONNECT_REFUSED : FAILURE_CONNECT_FAILED, strerror(error));
}

static void dial(struct client *client)
{
    int r = dialer_dial(&client->group->dialer, (int)client->group->receive_buffer, &client->fd);

    client_enter(client, CLIENT_CONNECTING);
    if (r < 0)
        fail_connect(client, -r);
    else if (r == DIAL_FULL)
        client_start_timer(client, DIAL_AGAIN_USEC);
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
        return client_is_tunnel(client) && client->fd >= 0 ? part(client) : client_finish(client);
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
    arrival_begin(client);
    run_expect(run, client);
    if (client->fd < 0)
        dial(client);
    else
        speak(client);
}

/* How long until the next request; USEC_INFINITY: until client_take_turn() or client_stop(). */
static uint64_t think(struct client *client)
{
    if (client->group->kind == GROUP_IDLE)
        return client->fd >= 0 ? USEC_INFINITY : 0;
    if (!is_paced(client))
        return random_between(&client->random, client->group->think_usec);
    if (!client->answered)
        return 0;
    if (!run_is_paced(client->run))
        return USEC_INFINITY;
    return run_due_usec(client->run, client->due) > clock_monotonic_usec() ? USEC_INFINITY : 0;
}

/* The run is over: who was silent, or has a tunnel, makes sure that the connection is still good.
 */
static void wind_up(struct client *client)
{
    bool idle = client->group->kind == GROUP_IDLE, tunnel = client_is_tunnel(client);

    if (client->fd < 0 || (!idle && !tunnel) || (idle && client->final))
        return client_finish(client);
    if (client->final)
        return part(client);
    client->final = true;
    begin(client);
}

/* No request is open any more: the next one comes after @wait_usec, unless the run is over. */
static void rest_for(struct client *client, uint64_t wait_usec)
{
    client_enter(client, CLIENT_RESTING);
    ev_timer_stop(client->run->loop, &client->timer);
    run_expect_nothing(client);
    if (client->run->stopping)
        return wind_up(client);
    if (wait_usec == 0)
        begin(client);
    else if (wait_usec != USEC_INFINITY)
        client_start_timer(client, wait_usec);
}

/* After an answer. */
void client_rest(struct client *client)
{
    rest_for(client, think(client));
}

/* After a failure: who has a plan keeps to it. */
void client_retry(struct client *client)
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
    else if (!(events & EV_READ) && client_is_tunnel(client))
        transmit_messages(client);
    else if (!(events & EV_READ))
        transmit(client);
    else
        arrival_receive(client);
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
    client_drop(client);
    ev_timer_stop(client->run->loop, &client->timer);
    answer_clear(&client->answer);
    events_clear(&client->events);
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
        arrival_receive(client);
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
        client_fail(client, FAILURE_TIMEOUT, what);
    }
    watch(client);
}

void client_stop(struct client *client)
{
    if (client->group->kind == GROUP_EVENTS && client->state != CLIENT_RESTING)
        client->final = true;
    if (client->state != CLIENT_RESTING) /* client_rest() will know */
        return;
    if (client->fd >= 0) /* a close that has happened by now still counts */
        arrival_receive(client);
    if (client->state == CLIENT_RESTING)
        client_rest(client);
    watch(client);
}
