#pragma once

#include <stdbool.h>
#include <syslog.h>

/*
 * The log. Where stderr is the journal's (JOURNAL_STREAM, systemd.exec(5)), messages go to it with
 * fields: PRIORITY, BATON_ROLE, BATON_GENERATION, BATON_WORKER, MESSAGE_ID. Elsewhere each is one
 * line on stderr. Called by main and by the two roles, never by a library.
 */

/* Who speaks; @role is a literal. 0 means none. Starts as role "baton". */
void log_open(void);
void log_identify(const char *role, unsigned generation, unsigned worker);

/* Messages less important than @priority (syslog(3)) are dropped; LOG_INFO at first. */
void log_set_level(int priority);
bool log_enabled(int priority);

void log_message(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, for a message that has an entry in the journal's catalog: @id is its MESSAGE_ID=. */
void log_explained(int priority, const char *id, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(...) log_message(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_message(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_message(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_enabled(LOG_DEBUG))                                                                \
            log_message(LOG_DEBUG, __VA_ARGS__);                                                   \
    } while (0)

/* One line of an access log, as it is: to the journal, or to stderr without a prefix. */
void log_line(const char *line);
