#include "config/config.h"

#include <errno.h>
#include <stdlib.h>

#include "config/check.h"
#include "config/draft.h"
#include "config/reader.h"
#include "config/server.h"

static void free_strings(char **strings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(strings[i]);
    free(strings);
}

static void free_route(struct config_route *route)
{
    for (size_t i = 0; i < route->error_page_count; i++)
        free(route->error_pages[i].path);
    free(route->error_pages);
    free_strings(route->hosts, route->host_count);
    free_strings(route->index, route->index_count);
    free(route->name);
    free(route->path);
    free(route->root);
    free(route->cache_control);
    free(route->fallback);
    free(route->upstream);
    free(route->upstream_host);
}

static void free_upstream(struct config_upstream *upstream)
{
    for (size_t i = 0; i < upstream->server_count; i++)
        server_clear(&upstream->servers[i]);
    free(upstream->servers);
    free(upstream->name);
    free(upstream->probe);
    free(upstream->probe_host);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->listen_count; i++) {
        free(config->listens[i].name);
        free(config->listens[i].addresses);
        free(config->listens[i].tunnel);
    }
    for (size_t i = 0; i < config->route_count; i++)
        free_route(&config->routes[i]);
    for (size_t i = 0; i < config->upstream_count; i++)
        free_upstream(&config->upstreams[i]);
    free(config->listens);
    free(config->routes);
    free(config->upstreams);
    free(config->access_log_file);
    free(config->control_socket);
    free(config->trusted_proxies);
    free(config);
}

void config_free_at(struct config **config)
{
    config_free(*config);
}

/* What the reader tells its events. */
struct telling {
    struct draft *draft;
    const struct config_source *source;
};

static int on_section(void *user, unsigned line, struct span header)
{
    struct telling *telling = user;

    return draft_open(telling->draft, (struct place){telling->source, line}, header);
}

static int on_assignment(void *user, unsigned line, const char *name, const char *value)
{
    struct telling *telling = user;

    return draft_assign(telling->draft, (struct place){telling->source, line}, name, value);
}

static int on_problem(void *user, unsigned line, const char *problem)
{
    struct telling *telling = user;

    return draft_problem(telling->draft, (struct place){telling->source, line}, "%s", problem);
}

static int read_sources(struct draft *draft, const struct config_sources *sources)
{
    static const struct reader_events events = {on_section, on_assignment, on_problem};
    int r = 0;

    for (size_t i = 0; i < sources->count && r == 0; i++) {
        struct telling telling = {draft, &sources->items[i]};
        draft->current = DRAFT_NO_SECTION; /* sections don't go on into the next file */
        r = reader_read(sources->items[i].text, &events, &telling);
    }
    return r;
}

/* What a key that was not given takes over from [Server]. */
static void inherit(struct draft *draft)
{
    struct config *config = draft->config;

    for (size_t i = 0; i < draft->section_count; i++) {
        const struct draft_section *section = &draft->sections[i];
        if (section->type == CONFIG_ROUTE && !draft_section_given(section, "MaxBodySize"))
            config->routes[section->index].max_body_size = config->max_body_size;
    }
}

int config_parse(const struct config_sources *sources, struct config **ret, struct buffer *problems)
{
    __attribute__((cleanup(draft_deinit))) struct draft draft;

    int r = draft_init(&draft, problems);
    if (r == 0)
        r = read_sources(&draft, sources);
    if (r == 0)
        r = check_draft(&draft, sources);
    if (r == 0 && draft.failed)
        r = -EINVAL;
    if (r < 0)
        return r;
    inherit(&draft);
    *ret = draft.config;
    draft.config = NULL;
    return 0;
}
