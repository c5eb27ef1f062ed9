#include "config/source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

#define SOURCE_SIZE_MAX (1024 * 1024)

static void free_at(char **string)
{
    free(*string);
}
#define CLEANUP_FREE __attribute__((cleanup(free_at)))

void config_sources_clear(struct config_sources *sources)
{
    for (size_t i = 0; i < sources->count; i++) {
        free(sources->items[i].name);
        free(sources->items[i].text);
    }
    free(sources->items);
    *sources = (struct config_sources){0};
}

int config_sources_add(struct config_sources *sources, const char *name, const char *text)
{
    struct config_source source = {.name = strdup(name), .text = strdup(text)};
    struct config_source *items =
        reallocarray(sources->items, sources->count + 1, sizeof sources->items[0]);

    if (items)
        sources->items = items;
    if (!items || !source.name || !source.text) {
        free(source.name);
        free(source.text);
        return -ENOMEM;
    }
    sources->items[sources->count++] = source;
    return 0;
}

static int add_file(struct config_sources *sources, const char *path, struct reason *reason)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP_FREE char *text = NULL;
    size_t length;

    if (fd < 0) {
        int error = errno;
        return reason_set(reason, -error, "%s: %s", path, strerror(error));
    }
    int r = fd_read_all(fd, SOURCE_SIZE_MAX, &text, &length);
    if (r == -EFBIG)
        return reason_set(reason, r, "%s: over 1 MiB, which no configuration is", path);
    if (r < 0)
        return reason_set(reason, r, "%s: %s", path, strerror(-r));
    if (strlen(text) != length)
        return reason_set(reason, -EINVAL, "%s: holds a NUL byte, so it is not text", path);
    r = config_sources_add(sources, path, text);
    return r < 0 ? reason_set(reason, r, "%s: %s", path, strerror(-r)) : 0;
}

static int is_drop_in(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return entry->d_name[0] != '.' && length > 5 &&
           strcmp(entry->d_name + length - 5, ".conf") == 0;
}

/* By bytes: alphasort(3) would go by the locale. */
static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_drop_in(
    struct config_sources *sources, const char *folder, const char *name, struct reason *reason)
{
    CLEANUP_FREE char *path = NULL;

    if (asprintf(&path, "%s/%s", folder, name) < 0) {
        path = NULL; /* asprintf(3): undefined after a failure */
        return reason_set(reason, -ENOMEM, "%s: %s", folder, strerror(ENOMEM));
    }
    return add_file(sources, path, reason);
}

static int add_drop_ins(struct config_sources *sources, const char *folder, struct reason *reason)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, is_drop_in, compare_names), r = 0;

    if (count < 0 && errno == ENOENT)
        return 0;
    if (count < 0) {
        int error = errno;
        return reason_set(reason, -error, "%s: %s", folder, strerror(error));
    }
    for (int i = 0; i < count; i++) {
        if (r == 0)
            r = add_drop_in(sources, folder, entries[i]->d_name, reason);
        free(entries[i]);
    }
    free(entries);
    return r;
}

int config_sources_read(const char *path, struct config_sources *ret, struct reason *reason)
{
    CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};
    CLEANUP_FREE char *folder = NULL;

    int r = add_file(&sources, path, reason);
    if (r < 0)
        return r;
    if (asprintf(&folder, "%s.d", path) < 0) {
        folder = NULL; /* asprintf(3): undefined after a failure */
        return reason_set(reason, -ENOMEM, "%s: %s", path, strerror(ENOMEM));
    }
    r = add_drop_ins(&sources, folder, reason);
    if (r < 0)
        return r;
    *ret = sources;
    sources = (struct config_sources){0};
    return 0;
}
