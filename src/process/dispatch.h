#pragma once

#include "process/supervisor.h"

/*
 * What the supervisor does at each event: a signal, a request on the control socket, news of a
 * generation, a timer. Decides by the phase, and leaves the doing to reload.h and stop.h.
 */

/*
 * Makes a supervisor that watches signals and systemd's watchdog; nothing is served yet. Returns 0
 * or -ENOMEM.
 */
int dispatch_init(struct supervisor *supervisor, const struct supervisor_options *options);
