#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

/* What config.h promises of a configuration that was accepted. */
static void check_accepted(const struct config *config)
{
    assert(config->listen_count > 0);
    for (size_t i = 0; i < config->listen_count; i++)
        assert(config->listens[i].name && *config->listens[i].name);
    for (size_t i = 0; i < config->route_count; i++) {
        const struct config_route *route = &config->routes[i];
        assert(*route->name && *route->path == '/' && *route->root == '/');
        assert(!route->fallback || *route->fallback == '/');
        for (size_t j = 0; j < route->host_count; j++)
            assert(*route->hosts[j] && !strpbrk(route->hosts[j], "* \t"));
        for (size_t j = 0; j < route->error_page_count; j++)
            assert(route->error_pages[j].status >= 400 && route->error_pages[j].status <= 599 &&
                   *route->error_pages[j].path == '/');
    }
    assert(config->workers <= 1024 && config->header_timeout_usec > 0);
    assert(config->head_size >= 1024 && config->head_size <= 65536);
    assert(config->max_fields >= 1 && config->max_fields <= 256);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* A file that is text up to its end, or to a NUL: config_sources_read() lets none through. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    CLEANUP_BUFFER struct buffer problems = {0};
    CLEANUP_CONFIG struct config *config = NULL;
    char *text = strndup((const char *)bytes, length);
    struct config_source source = {.name = (char *)"f", .text = text};

    int r = config_parse(&(struct config_sources){&source, 1}, &config, &problems);
    assert(r == 0 || r == -EINVAL);
    assert((r == 0) == (problems.length == 0) && (r == 0) == (config != NULL));
    if (r == 0)
        check_accepted(config);
    else
        assert(problems.bytes[0] == 'f' && problems.bytes[problems.length - 1] == '\n');
    free(text);
    return 0;
}
