#include "config/reader.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* What inih takes in one line as distributions build it: INI_MAX_LINE without line end and NUL. */
#define ASSIGNMENT_LENGTH_MAX 197

struct reading {
    struct span rest;
    unsigned line;
    const struct reader_events *events;
    void *user;
    int error; /* of an event */
};

static int find_control_character(struct span line)
{
    for (size_t i = 0; i < line.length; i++) {
        unsigned char c = (unsigned char)line.at[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return c;
    }
    return -1;
}

/* inih takes "; ..." behind a blank for a comment, and people expect the same of "# ...". */
static bool has_comment(struct span line)
{
    for (size_t i = 1; i < line.length; i++)
        if ((line.at[i] == ';' || line.at[i] == '#') &&
            (line.at[i - 1] == ' ' || line.at[i - 1] == '\t'))
            return true;
    return false;
}

/*
 * Keys begin with a letter and hold no colon: inih would skip a byte order mark before the first
 * one, and end any at a colon.
 */
static bool is_assignment(struct span line)
{
    struct span key = span_cut(&line, '=');
    char first = key.length > 0 ? (char)(key.at[0] | 0x20) : '\0';

    return line.at && first >= 'a' && first <= 'z' && !memchr(key.at, ':', key.length);
}

/* What is wrong with a line that is no comment. */
static int check_line(struct span line, struct reason *reason)
{
    int control = find_control_character(line);

    if (control >= 0)
        return reason_set(reason, -EINVAL, "a control character (0x%02x)", (unsigned)control);
    if (has_comment(line))
        return reason_set(reason, -EINVAL,
            "'#' or ';' after a blank: a comment needs a line of its own, and a value can't hold "
            "it");
    if (line.at[line.length - 1] == '\\')
        return reason_set(reason, -EINVAL,
            "a backslash does not continue a line here; repeat the key to add to a list");
    if (line.at[0] == '[')
        return 0;
    if (!is_assignment(line))
        return reason_set(reason, -EINVAL, "neither [SECTION], nor KEY=VALUE, nor a comment");
    if (line.length > ASSIGNMENT_LENGTH_MAX)
        return reason_set(reason, -EINVAL,
            "%zu bytes are too long for a line of at most %d; repeat the key to add to a list",
            line.length, ASSIGNMENT_LENGTH_MAX);
    return 0;
}

static struct span cut_line(struct reading *reading)
{
    struct span line = span_cut(&reading->rest, '\n');

    reading->line++;
    if (line.length > 0 && line.at[line.length - 1] == '\r')
        line.length--;
    return span_trim(line);
}

/* Hands inih the next assignment as fgets(3) would; all other lines are dealt with here. */
static char *next_assignment(char *text, int size, void *stream)
{
    struct reading *reading = stream;
    struct reason reason;

    while (reading->error == 0 && reading->rest.length > 0) {
        struct span line = cut_line(reading);
        if (line.length == 0 || line.at[0] == '#' || line.at[0] == ';')
            continue;
        if (check_line(line, &reason) < 0)
            reading->error = reading->events->problem(reading->user, reading->line, reason.text);
        else if (line.at[0] == '[')
            reading->error = reading->events->section(reading->user, reading->line, line);
        else if (snprintf(text, (size_t)size, "%.*s\n", (int)line.length, line.at) < size)
            return text;
        else /* an inih that was built with a smaller INI_MAX_LINE */
            reading->error = -EMSGSIZE;
    }
    return NULL;
}

static int on_assignment(void *user, const char *section, const char *name, const char *value)
{
    struct reading *reading = user;

    (void)section; /* inih sees no sections: it would cut their names at 49 bytes */
    reading->error = reading->events->assignment(reading->user, reading->line, name, value);
    return 1;
}

int reader_read(const char *text, const struct reader_events *events, void *user)
{
    struct reading reading = {.rest = span_of(text), .events = events, .user = user};

    if (span_starts(reading.rest, SPAN("\xef\xbb\xbf"))) { /* a byte order mark, RFC 3629 §6 */
        reading.rest.at += 3;
        reading.rest.length -= 3;
    }
    int r = ini_parse_stream(next_assignment, &reading, on_assignment, &reading);
    if (reading.error < 0)
        return reading.error;
    /* All lines handed over are assignments, so nothing is left to fail but its memory. */
    return r == 0 ? 0 : -ENOMEM;
}
