/*
 * A raw path: what it decodes to is absolute, has no "." or ".." segment, no empty segment and no
 * NUL, and comes back the same through path_encode().
 *
 * The first byte chooses the size of the buffer, the rest is the path.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "http/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool ends_with(struct span path, const char *end)
{
    size_t length = strlen(end);

    return path.length >= length && memcmp(path.at + path.length - length, end, length) == 0;
}

static void check(struct span path)
{
    static const char *const never[] = {"/../", "/./", "//"};

    require(path.length > 0 && path.at[0] == '/' && path.at[path.length] == '\0');
    require(strlen(path.at) == path.length);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        require(!strstr(path.at, never[i]));
    require(!ends_with(path, "/..") && !ends_with(path, "/."));
    if (!path_is_hidden(path))
        require(!strstr(path.at, "/.") || strncmp(path.at, "/.well-known/", 13) == 0);
}

static void check_both_ways(struct span path)
{
    CLEANUP_BUFFER struct buffer encoded = {0};
    char *text = malloc(path.length + 1);
    size_t length;

    require(text);
    require(path_encode(&encoded, path) == 0);
    require(path_decode(buffer_span(&encoded), text, path.length + 1, &length) == 0);
    require(span_equal((struct span){text, length}, path));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t length;

    if (size == 0)
        return 0;
    size_t room = data[0] < 128 ? 4096 : data[0] - 128;
    char *text = malloc(room);
    require(text);
    if (path_decode((struct span){(const char *)data + 1, size - 1}, text, room, &length) == 0) {
        require(length < room);
        check((struct span){text, length});
        check_both_ways((struct span){text, length});
    }
    free(text);
    return 0;
}
