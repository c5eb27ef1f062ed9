#include "load_expectation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "fnv.h"

#define FILE_MAX (SIZE_MAX / 4)

int expectation_of_text(struct expectation *expectation, const char *text)
{
    char *bytes = strdup(text);

    if (!bytes)
        return -ENOMEM;
    *expectation =
        (struct expectation){.kind = EXPECT_BYTES, .bytes = bytes, .length = strlen(text)};
    return 0;
}

int expectation_of_file(struct expectation *expectation, const char *path, struct reason *reason)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct expectation read = {.kind = EXPECT_BYTES};
    int r = fd < 0 ? -errno : fd_read_all(fd, FILE_MAX, &read.bytes, &read.length);

    if (r < 0)
        return reason_set(reason, r, "%s: %s", path, strerror(-r));
    *expectation = read;
    return 0;
}

void expectation_clear(struct expectation *expectation)
{
    free(expectation->bytes);
    *expectation = (struct expectation){0};
}

void comparison_begin(struct comparison *comparison, const struct expectation *expectation)
{
    *comparison = (struct comparison){.expectation = expectation, .hash = FNV_OFFSET};
}

/* Content past the expected length is judged by its length alone. */
static void compare_bytes(struct comparison *comparison, struct span content)
{
    const struct expectation *expectation = comparison->expectation;
    size_t at = comparison->length < expectation->length ? comparison->length : expectation->length;
    size_t length = expectation->length - at;

    if (length > content.length)
        length = content.length;
    if (comparison->differs || length == 0 ||
        memcmp(expectation->bytes + at, content.at, length) == 0)
        return;
    for (comparison->differs_at = at; expectation->bytes[comparison->differs_at] == *content.at;)
        comparison->differs_at++, content.at++;
    comparison->differs = true;
}

void comparison_feed(struct comparison *comparison, struct span content)
{
    if (comparison->expectation->kind == EXPECT_BYTES)
        compare_bytes(comparison, content);
    if (comparison->expectation->kind == EXPECT_HASH)
        comparison->hash = fnv_add(comparison->hash, content);
    comparison->length += content.length;
}

bool comparison_is_right(const struct comparison *comparison)
{
    const struct expectation *expectation = comparison->expectation;

    if (expectation->kind == EXPECT_HASH)
        return comparison->hash == expectation->hash;
    return !comparison->differs;
}
