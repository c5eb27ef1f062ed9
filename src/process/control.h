#pragma once

#include <ev.h>

#include "base/error.h"
#include "base/list.h"
#include "config/config.h"

/*
 * The control socket: how `baton reload`, `status`, `pause`, `resume` and `stop` talk to the
 * supervisor. SOCK_SEQPACKET, one request ("reload", "pause NAME") and one answer: "ok\n" or
 * "failed\n", and text for the person who asked. Only root and the server's own user may ask (mode
 * 0600, and SO_PEERCRED is checked).
 */

/* Longer requests are refused, and as the longest there is "resume" with the name of a section. */
#define CONTROL_REQUEST_MAX 320

struct control_connection {
    struct link link;
    struct control *control;
    ev_io io;
};

struct control {
    struct ev_loop *loop;
    ev_io io;
    struct link connections;
    unsigned connection_count;
    /* The callee answers with control_answer(), now or later, or leaves the connection to its end.
     */
    void (*asked)(void *owner, struct control_connection *connection, const char *request);
    void *owner;
};

/*
 * Makes the socket file; one that nobody listens on any more is replaced. Returns 0, -EADDRINUSE (a
 * server answers there) or -errno, with the reason.
 */
int control_listen(const char *path, int *ret_fd, struct reason *reason);

/* Serves the listening @fd (owned; -1: no control socket). */
void control_init(struct control *control, struct ev_loop *loop, int fd,
    void (*asked)(void *owner, struct control_connection *connection, const char *request),
    void *owner);
/* A connection that waits for an answer, from the former image of this process. Takes @fd. */
struct control_connection *control_adopt(struct control *control, int fd);
/* Sends the answer and closes. @text may be long (a status). */
void control_answer(struct control_connection *connection, int ok, const char *text);
/* Stops watching, frees, and yields the fd: for a succession. */
int control_release_connection(struct control_connection *connection);
int control_release(struct control *control);
/* Closes everything and removes the socket file. */
void control_destroy(struct control *control);
/* Closes everything, in a forked child: the file stays. */
void control_abandon(struct control *control);

/*
 * The client's side: asks, and waits for the answer as long as it takes. *ret_text is the caller's.
 * Returns 0 (ok), 1 (failed: the text says why), or -errno with the reason (nobody listens, the
 * server went away before it answered).
 */
int control_ask(const char *path, const char *request, char **ret_text, struct reason *reason);

/*
 * Where the socket is, in this order: @option, else ControlSocket= of @config (NULL: not known),
 * else control.sock in the runtime directory: $RUNTIME_DIRECTORY, for root /run/baton, else
 * $XDG_RUNTIME_DIR/baton. Returns NULL where there is none of these, or @ret, which holds PATH_MAX.
 */
const char *control_path(const char *option, const struct config *config, char *ret);
