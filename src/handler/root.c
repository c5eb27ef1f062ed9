#include "handler/root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

/* Lookups that a rename elsewhere in the tree disturbed are tried anew this often (openat2(2)). */
#define AGAIN_MAX 16
/* As the kernel: path_resolution(7). */
#define LINKS_MAX 40

#define OPEN_FILE (O_RDONLY | O_NOCTTY | O_NONBLOCK)
#define OPEN_FOLDER (O_PATH | O_DIRECTORY)

/* Returns the fd or -errno, as all the ways to open below. */
static int open_beneath(int root, const char *path, int flags)
{
    struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };

    for (unsigned again = 0;; again++) {
        long fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
        if (fd >= 0)
            return (int)fd;
        if ((errno != EAGAIN && errno != EINTR) || again == AGAIN_MAX)
            return -errno;
    }
}

/*
 * The second way. Every open is of one name, without following it, from a directory that is known
 * to lie beneath the root: so whatever is renamed or replaced meanwhile, it cannot lead out.
 */
struct walk {
    int root, folder; /* the directory reached so far; closed unless it is the root itself */
    unsigned links;
    size_t done; /* text[0 .. done) led there and holds no "." or ".." and no link */
    char text[PATH_MAX];
};

static void walk_to(struct walk *walk, int folder, size_t done)
{
    if (walk->folder != walk->root)
        (void)fd_close(walk->folder);
    walk->folder = folder;
    walk->done = done;
}

/* Puts @length bytes in the place of text[from .. to). */
static int walk_replace(struct walk *walk, size_t from, size_t to, const char *bytes, size_t length)
{
    size_t rest = strlen(walk->text + to) + 1;

    if (from + length + rest > sizeof walk->text)
        return -ENAMETOOLONG;
    memmove(walk->text + from + length, walk->text + to, rest);
    memcpy(walk->text + from, bytes, length);
    return 0;
}

/*
 * "..", which ends at @end. Not opened: had the directory been moved away, it would lead anywhere.
 * The last name is dropped, and the walk begins at the root again.
 */
static int walk_up(struct walk *walk, size_t end)
{
    size_t at = walk->done;

    if (at == 0)
        return -EXDEV;
    while (at > 0 && walk->text[at - 1] != '/')
        at--;
    while (at > 0 && walk->text[at - 1] == '/')
        at--;
    walk_to(walk, walk->root, 0);
    return walk_replace(walk, at, end, "", 0);
}

/* The name in text[at .. end) could not be opened as @error says: perhaps it is a symbolic link. */
static int walk_follow(struct walk *walk, size_t at, size_t end, const char *name, int error)
{
    char target[PATH_MAX];

    if (error != -ELOOP && error != -ENOTDIR)
        return error;
    ssize_t length = readlinkat(walk->folder, name, target, sizeof target);
    if (length < 0 && errno == EINVAL && error == -ENOTDIR)
        return -ENOTDIR;
    if (length < 0 && errno != EINVAL)
        return -errno;
    if (walk->links++ == LINKS_MAX)
        return -ELOOP;
    if (length < 0)
        return 0; /* it was a link a moment ago: look again */
    if ((size_t)length == sizeof target)
        return -ENAMETOOLONG;
    if (target[0] == '/')
        return -EXDEV;
    return walk_replace(walk, at, end, target, (size_t)length);
}

/* One name, or "." or "..". Sets *ret_fd once the end is reached. Returns 0 or -errno. */
static int walk_step(struct walk *walk, int flags, int *ret_fd)
{
    size_t at = walk->done + strspn(walk->text + walk->done, "/");
    size_t length = strcspn(walk->text + at, "/"), end = at + length;
    bool last = walk->text[end] == '\0';
    char name[NAME_MAX + 1];

    if (length == 0) { /* the whole path names the directory we are in */
        *ret_fd = fcntl(walk->folder, F_DUPFD_CLOEXEC, 0);
        return *ret_fd < 0 ? -errno : 0;
    }
    if (length > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, walk->text + at, length);
    name[length] = '\0';
    if (strcmp(name, ".") == 0)
        return walk_replace(walk, walk->done, end, "", 0);
    if (strcmp(name, "..") == 0)
        return walk_up(walk, end);
    int fd = openat(walk->folder, name, (last ? flags : OPEN_FOLDER) | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return walk_follow(walk, at, end, name, -errno);
    if (last)
        *ret_fd = fd;
    else
        walk_to(walk, fd, end);
    return 0;
}

static int open_walking(int root, const char *path, int flags)
{
    struct walk walk;
    size_t length = strlen(path);
    int fd = -1, r = 0;

    if (length >= sizeof walk.text)
        return -ENAMETOOLONG;
    walk.root = walk.folder = root;
    walk.links = 0;
    walk.done = 0;
    memcpy(walk.text, path, length + 1);
    while (fd < 0 && r == 0)
        r = walk_step(&walk, flags, &fd);
    walk_to(&walk, root, 0);
    return r < 0 ? r : fd;
}

static int open_either(const struct root *root, const char *path, int flags)
{
    return (root->walk ? open_walking : open_beneath)(root->fd, path, flags);
}

int root_init(struct root *root, const char *folder)
{
    CLEANUP_FD int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    /* A kernel before 5.6 and systemd's RestrictSUIDSGID= say ENOSYS, other sandboxes EPERM or what
     * SystemCallErrorNumber= holds. Asked once, where nothing else can be the cause, so that EPERM
     * has its own meaning later. */
    CLEANUP_FD int probe = open_beneath(fd, ".", O_PATH);
    if (probe == -EMFILE || probe == -ENFILE || probe == -ENOMEM)
        return probe;
    *root = (struct root){.fd = TAKE_FD(fd), .folder = folder, .walk = probe < 0};
    return 0;
}

static bool is_same(int a, int b)
{
    struct stat first, second;

    return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

void root_refresh(struct root *root, time_t now)
{
    if (now == root->checked)
        return;
    root->checked = now;
    CLEANUP_FD int fd = open(root->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || is_same(fd, root->fd))
        return;
    fd_close(root->fd);
    root->fd = TAKE_FD(fd);
}

void root_destroy(struct root *root)
{
    root->fd = fd_close(root->fd);
}

/* ENXIO and ENODEV: a socket, or a device without a driver (open(2)). EINVAL and EILSEQ: a name the
 * file system cannot have. */
static int outcome_of(int error)
{
    switch (-error) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EXDEV:
    case ENAMETOOLONG:
    case EINVAL:
    case EILSEQ:
        return ROOT_NOT_FOUND;
    case EACCES:
    case EPERM:
    case ENXIO:
    case ENODEV:
        return ROOT_FORBIDDEN;
    default:
        return error;
    }
}

int root_open(const struct root *root, const char *path, int *ret_fd, struct stat *ret_stat)
{
    struct stat stat;

    path += strspn(path, "/");
    CLEANUP_FD int fd = open_either(root, path, OPEN_FILE);
    if (fd == -EACCES) { /* a directory we may pass through but not list is a directory still */
        fd = open_either(root, path, OPEN_FOLDER);
        if (fd == -ENOTDIR)
            fd = -EACCES;
    }
    if (fd < 0)
        return outcome_of(fd);
    if (fstat(fd, &stat) < 0)
        return -errno;
    if (!S_ISREG(stat.st_mode) && !S_ISDIR(stat.st_mode))
        return ROOT_FORBIDDEN;
    *ret_stat = stat;
    if (S_ISDIR(stat.st_mode))
        return ROOT_FOLDER;
    *ret_fd = TAKE_FD(fd);
    return ROOT_FILE;
}
