#pragma once

#include <ev.h>

#include "base/list.h"

/*
 * Deadlines: one list for each kind of timeout over one ev_timer, not a timer for each connection.
 * In a list all durations are equal, so entries stand in the order in which they expire, and arming
 * one is an append. The timer is not moved when its first entry goes away: it fires, finds nothing
 * due, and sleeps until what is due next.
 */
struct deadline {
    struct link link;
    double at; /* clock_monotonic_seconds() */
};

struct deadline_list {
    struct ev_loop *loop;
    ev_timer timer;
    struct link entries;
    double seconds;
    void (*expired)(struct deadline *deadline);
};

/* @seconds <= 0: no deadline, arming does nothing. @expired gets an entry that is in no list. */
void deadline_list_init(struct deadline_list *list, struct ev_loop *loop, double seconds,
    void (*expired)(struct deadline *));
/* Stops the timer; entries that are left stay unarmed. */
void deadline_list_deinit(struct deadline_list *list);

void deadline_init(struct deadline *deadline);
/* Arms for the list's duration from now, or again, out of whichever list it was in. */
void deadline_arm(struct deadline_list *list, struct deadline *deadline);
/*
 * The same with a shorter duration (a connection that came with time already spent): O(n). Were
 * it longer, those that are armed next would wait for it.
 */
void deadline_arm_for(struct deadline_list *list, struct deadline *deadline, double seconds);
/*
 * @seconds from now, where that is sooner than what it is armed for: a deadline that came with time
 * already spent is never made longer.
 */
void deadline_shorten(struct deadline_list *list, struct deadline *deadline, double seconds);
void deadline_disarm(struct deadline *deadline);
/* Seconds left, at least 0; -1 when not armed. */
double deadline_left(const struct deadline *deadline);
