#pragma once

#include <stdint.h>

/*
 * What the supervisor and a worker say to each other, over one SOCK_SEQPACKET pair for each worker.
 * The two may be of different builds: the struct and the numbers are a contract, to which can only
 * be added; an unknown kind is ignored, a message of another size is an error.
 */
enum message_kind {
    /* to the worker */
    MESSAGE_RETIRE = 1, /* value: microseconds it may take; flags: enum message_flags; text: the
                         * oldest and the newest record version (record.h) that who follows reads */
    MESSAGE_PING = 2,   /* value: to be sent back */
    MESSAGE_REOPEN = 3, /* the access log */
    MESSAGE_SERVE = 4,  /* accept and adopt from now on: its generation is the current one */
    MESSAGE_PAUSES = 5, /* the board has other pauses than before (pauses.h) */

    /* from the worker */
    MESSAGE_READY = 64,  /* it has all it needs, and can serve */
    MESSAGE_PONG = 65,   /* value: of the ping */
    MESSAGE_FAILED = 66, /* it cannot start; text: why */
    MESSAGE_SERVING =
        67, /* the answer to SERVE: it accepts, and has adopted what lay in the inbox */
};

enum message_flags {
    MESSAGE_STOP = 1, /* there is no next generation: idle connections are closed */
    MESSAGE_PARK =
        2, /* with MESSAGE_STOP: connections are left in the inbox for the next instance */
};

struct message {
    uint32_t kind;
    uint32_t flags;
    uint64_t value;
    char text[496]; /* NUL-terminated */
};

/* A nonblocking, close-on-exec pair: [0] for the supervisor, [1] for the worker. 0 or -errno. */
int channel_open(int ret[static 2]);
/* Returns 0, or -errno (-EAGAIN: the peer does not read; -EPIPE: it is gone). */
int channel_send(int fd, const struct message *message);

enum {
    CHANNEL_MESSAGE,
    CHANNEL_EMPTY,
    CHANNEL_CLOSED, /* the other side is gone */
};
/* Returns one of the above, or -errno (-EBADMSG: not a message). */
int channel_receive(int fd, struct message *ret);
