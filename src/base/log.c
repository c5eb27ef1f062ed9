#include "base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

static struct {
    bool journal;
    int level;
    const char *role;
    unsigned generation, worker;
} sink = {.level = LOG_INFO, .role = "baton"};

/* systemd.exec(5): stderr is the journal's while it is still the device and inode named there. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

void log_open(void)
{
    sink.journal = stderr_is_journal();
}

void log_identify(const char *role, unsigned generation, unsigned worker)
{
    sink.role = role;
    sink.generation = generation;
    sink.worker = worker;
}

void log_set_level(int priority)
{
    sink.level = priority;
}

bool log_enabled(int priority)
{
    return priority <= sink.level;
}

/* @id: NULL if the message has none, which ends the fields there. */
static void write_journal(int priority, const char *id, const char *text)
{
    if (sink.worker)
        (void)sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", priority, "BATON_ROLE=%s",
            sink.role, "BATON_GENERATION=%u", sink.generation, "BATON_WORKER=%u", sink.worker,
            id ? "MESSAGE_ID=%s" : NULL, id, NULL);
    else
        (void)sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", priority, "BATON_ROLE=%s",
            sink.role, "BATON_GENERATION=%u", sink.generation, id ? "MESSAGE_ID=%s" : NULL, id,
            NULL);
}

/* One write(2) a line, so that lines of several processes do not mix. */
static void write_stderr(const char *text)
{
    char line[2304];
    int length;

    if (sink.worker)
        length = snprintf(line, sizeof line, "baton[%d] %s %u.%u: %s\n", (int)getpid(), sink.role,
            sink.generation, sink.worker, text);
    else
        length = snprintf(line, sizeof line, "baton[%d]: %s\n", (int)getpid(), text);
    if (length >= (int)sizeof line)
        length = (int)sizeof line - 1;
    ssize_t n = write(STDERR_FILENO, line, (size_t)length);
    (void)n; /* there is nowhere left to say it */
}

__attribute__((format(printf, 3, 0))) static void write_message(
    int priority, const char *id, const char *format, va_list arguments)
{
    char text[2048];

    if (!log_enabled(priority))
        return;
    (void)vsnprintf(text, sizeof text, format, arguments); /* cut if too long */
    if (sink.journal)
        write_journal(priority, id, text);
    else
        write_stderr(text);
}

void log_message(int priority, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    write_message(priority, NULL, format, arguments);
    va_end(arguments);
}

void log_explained(int priority, const char *id, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    write_message(priority, id, format, arguments);
    va_end(arguments);
}

void log_line(const char *line)
{
    if (sink.journal)
        write_journal(LOG_INFO, NULL, line);
    else
        (void)dprintf(STDERR_FILENO, "%s\n", line);
}
