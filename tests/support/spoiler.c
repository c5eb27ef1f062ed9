/*
 * spoiler PID READ WRITE: spoils what lies in the inbox of a server, whose process PID holds its
 * ends as the fds READ and WRITE (pidfd_getfd(2): as root). Takes the fds, says "ready", waits for
 * a line of input, takes out all messages, which are of idle connections, puts them in again with
 * some of them spoilt, and says how many connections can still be known. The other ones are to be
 * closed.
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
#define BATCH 6 /* connections in a message that is put in */
/* Where record.c has them. */
#define HEAD_SIZE (8 + 256) /* with how many fds each record has: one, in these */
#define VERSION_AT 4
#define COUNT_AT 6
#define KIND_AT 4

struct taken {
    struct buffer bytes;
    struct inbox_fds fds;
};

/* A connection: a record of a message. */
struct place {
    unsigned message, record;
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

static uint16_t number_at(const struct buffer *message, size_t at)
{
    uint16_t number;

    memcpy(&number, message->bytes + at, sizeof number);
    return number;
}

static void set_number_at(struct buffer *message, size_t at, uint16_t number)
{
    memcpy(message->bytes + at, &number, sizeof number);
}

static uint32_t length_at(const struct buffer *message, size_t at)
{
    uint32_t length;

    memcpy(&length, message->bytes + at, sizeof length);
    return length;
}

static size_t record_at(const struct buffer *message, unsigned wanted)
{
    size_t at = HEAD_SIZE;

    for (unsigned i = 0; i < wanted; i++)
        at += length_at(message, at);
    return at;
}

/* Returns how many of its connections can still be known. */
static unsigned spoil(struct buffer *message, unsigned number)
{
    unsigned count = number_at(message, COUNT_AT);

    if (count < BATCH)
        return count;
    switch (number) {
    case 1: /* another version */
        set_number_at(message, VERSION_AT, RECORD_VERSION + 1);
        return 0;
    case 2: /* one record is of an unknown kind: its neighbours are as they were */
        set_number_at(message, record_at(message, 1) + KIND_AT, 99);
        return count - 1;
    case 3: /* one record is longer than it says: where those behind it begin is not known */
        message->bytes[record_at(message, 2)]++;
        return 2;
    case 4: /* nothing is as it was */
        memset(message->bytes, 0xa5, message->length);
        return 0;
    case 5: /* cut short */
        message->length = record_at(message, 1);
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

static void put(int fd, const struct taken *message)
{
    int r = inbox_send(fd, buffer_span(&message->bytes), &message->fds);

    if (r != INBOX_DONE)
        fail("sending a message", r < 0 ? -r : ENOBUFS);
    for (size_t i = 0; i < message->fds.count; i++)
        fd_close(message->fds.fds[i]);
}

/* Moves up to BATCH connections, the next ones of @messages, into a message of their own. */
static void take_batch(
    const struct taken *messages, unsigned count, struct place *next, struct taken *ret)
{
    ret->bytes.length = 0;
    ret->fds.count = 0;
    if (buffer_append(&ret->bytes, (struct span){messages->bytes.bytes, HEAD_SIZE}) < 0)
        fail("a message", ENOMEM);
    while (next->message < count && ret->fds.count < BATCH) {
        const struct taken *from = &messages[next->message];
        size_t at = record_at(&from->bytes, next->record);
        struct span record = {from->bytes.bytes + at, length_at(&from->bytes, at)};

        if (buffer_append(&ret->bytes, record) < 0)
            fail("a message", ENOMEM);
        ret->fds.fds[ret->fds.count++] = from->fds.fds[next->record++];
        if (next->record == from->fds.count)
            *next = (struct place){next->message + 1, 0};
    }
    set_number_at(&ret->bytes, COUNT_AT, (uint16_t)ret->fds.count);
}

int main(int argc, char **argv)
{
    static struct taken messages[MESSAGES_MAX], batch;
    struct place next = {0, 0};
    size_t before = 0, left = 0;
    unsigned number = 0;

    if (argc != 4)
        fail("PID READ WRITE", EINVAL);
    int reading = take_fd(argv[1], argv[2]), writing = take_fd(argv[1], argv[3]);
    (void)printf("ready\n");
    (void)fflush(stdout);
    (void)getchar();
    unsigned count = take_all(reading, messages);
    for (unsigned i = 0; i < count; i++)
        if (number_at(&messages[i].bytes, COUNT_AT) != messages[i].fds.count)
            fail("a connection with a file", EINVAL);
    while (next.message < count) {
        take_batch(messages, count, &next, &batch);
        before += batch.fds.count;
        left += spoil(&batch.bytes, number++);
        put(writing, &batch);
    }
    if (send(writing, "no message", 10, MSG_NOSIGNAL) < 0)
        fail("a message that is none", errno);
    (void)printf("%u messages: %zu of %zu connections left\n", number, left, before);
    return 0;
}
