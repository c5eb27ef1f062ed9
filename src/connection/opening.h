#pragma once

#include "connection/connection.h"

/*
 * How a connection begins: with a request, with a PROXY header before it (AcceptProxy=), or as a
 * tunnel (Tunnel=).
 */

/* A new connection begins as its listener wants it. It may be gone afterwards. */
void opening_begin(struct connection *connection);
/* Bytes of a PROXY header are there; what follows it goes its way. It may be gone afterwards. */
void opening_read_header(struct connection *connection);
