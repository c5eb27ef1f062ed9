#pragma once

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/*
 * Sends @spans to the socket @fd as sendmsg(2) would, with @flags and MSG_NOSIGNAL, and returns
 * what it does. A few bytes go side by side, as one: what the kernel does for a vector takes longer
 * than to copy them (measured: 3 % of the CPU of a small answer).
 */
ssize_t send_spans(int fd, struct iovec *spans, size_t count, int flags);
