#pragma once

#include "base/clock.h"
#include "process/supervisor.h"

/* While a stop has time left, systemd is asked again and again for this much more. */
#define STOP_EXTEND_USEC (15 * USEC_PER_SEC)

/*
 * A stop: /readyz says 503 while ReadinessDelay= runs, then every generation finishes what it
 * received.
 */

/* @exit_status: what the process ends with when all is finished. */
void stop_begin(struct supervisor *supervisor, const char *why, int exit_status);
/* Somebody lost patience: no answer is waited for. */
void stop_at_once(struct supervisor *supervisor);
/* A generation is gone: perhaps it was the last. */
void stop_go_on(struct supervisor *supervisor);
/* The timer's callback: ReadinessDelay= is over. */
void stop_readiness_over(struct ev_loop *loop, ev_timer *timer, int events);
