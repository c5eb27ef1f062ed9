#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "config/config.h"

/*
 * The listening sockets, as sd_listen_fds_with_names(3) passes them: at fd 3 and up, each with a
 * name. The first instance and every later one take them from there. An instance without systemd
 * binds the configured addresses itself and passes them on in the same way at its first succession.
 */

#define ACTIVATION_SOCKETS_MAX 128

struct activation_socket {
    int fd; /* nonblocking, close-on-exec */
    char *name;
    bool ours; /* we bound it: we may close it, and nobody else keeps it open */
};

/* Sockets that systemd kept for us, known by name (FDNAME=, sd_notify(3)): not listening ones. */
struct activation_stored {
    int inbox_read, inbox_write; /* -1: none. Owned by whoever takes them. */
};

struct activation {
    struct activation_socket sockets[ACTIVATION_SOCKETS_MAX];
    size_t count;
    struct activation_stored stored;
};

/*
 * Takes what was passed, and checks that each is a listening stream socket of AF_INET, AF_INET6 or
 * AF_UNIX. @ours: which of them the former instance had bound, as activation_ours() wrote it, or ""
 * at the first start. Returns 0, or -errno with the reason.
 */
int activation_take(struct activation *activation, const char *ours, struct reason *reason);

/*
 * Checks that each passed socket is named by a [Listen], and that each [Listen] without one has an
 * Address=; then binds the addresses that have no socket yet. On an error everything is as it was.
 * Returns 0, or -errno with the reason.
 */
int activation_bind(
    struct activation *activation, const struct config *config, struct reason *reason);

/*
 * Whether @config has a use for the socket. One that systemd passed stays open in any case; one of
 * ours is closed once no generation needs it.
 */
bool activation_wants(const struct activation_socket *socket, const struct config *config);
/* Closes sockets of ours that @config has no use for. */
void activation_prune(struct activation *activation, const struct config *config);

/*
 * Lays the sockets out at fd 3 and up, without close-on-exec, and sets LISTEN_FDS, LISTEN_FDNAMES
 * and LISTEN_PID, for the next image of this process. Fds that stand in the way are overwritten:
 * what must survive has been moved above activation_end() before. Returns 0 or -errno.
 */
int activation_export(struct activation *activation);
/* The first fd number behind the layout. */
int activation_end(const struct activation *activation);
/* '1' or '0' for each socket in order: whether it is ours. @ret holds ACTIVATION_SOCKETS_MAX + 1.
 */
void activation_ours(const struct activation *activation, char *ret);

/* Frees the names; the sockets stay open, for the next image or for the parent. */
void activation_forget(struct activation *activation);
/* Closes the sockets, and removes the files of those that are ours. */
void activation_close(struct activation *activation);
