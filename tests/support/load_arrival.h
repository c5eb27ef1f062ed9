#pragma once

#include "load_client.h"

/*
 * What arrives at a client, and what it says to that: answers, events, echoes.
 */

/* The next answer is awaited. */
void arrival_begin(struct client *client);
/* Its socket is readable. */
void arrival_receive(struct client *client);
/* An answer is whole. */
void arrival_complete(struct client *client);
