#pragma once

#include "connection/connection.h"

/*
 * A connection's requests: read, handed to their handlers, answered, one after the other. After
 * each of these the connection may be gone.
 */

/* Answers every request that lies in the reading, until one is incomplete or the socket is full. */
void requests_read(struct connection *connection);
/* Goes on with the body of the one that is being received. */
void requests_read_body(struct connection *connection);
/* Goes on with one that waited for a backend in another worker; as exchange_begin(). */
void requests_resume(struct connection *connection, double patience, unsigned attempts);
/* Goes on sending the answer under way. */
void requests_on_writable(struct connection *connection);
/* Answers with a short text of ours and closes. What else the client sends is not looked at. */
void requests_refuse(struct connection *connection, unsigned status, enum counter reason);

/* Who answers the request in the reading; NULL: nobody. */
struct handler *requests_find_handler(struct connection *connection);
/*
 * The answer has gone out whole. Returns whether the connection goes on with bytes that are here
 * already: then requests_read() has to be called, where that is not being done.
 */
bool requests_answered(struct connection *connection);
/* Sends the answers that wait for this one. Returns whether they have all gone. */
bool requests_send_held(struct connection *connection);
/* Sends what server->answer holds. Returns as requests_answered(). */
bool requests_send(struct connection *connection);
