#pragma once

#include <stdbool.h>

/*
 * Asks systemd, over D-Bus, whether parked connections will be taken up by a next instance: whether
 * the fd store has both ends of the inbox, and why systemd stops this service. A plain "stop"
 * empties the store, unless FileDescriptorStorePreserve=yes (systemd 254) keeps it. Where nobody
 * answers at once, they are taken to wait for somebody: parking is right for a restart, and for a
 * stop it only ends them sooner.
 */
bool job_keeps_store(void);
