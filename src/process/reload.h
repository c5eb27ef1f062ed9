#pragma once

#include "process/supervisor.h"

/*
 * A reload: preflight, succession (succession.h), a candidate generation, and either its commitment
 * or everything as it was. Whoever asked gets the true outcome.
 */

/* @asker: who waits for the outcome; NULL: a signal. One at a time: further ones wait their turn.
 */
void reload_ask(struct supervisor *supervisor, struct control_connection *asker);
/* In the new image: starts the candidate. */
void reload_go_on(struct supervisor *supervisor);
/* The candidate generation is READY: it serves from now on, and its predecessor retires. */
void reload_commit(struct supervisor *supervisor, struct generation *generation);
/* The candidate cannot serve: everything is as it was before. */
void reload_fail(struct supervisor *supervisor, const char *why);
/* The first generation serves, or a reload is over: READY=1, and on with the next reload if one
 * waits. */
void reload_end(struct supervisor *supervisor);
/*
 * The generation that served before is gone, or has had its time (the timer's callback): whoever
 * asked is told what became of its connections, and the reload ends.
 */
void reload_settle(struct supervisor *supervisor);
void reload_settle_expired(struct ev_loop *loop, ev_timer *timer, int events);
/* A stop interrupts it. */
void reload_abandon(struct supervisor *supervisor, const char *why);
