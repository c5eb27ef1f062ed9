#pragma once

#include <stdint.h>

/*
 * Reads a number of bytes as unit files write it: "4096", "16K", "1M", "2G", "1T", with base 1024.
 * Returns 0, -EINVAL (not a size), or -ERANGE (over 2^64-1).
 */
int size_parse(const char *text, uint64_t *ret_bytes);
