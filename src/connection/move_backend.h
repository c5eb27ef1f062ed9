#pragma once

#include "connection/connection.h"
#include "connection/record.h"

/*
 * The half of a record that is about a backend: of a connection that waits for one, has an exchange
 * or a tunnel.
 */

/* Fills what @connection has of it; the spans point into its memory. */
void move_describe_backend(const struct connection *connection, struct record *ret);
/*
 * Goes on with what the record says, on a connection that has its reading already. Takes @fd, the
 * backend's (-1: none). Returns 0, and the connection may be gone; or -EINVAL, -ENOMEM.
 */
int move_adopt_backend(struct connection *connection, const struct record *record, int fd);
