#include "upstream/probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "http/proxy_protocol.h"
#include "http/response.h"

static void hang_up(struct probe *probe)
{
    if (dial_is_active(&probe->dial))
        dial_cancel(&probe->dial);
    ev_io_stop(probe->loop, &probe->io);
    probe->io.fd = fd_close(probe->io.fd);
    deadline_disarm(&probe->deadline);
    buffer_clear(&probe->head);
}

/*
 * What this probe says. So many in a row that say otherwise than what holds change it; the first of
 * all does alone, or a reload would bring servers up for a while that are down.
 */
static void conclude(struct probe *probe, bool good, const char *why)
{
    const struct config_upstream *config = probe->config;
    unsigned needed = !probe->concluded ? 1 : good ? config->probe_rise : config->probe_fall;

    hang_up(probe);
    probe->concluded = true;
    if (good != probe->down) {
        probe->in_a_row = 0;
        return;
    }
    if (++probe->in_a_row < needed)
        return;
    probe->in_a_row = 0;
    probe->down = !good;
    probe->calls->changed(probe->owner, good, why);
}

static void conclude_error(struct probe *probe, int error)
{
    char why[128];

    (void)snprintf(why, sizeof why, "its probe: %s", strerror(error));
    conclude(probe, false, why);
}

static void conclude_status(struct probe *probe, unsigned status)
{
    const struct config_upstream *config = probe->config;
    char why[64];

    (void)snprintf(why, sizeof why, "its probe was answered with %u", status);
    conclude(
        probe, status >= config->probe_status_least && status <= config->probe_status_most, why);
}

static void read_head(struct probe *probe)
{
    static const struct head_limits limits = {.size = 65536, .fields = REQUEST_FIELDS_MAX};
    static struct response response; /* of some 8 KiB */
    const char *why;

    switch (response_parse(buffer_span(&probe->head), false, &limits, &response, &why)) {
    case RESPONSE_COMPLETE:
        conclude_status(probe, response.status);
        return;
    case RESPONSE_MORE:
        return;
    default:
        conclude(probe, false, "its probe was answered with what is no response");
    }
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
    struct probe *probe = io->data;
    char piece[4096];
    ssize_t n = recv(io->fd, piece, sizeof piece, 0);

    (void)loop;
    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0)
        conclude_error(probe, errno);
    else if (n == 0)
        conclude(probe, false, "it closed before it answered its probe");
    else if (buffer_append(&probe->head, (struct span){piece, (size_t)n}) < 0)
        hang_up(probe); /* it says nothing of the server */
    else
        read_head(probe);
}

/* With SendProxy= a connection of our own says that it is one (its address is nobody's). */
static int compose(const struct probe *probe, struct buffer *out)
{
    static const struct address ourselves = {
        .any.sa_family = AF_UNIX, .length = sizeof(sa_family_t)};
    unsigned version = (unsigned)probe->config->send_proxy;
    int r = version > 0 ? proxy_header_write(version, &ourselves, &ourselves, out) : 0;

    if (r < 0)
        return r;
    return buffer_printf(out,
        "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Baton\r\nConnection: close\r\n\r\n",
        probe->config->probe, probe->host);
}

static void on_dialled(struct dial *dial, int fd, int error)
{
    struct probe *probe = dial->owner;
    CLEANUP_BUFFER struct buffer request = {0};

    if (fd < 0) {
        conclude_error(probe, error);
        return;
    }
    ev_io_set(&probe->io, fd, EV_READ);
    ev_io_start(probe->loop, &probe->io);
    if (compose(probe, &request) < 0)
        hang_up(probe);
    /* A socket that was just made takes so much. */
    else if (send(fd, request.bytes, request.length, MSG_NOSIGNAL) != (ssize_t)request.length)
        conclude_error(probe, errno);
}

static void on_expired(struct deadline *deadline)
{
    struct probe *probe = CONTAINER_OF(deadline, struct probe, deadline);

    conclude(probe, false, "its probe was not answered within ProbeTimeout=");
}

static void on_interval(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct probe *probe = timer->data;
    const struct address *address = probe->calls->address(probe->owner);

    (void)loop;
    (void)events;
    if (probe->io.fd >= 0 || dial_is_active(&probe->dial)) /* the last one goes on */
        return;
    if (!address) {
        conclude(probe, false, "its name is not known");
        return;
    }
    deadline_arm(&probe->timeout, &probe->deadline);
    int r = dial_start(&probe->dial, address, NULL);
    if (r < 0)
        conclude_error(probe, -r);
}

void probe_init(struct probe *probe, struct ev_loop *loop, const struct config_upstream *config,
    const char *host, const struct probe_calls *calls, void *owner)
{
    double interval = usec_to_seconds(config->probe_interval_usec);

    *probe = (struct probe){
        .loop = loop, .config = config, .host = host, .calls = calls, .owner = owner};
    dial_init(&probe->dial, loop, on_dialled, probe);
    deadline_init(&probe->deadline);
    deadline_list_init(
        &probe->timeout, loop, usec_to_seconds(config->probe_timeout_usec), on_expired);
    ev_io_init(&probe->io, on_readable, -1, EV_READ);
    ev_timer_init(&probe->interval, on_interval, 0, interval);
    probe->io.data = probe->interval.data = probe;
    if (config->probe)
        ev_timer_start(loop, &probe->interval);
}

void probe_deinit(struct probe *probe)
{
    if (!probe->loop)
        return;
    ev_timer_stop(probe->loop, &probe->interval);
    hang_up(probe);
    deadline_list_deinit(&probe->timeout);
}
