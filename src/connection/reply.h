#pragma once

#include <netinet/in.h>

#include "connection/output.h"
#include "connection/reading.h"
#include "connection/server.h"

/*
 * An answer becomes bytes: the head that RFC 9110 and RFC 9112 want around what the handler said.
 */

/*
 * Makes a view over server->answer, with its head: @parts holds ANSWER_PARTS_MAX + 1. @close: the
 * answer says that the connection ends with it. An answer that failed, or whose head finds no
 * memory, becomes a 500. Returns the length of the head in bytes.
 */
uint64_t reply_compose(struct server *server, const struct request *request, bool close,
    struct part *parts, struct output *ret);

/* Adds the exchange to the access log, which is on. @body_bytes: of the answer's body, sent. */
void reply_log_access(struct server *server, const struct sockaddr_in6 *peer,
    const struct reading *reading, unsigned status, uint64_t body_bytes);
