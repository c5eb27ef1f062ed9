#pragma once

#include <stdbool.h>
#include <time.h>

#include "http/request.h"

enum {
    PRECONDITION_PASSED,
    PRECONDITION_FAILED,       /* 412 */
    PRECONDITION_NOT_MODIFIED, /* 304 */
};

/*
 * Evaluates If-Match, If-Unmodified-Since, If-None-Match and If-Modified-Since in the order of
 * RFC 9110 §13.2.2 for a representation with that entity tag (with its quotes) and modification
 * time. A list in several fields is one list. Returns one of the above.
 */
int precondition_check(
    const struct request *request, struct span etag, time_t modified, time_t now);
/*
 * Whether the Range field counts (RFC 9110 §13.1.5): no If-Range, or one that matches: strong
 * comparison, and for a date an exact match of a Last-Modified at least a second old.
 */
bool precondition_range_applies(
    const struct request *request, struct span etag, time_t modified, time_t now);
