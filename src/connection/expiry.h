#pragma once

#include "connection/connection.h"

/*
 * What becomes of a connection whose time is over.
 */

/* The deadline of a drain has come: a request without an answer gets a 503, then the end. */
void connection_cut(struct connection *connection);

/* The deadlines' callbacks, for server_init(). */
void connection_idle_expired(struct deadline *deadline);
void connection_header_expired(struct deadline *deadline);
void connection_body_expired(struct deadline *deadline);
void connection_send_expired(struct deadline *deadline);
void connection_linger_expired(struct deadline *deadline);
