#pragma once

#include "base/buffer.h"
#include "config/config.h"
#include "net/dial.h"

/*
 * Asks a server of an upstream for Probe= every ProbeInterval=, over a connection of its own, and
 * says whether it is up: ProbeRise= good answers in a row bring it up, ProbeFall= others down.
 * Until the first ones have come it counts as up.
 */
struct probe_calls {
    /* Where to connect to; NULL: not known yet, which counts as no answer. */
    const struct address *(*address)(void *owner);
    /* It went up or down; @why is valid in the call. */
    void (*changed)(void *owner, bool up, const char *why);
};

struct probe {
    struct ev_loop *loop;
    const struct config_upstream *config;
    const char *host;
    const struct probe_calls *calls;
    void *owner;
    ev_timer interval;
    ev_io io;
    struct dial dial;
    struct deadline_list timeout; /* of one probe, from its dial on */
    struct deadline deadline;
    struct buffer head;
    bool down;
    bool concluded;    /* something is known */
    unsigned in_a_row; /* answers that speak for a change */
};

/* Does nothing where no Probe= is configured. @host: the Host field. All stay the caller's. */
void probe_init(struct probe *probe, struct ev_loop *loop, const struct config_upstream *config,
    const char *host, const struct probe_calls *calls, void *owner);
void probe_deinit(struct probe *probe);
