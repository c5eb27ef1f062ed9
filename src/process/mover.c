#include "process/mover.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "connection/move.h"
#include "process/catalog.h"

/* No event tells when fds in flight have become fewer. */
#define CROWDED_SECONDS 0.01
/*
 * All workers wake when a message comes, and one that is quick would take them all. Who has more
 * than another leaves the message to it for this long; whoever hangs is not waited for.
 */
#define COURTESY_SECONDS 0.002

static void count(struct mover *mover, enum counter counter)
{
    mover->server->counters->values[counter]++;
}

/* ---- adopting ---- */

/* The connection that has the next @count fds; without them, or without @record, there is none. */
static bool adopt_one(
    struct mover *mover, const struct record *record, size_t *used, size_t fd_count)
{
    bool drain;
    const int *fds = mover->fds.fds + *used;

    *used += fd_count;
    if (record && fd_count == record_fd_count(record)) {
        unsigned listener =
            mover->calls->find_listener(mover->owner, record->listener, record->admin, &drain);
        int r =
            move_adopt(mover->server, record, fds[0], fd_count > 1 ? fds[1] : -1, listener, drain);
        return r == 0;
    }
    for (size_t i = 0; i < fd_count; i++)
        fd_close(fds[i]);
    return false;
}

/* Adopts what can be read of the message; connections of which nothing can be known are closed. */
static void adopt_message(struct mover *mover)
{
    static struct record record; /* of some 3 KB, and there is one loop */
    struct span rest = buffer_span(&mover->message);
    struct record_fds fds;
    size_t used = 0;
    unsigned lost = 0;
    int count = record_open(&rest, &fds);

    for (int i = 0; i < count || used < mover->fds.count; i++) {
        bool readable = i < count && record_next(&rest, &record) == 0;
        /* The head says it, not the record: what is wrong in one must not give its neighbour
         * another client. */
        size_t its = i < count ? fds.counts[i] : 1, left = mover->fds.count - used;
        lost += !adopt_one(mover, readable ? &record : NULL, &used, its < left ? its : left);
    }
    if (lost == 0 && rest.length == 0)
        return;
    log_warning("A message of moved connections is malformed, cut short or of another version: %u "
                "of its connections are closed",
        lost);
    mover->server->counters->values[COUNTER_MOVE_REFUSED] += lost;
}

/* Returns whether there was a message. */
static bool receive(struct mover *mover)
{
    int r = inbox_receive(mover->readable.fd, &mover->message, &mover->fds);

    if (r == INBOX_EMPTY)
        return false;
    if (r < 0 && r != -EBADMSG && r != -ENOMEM && r != -EMFILE) {
        log_error("The inbox cannot be read: %s", strerror(-r));
        ev_io_stop(mover->loop, &mover->readable);
        return false;
    }
    if (r == -EBADMSG || r == -ENOMEM) {
        log_warning("A message of moved connections cannot be read: %s", strerror(-r));
        count(mover, COUNTER_MOVE_REFUSED);
    } else {
        if (r == -EMFILE)
            log_error("Out of file descriptors: moved connections were lost (LimitNOFILE=)");
        adopt_message(mover);
    }
    if (inbox_is_empty(mover->readable.fd))
        mover->calls->emptied(mover->owner);
    return true;
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
    struct mover *mover = io->data;

    (void)events;
    if (!mover->calls->has_room(mover->owner)) {
        mover_pause(mover);
    } else if (!mover->courteous && mover->calls->is_ahead(mover->owner)) {
        mover->courteous = true;
        ev_io_stop(loop, io);
        ev_timer_set(&mover->courtesy, COURTESY_SECONDS, 0);
        ev_timer_start(loop, &mover->courtesy);
    } else {
        mover->courteous = false;
        (void)receive(mover);
    }
}

static void on_courtesy_over(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct mover *mover = timer->data;

    (void)events;
    ev_io_start(loop, &mover->readable);
}

/* ---- sending ---- */

/*
 * How many connections go in one message: as many as fit when there are thousands, but so few of a
 * smaller number that every worker that follows gets its share. When they are parked, all messages
 * have to find room: a server without privileges has room for some 500 (inbox.c).
 */
static size_t batch_limit(const struct mover *mover)
{
    size_t share = mover->server->connection_count / (mover->parking ? 4 : 16);

    if (share < 8)
        return 8;
    return share < RECORD_FDS_MAX ? share : RECORD_FDS_MAX;
}

static void batch_begin(struct mover *mover)
{
    mover->batch_count = 0;
    mover->fds.count = 0;
    (void)record_begin(&mover->message); /* without memory the first record does not fit either */
}

static void on_crowded(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct mover *mover = timer->data;

    (void)loop;
    (void)events;
    mover->waiting = false; /* the turn that begins sends */
}

static void on_writable(struct ev_loop *loop, ev_io *io, int events)
{
    struct mover *mover = io->data;

    (void)events;
    ev_io_stop(loop, io);
    mover->waiting = false; /* as above */
}

/* What was promised to nobody ends politely: idle connections now, others with their next answer.
 */
