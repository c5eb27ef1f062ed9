#include "process/park.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/fd.h"

#define PROBE_NAME "probe"

/* FDPOLL=0: systemd would drop a socket pair's end when it hangs up, queue and all. */
static bool store(const char *message, int fd)
{
    return sd_pid_notify_with_fds(0, 0, message, &fd, 1) > 0;
}

/* The probe is the one end of a pair that nobody but systemd holds: while it is kept, ours is not
 * broken. */
static bool is_kept(int probe)
{
    return send(probe, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

static void on_said(struct ev_loop *loop, ev_io *io, int events)
{
    struct park *park = io->data;
    bool kept = is_kept(park->probe);

    (void)loop;
    (void)events;
    (void)sd_notify(0, "FDSTOREREMOVE=1\nFDNAME=" PROBE_NAME);
    park_destroy(park);
    park->found(park->owner, kept);
}

/* systemd closes the fd of a BARRIER=1 once it has read everything before it. */
static bool begin_probe(struct park *park)
{
    int probe[2], barrier[2];

    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, probe) < 0)
        return false;
    bool sent = store("FDSTORE=1\nFDNAME=" PROBE_NAME "\nFDPOLL=0", probe[1]);
    fd_close(probe[1]);
    if (!sent || pipe2(barrier, O_CLOEXEC | O_NONBLOCK) < 0) {
        fd_close(probe[0]);
        return false;
    }
    sent = store("BARRIER=1", barrier[1]);
    fd_close(barrier[1]);
    if (!sent) {
        fd_close(barrier[0]);
        fd_close(probe[0]);
        return false;
    }
    park->probe = probe[0];
    ev_io_init(&park->said, on_said, barrier[0], EV_READ);
    park->said.data = park;
    ev_io_start(park->loop, &park->said);
    return true;
}

void park_begin(struct park *park, struct ev_loop *loop, const struct inbox *inbox,
    void (*found)(void *owner, bool kept), void *owner)
{
    *park = (struct park){.found = found, .owner = owner};
    if (!getenv("NOTIFY_SOCKET") ||
        !store("FDSTORE=1\nFDNAME=" INBOX_READ_NAME "\nFDPOLL=0", inbox->read) ||
        !store("FDSTORE=1\nFDNAME=" INBOX_WRITE_NAME "\nFDPOLL=0", inbox->write))
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
