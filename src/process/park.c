#include "process/park.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/fd.h"

/* FDPOLL=0: systemd would drop a socket pair's end when it hangs up, queue and all. */
#define STORE(name) "FDSTORE=1\nFDNAME=" name "\nFDPOLL=0"
#define REMOVE(name) "FDSTOREREMOVE=1\nFDNAME=" name

static bool tell(const char *message)
{
    return sd_notify(0, message) > 0;
}

static bool tell_with(const char *message, int fd)
{
    return sd_pid_notify_with_fds(0, 0, message, &fd, 1) > 0;
}

/* The probe is the one end of a pair that nobody but systemd holds: while it is kept, ours is not
 * broken. */
static bool is_kept(int probe)
{
    return send(probe, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

/* systemd reads what it is told in order, and before it looks whether we are still alive. */
static void on_said(struct ev_loop *loop, ev_io *io, int events)
{
    struct park *park = io->data;
    bool kept = is_kept(park->probe);

    (void)loop;
    (void)events;
    park_destroy(park);
    (void)tell(REMOVE(INBOX_PROBE_NAME)); /* where it cannot be told, nothing was kept either */
    if (kept)
        kept = tell_with(STORE(INBOX_WRITE_NAME), park->inbox->write);
    else
        (void)tell(REMOVE(INBOX_READ_NAME));
    park->found(park->owner, kept);
}

/* systemd closes the fd of a BARRIER=1 once it has read everything before it. */
static bool begin_probe(struct park *park)
{
    int probe[2], barrier[2];

    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, probe) < 0)
        return false;
    bool sent = tell_with(STORE(INBOX_PROBE_NAME), probe[1]);
    fd_close(probe[1]);
    if (!sent || pipe2(barrier, O_CLOEXEC | O_NONBLOCK) < 0) {
        fd_close(probe[0]);
        return false;
    }
    sent = tell_with("BARRIER=1", barrier[1]);
    fd_close(barrier[1]);
    if (!sent) {
        fd_close(barrier[0]);
        fd_close(probe[0]);
        return false;
    }
    park->probe = probe[0];
    ev_io_init(&park->said, on_said, barrier[0], EV_READ);
    ev_set_priority(
        &park->said, EV_MAXPRI); /* a SIGTERM that came with it asks for what it found */
    park->said.data = park;
    ev_io_start(park->loop, &park->said);
    return true;
}

/* What an instance that was killed at this point has left there is of no use. */
static bool empty_store(void)
{
    return tell(REMOVE(INBOX_READ_NAME)) && tell(REMOVE(INBOX_WRITE_NAME)) &&
           tell(REMOVE(INBOX_PROBE_NAME));
}

void park_begin(struct park *park, struct ev_loop *loop, const struct inbox *inbox,
    void (*found)(void *owner, bool kept), void *owner)
{
    *park = (struct park){.inbox = inbox, .found = found, .owner = owner};
    if (!getenv("NOTIFY_SOCKET") || !empty_store() ||
        !tell_with(STORE(INBOX_READ_NAME), inbox->read))
        return;
    park->loop = loop;
    if (!begin_probe(park))
        park->loop = NULL;
}

void park_destroy(struct park *park)
{
    if (!park->loop)
        return;
    ev_io_stop(park->loop, &park->said);
    fd_close(park->said.fd);
    fd_close(park->probe);
    park->loop = NULL;
}
