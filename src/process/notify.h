#pragma once

#include <stdint.h>

/*
 * What systemd is told (sd_notify(3)). Without NOTIFY_SOCKET all of it does nothing. Only the
 * supervisor may call these: STOPPING=1 from any process of the unit would stop it.
 */

/* READY=1 with STATUS=; also ends a reload, on every path, or `systemctl reload` hangs. */
void notify_ready(const char *status);
void notify_reloading(void);
void notify_stopping(const char *status);
void notify_status(const char *status);
void notify_watchdog(void);
/* EXTEND_TIMEOUT_USEC=: systemd waits at least that long from now. */
void notify_extend(uint64_t usec);
/* Microseconds within which notify_watchdog() must be called; 0: no watchdog
 * (sd_watchdog_enabled(3)). */
uint64_t notify_watchdog_usec(void);
