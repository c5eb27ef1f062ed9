#pragma once

#include "http/request.h"

/*
 * The content codings we may have as files beside the original, in the order we prefer them where
 * the client's weights are equal.
 */
enum coding {
    CODING_BROTLI, /* .br  br   (RFC 7932) */
    CODING_ZSTD,   /* .zst zstd (RFC 8878) */
    CODING_GZIP,   /* .gz  gzip (RFC 9110 §8.4.1.3) */
    CODING_COUNT,
};

struct coding_info {
    const char *name, *suffix;
};
extern const struct coding_info codings[CODING_COUNT];

/*
 * Reads all Accept-Encoding fields (RFC 9110 §12.5.3, weights as in §12.4.2) and writes the codings
 * the client accepts with a weight over 0 and not under that of "identity", best first. Returns how
 * many. Without the field: none.
 */
size_t accept_codings(const struct request *request, enum coding ret[static CODING_COUNT]);
