#pragma once

#include <ev.h>
#include <stdbool.h>

#include "connection/server.h"
#include "process/inbox.h"

/*
 * A worker's side of the inbox. While it is current it adopts what comes; while it retires it sends
 * what it has, as often as there is room, until nothing is left.
 */

struct mover_calls {
    /* The listener of that name, or, with *ret_drain, a stand-in where there is none any more. */
    unsigned (*find_listener)(void *owner, struct span name, bool admin, bool *ret_drain);
    /* Whether another message of connections can be taken now. If not, mover_adopt() is called
     * again. */
    bool (*has_room)(void *owner);
    /* Whether another worker of our generation has clearly fewer connections than we. */
    bool (*is_ahead)(void *owner);
    /* We adopted the last message that lay in the inbox. */
    void (*emptied)(void *owner);
};

struct mover {
    struct ev_loop *loop;
    struct server *server;
    const struct mover_calls *calls;
    void *owner;
    ev_io readable, writable;
    ev_prepare each_turn;
    ev_timer crowded, courtesy;
    bool courteous; /* the next message was left to others for a moment */
    struct buffer message;
    struct inbox_fds fds;
    struct connection *batch[RECORD_FDS_MAX];
    size_t batch_count, batch_limit;
    bool waiting; /* for room in the inbox */
    bool parking; /* nobody reads the inbox before we are gone: there will be no more room */
};

/* The inbox stays the caller's. Neither adopts nor sends yet. */
void mover_init(struct mover *mover, struct ev_loop *loop, struct server *server,
    const struct inbox *inbox, const struct mover_calls *calls, void *owner);
void mover_destroy(struct mover *mover);

/* Adopts from now on, while there is room; mover_pause() ends it. */
void mover_adopt(struct mover *mover);
void mover_pause(struct mover *mover);
/* Adopts our share of what lies in the inbox now; with @force, all of it, room or not. */
void mover_adopt_all(struct mover *mover, bool force);

/* Sends every connection of the server, now and whenever there is room; mover_pause() ends it. */
void mover_send(struct mover *mover);
/* Sends what fits now, and retires the server with the rest: it is stopped (RETIRING_STOP). */
void mover_park(struct mover *mover);
