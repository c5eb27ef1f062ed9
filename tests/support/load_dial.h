#pragma once

#include "base/address.h"

/*
 * Opens connections to one address. One address of 127.0.0.0/8 has 28,232 ports by default
 * (net.ipv4.ip_local_port_range): where that is not enough, connections to a loopback address come
 * from 127.0.0.2, 127.0.0.3 and so on too.
 */
struct dialer {
    struct address target;
    unsigned sources; /* source addresses in use */
    unsigned next;    /* connections dialled */
};

/* @clients is how many connections will be open at once. */
void dialer_init(struct dialer *dialer, const struct address *target, unsigned clients);

/* connect(2) has begun: when the socket is writable, SO_ERROR says how it went. */
#define DIAL_PENDING 1
/* The server's queue is full, and AF_UNIX has nothing to wait for (connect(2), EAGAIN): dial again
 * after a moment. */
#define DIAL_FULL 2
/*
 * *ret_fd is a non-blocking socket that the caller closes; not set for DIAL_FULL. @receive_buffer
 * is its SO_RCVBUF in bytes, 0 the default. Returns 0 (connected), DIAL_PENDING, DIAL_FULL, or
 * -errno.
 */
int dialer_dial(struct dialer *dialer, int receive_buffer, int *ret_fd);
