#pragma once

#include <stdbool.h>

/*
 * Asks systemd, over D-Bus, why it is stopping this service: whether parked connections will be
 * taken up by a next instance. They will not when the job is a plain "stop", which empties the fd
 * store, unless FileDescriptorStorePreserve=yes (systemd 254) keeps it. Where nobody answers at
 * once, they are taken to wait for somebody: parking is right for a restart, and for a stop it only
 * ends them sooner.
 */
bool job_keeps_store(void);