static void give_up(struct mover *mover)
{
    size_t left = mover->server->connection_count;

    mover->server->counters->values[COUNTER_MOVE_UNFIT] += left;
    log_explained(LOG_WARNING, CATALOG_NO_ROOM_TO_PARK,
        "%zu connections find no room in the inbox: they end here", left);
    mover_pause(mover);
    server_retire(mover->server, RETIRING_STOP);
}

static void wait_for_room(struct mover *mover, int why)
{
    if (mover->parking) {
        give_up(mover);
        return;
    }
    mover->waiting = true;
    count(mover, COUNTER_MOVE_FULL);
    if (why == INBOX_FULL) {
        ev_io_start(mover->loop, &mover->writable);
    } else {
        ev_timer_set(&mover->crowded, CROWDED_SECONDS, 0);
        ev_timer_start(mover->loop, &mover->crowded);
    }
}

/* A batch goes as a whole or not at all: until it has gone, its connections are served here. */
static bool batch_send(struct mover *mover)
{
    if (mover->batch_count == 0)
        return true;
    int r = inbox_send(mover->writable.fd, buffer_span(&mover->message), &mover->fds);
    if (r == INBOX_FULL || r == INBOX_CROWDED) {
        wait_for_room(mover, r);
        return false;
    }
    if (r < 0) {
        log_error("The inbox cannot be written: %s; connections drain here", strerror(-r));
        mover_pause(mover);
        server_retire(mover->server, RETIRING_DRAIN);
        return false;
    }
    for (size_t i = 0; i < mover->batch_count; i++)
        move_complete(mover->batch[i]);
    batch_begin(mover);
    return true;
}

/* -EMSGSIZE: it does not fit any more. */
static int batch_add(struct mover *mover, struct connection *connection)
{
    static struct record record; /* as in adopt_message() */

    move_describe(connection, &record);
    if (mover->batch_count == mover->batch_limit ||
        mover->fds.count + record_fd_count(&record) > RECORD_FDS_MAX)
        return -EMSGSIZE;
    int r = record_append(&mover->message, &record);
    if (r < 0)
        return r;
    mover->batch[mover->batch_count++] = connection;
    mover->fds.fds[mover->fds.count++] = connection->io.fd;
    int second = move_second_fd(connection);
    if (second >= 0)
        mover->fds.fds[mover->fds.count++] = second;
    return 0;
}

/* Too large for any message: it goes on here, and is tried again when it has sent some more. */
static void leave_behind(struct mover *mover, struct connection *connection)
{
    if (!connection->unfit)
        count(mover, COUNTER_MOVE_UNFIT);
    connection->unfit = true;
}

static void send_all(struct mover *mover)
{
    mover->batch_limit = batch_limit(mover);
    batch_begin(mover);
    LIST_EACH (link, &mover->server->connections) {
        struct connection *connection = CONTAINER_OF(link, struct connection, link);
        int r = batch_add(mover, connection);
        if (r < 0 && mover->batch_count > 0) {
            if (!batch_send(mover))
                return;
            r = batch_add(mover, connection);
        }
        if (r < 0)
            leave_behind(mover, connection);
    }
    (void)batch_send(mover); /* what is left behind waits for room */
}

static void on_turn(struct ev_loop *loop, ev_prepare *prepare, int events)
{
    struct mover *mover = prepare->data;

    (void)loop;
    (void)events;
    if (!mover->waiting)
        send_all(mover);
}

/* ---- beginning and end ---- */

void mover_init(struct mover *mover, struct ev_loop *loop, struct server *server,
    const struct inbox *inbox, const struct mover_calls *calls, void *owner)
{
    mover->loop = loop;
    mover->server = server;
    mover->calls = calls;
    mover->owner = owner;
    ev_io_init(&mover->readable, on_readable, inbox->read, EV_READ);
    ev_io_init(&mover->writable, on_writable, inbox->write, EV_WRITE);
    ev_prepare_init(&mover->each_turn, on_turn);
    ev_timer_init(&mover->crowded, on_crowded, 0, 0);
    ev_timer_init(&mover->courtesy, on_courtesy_over, 0, 0);
    mover->courtesy.data = mover;
    mover->readable.data = mover->writable.data = mover->each_turn.data = mover->crowded.data =
        mover;
}

void mover_destroy(struct mover *mover)
{
    mover_pause(mover);
    buffer_clear(&mover->message);
}

void mover_adopt(struct mover *mover)
{
    ev_io_start(mover->loop, &mover->readable);
}

void mover_pause(struct mover *mover)
{
    ev_io_stop(mover->loop, &mover->readable);
    ev_io_stop(mover->loop, &mover->writable);
    ev_prepare_stop(mover->loop, &mover->each_turn);
    ev_timer_stop(mover->loop, &mover->crowded);
    ev_timer_stop(mover->loop, &mover->courtesy);
    mover->waiting = mover->courteous = false;
}

void mover_adopt_all(struct mover *mover, bool force)
{
    while ((force ||
               (mover->calls->has_room(mover->owner) && !mover->calls->is_ahead(mover->owner))) &&
           receive(mover))
        ;
}

void mover_park(struct mover *mover)
{
    mover->parking = true;
    mover_send(mover);
}

void mover_send(struct mover *mover)
{
    mover_pause(mover);
    ev_prepare_start(mover->loop, &mover->each_turn);
    send_all(mover);
}
