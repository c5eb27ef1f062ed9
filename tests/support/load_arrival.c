#include "load_arrival.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "load_run.h"

/* A download reads so often at the most, and makes up for no more time lost than between two. */
#define READS_PER_SEC 20

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
        client_count_failure(client, failure, reason.text);
    else if (client->group->kind == GROUP_EVENTS)
        client_count_failure(client, FAILURE_CLOSED_EARLY, "the stream of events has ended");
    else if (is_early(client, client->next))
        client_count_failure(
            client, FAILURE_BAD_RESPONSE, "answered before the request was sent in full");
}

static bool connection_ends(const struct client *client)
{
    return client->group->kind == GROUP_CONNECT || answer_is_last(&client->answer);
}

void arrival_begin(struct client *client)
{
    answer_begin(&client->answer, client->group->to_head);
    client->answer.to_upgrade = client->group->kind == GROUP_WEBSOCKET;
    events_clear(&client->events);
    client->read_usec = 0;
    comparison_begin(&client->comparison, group_expectation(client->group, client->next));
}

static void count_response(struct client *client, uint64_t usec)
{
    struct tally *tally = &client->group->tally;

    tally->responses++;
    histogram_add(&tally->latency, usec > client->begin_usec ? usec - client->begin_usec : 0);
}

/* An answer is whole. */
void arrival_complete(struct client *client)
{
    struct tally *tally = &client->group->tally;

    count_response(client, clock_monotonic_usec());
    tally->statuses[client->answer.status]++;
    judge(client);
    client->upgraded = client->answer.status == 101;
    client->tunnel.websocket = client->upgraded;
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
        arrival_begin(client);
    }
}

/* The last answer of a batch is whole; a @surplus followed it. */
static void end_batch(struct client *client, bool surplus)
{
    ev_timer_stop(client->run->loop, &client->timer);
    if (surplus)
        return client_fail(client, FAILURE_BAD_RESPONSE, "bytes after the end of the answer");
    if (connection_ends(client)) {
        client_enter(client, CLIENT_CLOSING);
        return run_expect(client->run, client);
    }
    if (client->sent < client->send_end) { /* judged already; the rest cannot be sent any more */
        client_drop(client);
        return client_retry(client);
    }
    client_rest(client);
}

static void pause_download(struct client *client, size_t length)
{
    uint64_t rate = client->group->rate, now = clock_monotonic_usec();
    uint64_t earliest = now - USEC_PER_SEC / READS_PER_SEC;

    if (client->read_usec < earliest)
        client->read_usec = earliest;
    client->read_usec += length * USEC_PER_SEC / rate;
    if (client->read_usec > now)
        client_start_timer(client, client->read_usec - now);
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

/* The run is over, and the stream was still alive: that is what it was asked for. */
static void end_stream(struct client *client)
{
    struct tally *tally = &client->group->tally;

    count_response(client, client->read_usec);
    tally->statuses[client->answer.status]++;
    tally->closed_requested++;
    client->next++;
    client_finish(client);
}

/* Returns false when the client has gone on to something else. */
static bool take_events(struct client *client, struct span content)
{
    uint64_t before = client->events.count;
    struct reason reason = {"out of memory"};
    int r = events_feed(&client->events, content, &reason);

    client->group->tally.events += client->events.count - before;
    if (r < 0) {
        client_fail(client, FAILURE_WRONG_BYTES, reason.text);
        return false;
    }
    if (client->events.count == before)
        return true;
    if (before == 0)
        client->read_usec = clock_monotonic_usec();
    if (client->final)
        end_stream(client);
    return !client->final;
}

/* Returns as take_events(). */
static bool take_content(struct client *client, struct span content)
{
    enum group_kind kind = client->group->kind;

    comparison_feed(&client->comparison, content);
    if (kind != GROUP_DOWNLOAD && kind != GROUP_SLOW && kind != GROUP_EVENTS)
        return true;
    run_settled(client->run, client, true);
    run_expect(client->run, client);
    if (kind == GROUP_EVENTS && client->answer.status == client->group->status)
        return take_events(client, content);
    return true;
}

static void take_answers(struct client *client, struct span bytes)
{
    struct span content;
    struct reason reason = {"out of memory"};

    for (;;) {
        int r = answer_feed(&client->answer, &bytes, &content, &reason);
        if (r < 0)
            return client_fail(client, FAILURE_BAD_RESPONSE, reason.text);
        if (r == 0)
            return;
        if (r == ANSWER_CONTENT && !take_content(client, content))
            return;
        if (r == ANSWER_CONTENT)
            continue;
        arrival_complete(client);
        if (client->next == client->batch)
            return end_batch(client, bytes.length > 0);
        if (is_early(client, client->next - 1))
            return client_fail(
                client, FAILURE_BAD_RESPONSE, "an answer to an earlier request came early");
    }
}

/* The message has come back. */
static void end_echo(struct client *client)
{
    if (client->state == CLIENT_SENDING)
        return client_fail(client, FAILURE_BAD_RESPONSE, "an echo of what was not sent in full");
    count_response(client, clock_monotonic_usec());
    client->group->tally.echoes++;
    client->next++;
    run_settled(client->run, client, true);
    client_rest(client);
}

static void take_messages(struct client *client, size_t length)
{
    struct reason reason = {"out of memory"};
    int r = tunnel_feed(&client->tunnel, client->run->bytes, length, &reason);

    if (r < 0)
        client_fail(client, r == -EILSEQ ? FAILURE_WRONG_BYTES : FAILURE_BAD_RESPONSE, reason.text);
    else if (r == TUNNEL_CLOSED && client->state != CLIENT_CLOSING)
        client_lose(client, 0);
    else if (r == TUNNEL_ECHOED)
        end_echo(client);
}

void arrival_receive(struct client *client)
{
    ssize_t n = recv(client->fd, client->run->bytes, read_limit(client), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        return client_lose(client, n < 0 ? errno : 0);
    client->group->tally.bytes += (uint64_t)n;
    if (client_is_tunnel(client))
        return take_messages(client, (size_t)n);
    if (client->state == CLIENT_RESTING || client->state == CLIENT_CLOSING)
        return client_fail(client, FAILURE_BAD_RESPONSE, "bytes with no request open");
    take_answers(client, (struct span){client->run->bytes, (size_t)n});
    if (client->state == CLIENT_RECEIVING && is_throttled(client))
        pause_download(client, (size_t)n);
}
