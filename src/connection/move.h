#pragma once

#include "connection/connection.h"
#include "connection/record.h"

/*
 * A live connection becomes a record, and a record becomes a live connection again. Between two
 * events every connection is at rest: whatever it is doing can be written down.
 */

/*
 * Describes it; the spans point into its memory, so the record is good until its next event. Its
 * fds are connection->io.fd and, where there is one, move_second_fd().
 */
void move_describe(const struct connection *connection, struct record *ret);

/* Its file or its backend; -1: none. */
int move_second_fd(const struct connection *connection);

/* It lives elsewhere now: closes our copies of its fds and frees it, counted as moved. */
void move_complete(struct connection *connection);

/*
 * Makes a connection of @record, on the listener of that number; with @drain it is told to close at
 * its next answer, because nobody listens any more where it came from. Takes @fd and @second (its
 * file or backend, -1: none) in every case. Returns 0, or: -EINVAL (the record does not hold
 * together with what it carries), -ENOMEM.
 */
int move_adopt(struct server *server, const struct record *record, int fd, int second,
    unsigned listener, bool drain);
