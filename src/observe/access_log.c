#include "observe/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

#define FLUSH_AT 32768

static int open_file(const char *path, int *ret, struct reason *reason)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);

    if (fd < 0)
        return reason_set(reason, -errno, "cannot open the access log %s: %m", path);
    *ret = fd;
    return 0;
}

int access_log_open(
    struct access_log *log, enum access_log_format format, const char *path, struct reason *reason)
{
    *log = (struct access_log){.format = format, .path = path, .fd = -1};
    return path ? open_file(path, &log->fd, reason) : 0;
}

void access_log_close(struct access_log *log)
{
    (void)access_log_flush(log); /* what could not be written at the end is lost */
    log->fd = fd_close(log->fd);
    buffer_clear(&log->lines);
}

int access_log_reopen(struct access_log *log, struct reason *reason)
{
    int fd = -1, r;

    if (!log->path)
        return 0;
    r = open_file(log->path, &fd, reason);
    if (r < 0)
        return r;
    fd_close(log->fd);
    log->fd = fd;
    return 0;
}

/* Escapes as \xHH (combined, as Apache and nginx) or \u00HH (JSON, RFC 8259 §7). */
static int append_escaped(struct buffer *out, struct span text, bool json)
{
    int r = buffer_reserve(out, text.length * 6);

    if (r < 0)
        return r;
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x7f) {
            static const char digits[] = "0123456789abcdef";
            char escape[6] = {'\\', json ? 'u' : 'x', '0', '0', digits[c >> 4], digits[c & 15]};
            if (!json)
                memmove(escape + 2, escape + 4, 2);
            r = buffer_append(out, (struct span){escape, json ? 6 : 4});
            if (r < 0)
                return r;
        } else {
            out->bytes[out->length++] = (char)c;
        }
    }
    return 0;
}

static int add_quoted(struct buffer *out, struct span text)
{
    int r = buffer_append_string(out, " \"");

    if (r == 0)
        r = text.length ? append_escaped(out, text, false) : buffer_append_string(out, "-");
    if (r == 0)
        r = buffer_append_string(out, "\"");
    return r;
}

/* As far as it is known. */
static int add_request_line(struct buffer *out, const struct access_entry *entry)
{
    int r = append_escaped(out, entry->method, false);

    if (r == 0 && entry->target.length) {
        r = buffer_append_string(out, " ");
        if (r == 0)
            r = append_escaped(out, entry->target, false);
    }
    if (r == 0 && entry->method.length && !entry->partial)
        r = buffer_printf(out, " HTTP/1.%u", entry->minor);
    return r;
}

static int add_combined(struct buffer *out, const struct access_entry *entry)
{
    char date[64] = "-";
    struct tm local;
    int r;

    if (localtime_r(&entry->time, &local))
        (void)strftime(date, sizeof date, "%d/%b/%Y:%H:%M:%S %z", &local);
    r = buffer_printf(out, "%s - - [%s] \"", entry->peer, date);
    if (r == 0)
        r = add_request_line(out, entry);
    if (r == 0)
        r = buffer_printf(out, "\" %u %" PRIu64, entry->status, entry->body_bytes);
    if (r == 0)
        r = add_quoted(out, entry->referrer);
    if (r == 0)
        r = add_quoted(out, entry->agent);
    return r;
}

static int add_member(struct buffer *out, const char *name, struct span text)
{
    int r = buffer_printf(out, ",\"%s\":\"", name);

    if (r == 0)
        r = append_escaped(out, text, true);
    if (r == 0)
        r = buffer_append_string(out, "\"");
    return r;
}

static int add_json(struct buffer *out, const struct access_entry *entry)
{
    char date[32] = "";
    struct tm utc;
    int r;

    if (gmtime_r(&entry->time, &utc))
        (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    r = buffer_printf(out, "{\"time\":\"%s\",\"peer\":\"%s\"", date, entry->peer);
    if (r == 0)
        r = add_member(out, "method", entry->method);
    if (r == 0)
        r = add_member(out, "target", entry->target);
    if (r == 0)
        r = add_member(out, "host", entry->host);
    if (r == 0)
        r = entry->partial ? buffer_append_string(out, ",\"protocol\":\"\"")
                           : buffer_printf(out, ",\"protocol\":\"HTTP/1.%u\"", entry->minor);
    if (r == 0)
        r = buffer_printf(out, ",\"status\":%u,\"bytes\":%" PRIu64 ",\"duration_usec\":%" PRIu64,
            entry->status, entry->body_bytes, entry->duration_usec);
    if (r == 0)
        r = add_member(out, "referrer", entry->referrer);
    if (r == 0)
        r = add_member(out, "agent", entry->agent);
    if (r == 0)
        r = buffer_append_string(out, "}");
    return r;
}

static int count_lines(const char *bytes, size_t length)
{
    int lines = 0;

    for (size_t i = 0; i < length; i++)
        lines += bytes[i] == '\n';
    return lines;
}

static void flush_to_log(struct access_log *log)
{
    char *line = log->lines.bytes, *end = line + log->lines.length;

    while (line < end) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        *newline = '\0';
        log_line(line);
        line = newline + 1;
    }
}

int access_log_flush(struct access_log *log)
{
    int lost = 0;

    if (log->lines.length == 0)
        return 0;
    if (!log->path) {
        flush_to_log(log);
    } else {
        ssize_t n = write(log->fd, log->lines.bytes, log->lines.length);
        size_t written = n < 0 ? 0 : (size_t)n;
        lost = count_lines(log->lines.bytes + written, log->lines.length - written);
    }
    log->lines.length = 0;
    return lost;
}

int access_log_add(struct access_log *log, const struct access_entry *entry)
{
    size_t before = log->lines.length;
    int r = log->format == ACCESS_JSON ? add_json(&log->lines, entry)
                                       : add_combined(&log->lines, entry);

    if (r == 0)
        r = buffer_append_string(&log->lines, "\n");
    if (r < 0) {
        log->lines.length = before;
        return 1;
    }
    return log->lines.length >= FLUSH_AT ? access_log_flush(log) : 0;
}
