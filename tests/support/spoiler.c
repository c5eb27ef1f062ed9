/*
 * spoiler PID READ WRITE: spoils what lies in the inbox of a server, whose process PID holds its
 * ends as the fds READ and WRITE (pidfd_getfd(2): as root). Takes the fds, says "ready", waits for
 * a line of input, takes out all messages, puts them in again with some of them spoilt, and says
 * how many connections can still be known. The other ones are to be closed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "process/inbox.h"

#define MESSAGES_MAX 64
/* Where record.c has them. */
#define HEAD_SIZE 8
#define VERSION_AT 4
#define COUNT_AT 6
#define RECORD_KIND_AT 4

struct taken {
    struct buffer bytes;
    struct inbox_fds fds;
};

static _Noreturn void fail(const char *what, int error)
{
    (void)fprintf(stderr, "spoiler: %s: %s\n", what, strerror(error));
    exit(1);
}

static int take_fd(const char *process, const char *number)
{
    int pidfd = (int)syscall(SYS_pidfd_open, atoi(process), 0);
    int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, atoi(number), 0);

    if (fd < 0)
        fail("an end of the inbox", errno);
    if (!inbox_is_end(fd))
        fail("an end of the inbox", EINVAL);
    fd_close(pidfd);
    return fd;
}

static uint16_t number_at(const struct taken *message, size_t at)
{
    uint16_t number;

    memcpy(&number, message->bytes.bytes + at, sizeof number);
    return number;
}

static void set_number_at(struct taken *message, size_t at, uint16_t number)
{
    memcpy(message->bytes.bytes + at, &number, sizeof number);
}

/* Where record number @wanted begins: each begins with its length. */
static size_t record_at(const struct taken *message, unsigned wanted)
{
    size_t at = HEAD_SIZE;

    for (unsigned i = 0; i < wanted; i++) {
        uint32_t length;
        memcpy(&length, message->bytes.bytes + at, sizeof length);
        at += length;
    }
    return at;
}

/* Returns how many of its connections can still be known. */
static unsigned spoil(struct taken *message, unsigned number)
{
    unsigned count = number_at(message, COUNT_AT);

    switch (number) {
    case 1: /* another version */
        set_number_at(message, VERSION_AT, RECORD_VERSION + 1);
        return 0;
    case 2: /* one record is of an unknown kind: its neighbours are as they were */
        set_number_at(message, record_at(message, 1) + RECORD_KIND_AT, 99);
        return count - 1;
    case 3: /* one record is longer than it says: where those behind it begin is not known */
        message->bytes.bytes[record_at(message, 2)]++;
        return 2;
    case 4: /* nothing is as it was */
        memset(message->bytes.bytes, 0xa5, message->bytes.length);
        return 0;
    case 5: /* cut short */
        message->bytes.length = record_at(message, 1);
        return 1;
    default:
        return count;
    }
}

static unsigned take_all(int fd, struct taken *messages)
{
    unsigned count = 0;
    int r = INBOX_DONE;

    while (count < MESSAGES_MAX &&
           (r = inbox_receive(fd, &messages[count].bytes, &messages[count].fds)) == INBOX_DONE)
        count++;
    if (r != INBOX_EMPTY)
        fail("a message", r < 0 ? -r : E2BIG);
    return count;
}

static void put(int fd, struct taken *message)
{
    int r = inbox_send(fd, buffer_span(&message->bytes), &message->fds);

    if (r != INBOX_DONE)
        fail("sending a message again", r < 0 ? -r : ENOBUFS);
    for (size_t i = 0; i < message->fds.count; i++)
        fd_close(message->fds.fds[i]);
}

int main(int argc, char **argv)
{
    static struct taken messages[MESSAGES_MAX];
    unsigned before = 0, left = 0;

    if (argc != 4)
        fail("PID READ WRITE", EINVAL);
    int reading = take_fd(argv[1], argv[2]), writing = take_fd(argv[1], argv[3]);
    (void)printf("ready\n");
    (void)fflush(stdout);
    (void)getchar();
    unsigned count = take_all(reading, messages);
    for (unsigned i = 0; i < count; i++) {
        before += number_at(&messages[i], COUNT_AT);
        left += spoil(&messages[i], i);
        put(writing, &messages[i]);
        if (i == 0 && send(writing, "no message", 10, MSG_NOSIGNAL) < 0)
            fail("a message that is none", errno);
    }
    (void)printf("%u messages: %u of %u connections left\n", count, left, before);
    return 0;
}
