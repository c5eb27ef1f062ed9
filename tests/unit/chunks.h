#pragma once

/* For tests of bodies that are chunked anew. A test includes <cmocka.h> before this. */

#include <stdbool.h>
#include <string.h>

#include "http/chunked.h"

/*
 * Takes the chunks off the body at @body: then it is the data, and, where there is one, "|" and the
 * trailer section. Returns what follows the body in the text, or NULL where it is not complete.
 */
static inline const char *chunks_take_off(char *body)
{
    struct chunked chunked = {0};
    struct chunked_run run;
    const char *from = body;
    size_t length = strlen(body), consumed;
    bool trailer = false;

    while (length > 0 && chunked.state != CHUNKED_DONE) {
        assert_int_equal(chunked_read(&chunked, from, length, &consumed, &run), CHUNKED_OK);
        char first = run.trailer && !trailer ? '|' : '\0';
        trailer |= run.trailer;
        if (run.length > 0)
            memmove(body + (first != '\0'), run.at, run.length);
        if (first)
            *body++ = first;
        body += run.length;
        from += consumed;
        length -= consumed;
    }
    *body = '\0';
    return chunked.state == CHUNKED_DONE ? from : NULL;
}
