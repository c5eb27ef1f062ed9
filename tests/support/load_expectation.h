#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/span.h"

/*
 * What the content of an answer must be: anything, these bytes, or bytes of this hash (FNV-1a, 64
 * bits).
 */
struct expectation {
    enum { EXPECT_ANYTHING, EXPECT_BYTES, EXPECT_HASH } kind;
    char *bytes; /* owned */
    size_t length;
    uint64_t hash;
};

/* Expects a copy of @text. Returns 0 or -ENOMEM. */
int expectation_of_text(struct expectation *expectation, const char *text);
/* Expects the bytes the file holds now. Returns 0 or -errno with the reason. */
int expectation_of_file(struct expectation *expectation, const char *path, struct reason *reason);
void expectation_clear(struct expectation *expectation);

/* How one answer's content compares with it, as it arrives. */
struct comparison {
    const struct expectation *expectation;
    uint64_t length, hash;
    bool differs;
    uint64_t differs_at; /* the first wrong byte, where bytes are expected */
};

void comparison_begin(struct comparison *comparison, const struct expectation *expectation);
void comparison_feed(struct comparison *comparison, struct span content);

/* Whether the whole content was right; its length is the caller's to judge. */
bool comparison_is_right(const struct comparison *comparison);
