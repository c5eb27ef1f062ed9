#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

/*
 * A folder whose files are served, and nothing outside of it. It is held open; a folder that is put
 * in its place later (a rename, a symbolic link pointed at the next release) is noticed within a
 * second, and served as a whole from then on.
 *
 * Symbolic links are followed as long as they stay beneath the root; absolute ones never do. The
 * kernel sees to it (openat2(2), RESOLVE_BENEATH), or where a sandbox refuses that call (systemd's
 * RestrictSUIDSGID=yes answers ENOSYS), a walk of our own, one segment at a time, with the same
 * outcome.
 */
struct root {
    int fd;
    const char *folder; /* the caller's */
    time_t checked;     /* when the folder was last looked for */
    bool walk;          /* the second way; root_init() decides, tests may */
};

/*
 * Opens @folder, which stays the caller's and must outlive the root, and finds out whether
 * openat2(2) is allowed. Returns 0 or -errno.
 */
int root_init(struct root *root, const char *folder);
void root_destroy(struct root *root);
/*
 * Looks, once a second, whether another folder stands under the name now. Where there is none for
 * the moment, the one that is held stays.
 */
void root_refresh(struct root *root, time_t now);

enum {
    ROOT_FILE,      /* a regular file: *ret_fd, the caller's, is open for reading */
    ROOT_FOLDER,    /* a directory; no fd, *ret_stat is its own */
    ROOT_NOT_FOUND, /* no such name, or one that leads out of the root */
    ROOT_FORBIDDEN, /* not readable for us, or a device, FIFO or socket */
};

/*
 * Opens @path beneath the root; slashes at its beginning are skipped. Never blocks on a FIFO.
 * Returns one of the above, or -errno: -EMFILE, -ENFILE, -ENOMEM (try again later), -EAGAIN (names
 * changed all the time during the lookup, or another process holds a lease), or what the file
 * system says (-EIO, ...).
 */
int root_open(const struct root *root, const char *path, int *ret_fd, struct stat *ret_stat);
