#include "config/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/draft.h"
#include "config/reader.h"

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
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->listen_count; i++) {
        free(config->listens[i].name);
        free(config->listens[i].addresses);
    }
    for (size_t i = 0; i < config->route_count; i++)
        free_route(&config->routes[i]);
    free(config->listens);
    free(config->routes);
    free(config->access_log_file);
    free(config->control_socket);
    free(config);
}

void config_free_at(struct config **config)
{
    config_free(*config);
}

/* Something that only one section may have, as the file would say it. */
struct claim {
    char *text;
    struct place place;
    const struct draft_section *section;
};

struct claims {
    struct claim *items;
    size_t count;
};

static void claims_clear(struct claims *claims)
{
    for (size_t i = 0; i < claims->count; i++)
        free(claims->items[i].text);
    free(claims->items);
}

__attribute__((format(printf, 4, 5))) static int claim(struct claims *claims, struct place place,
    const struct draft_section *section, const char *format, ...)
{
    struct claim *items = reallocarray(claims->items, claims->count + 1, sizeof items[0]);
    va_list arguments;

    if (!items)
        return -ENOMEM;
    claims->items = items;
    items += claims->count;
    va_start(arguments, format);
    int length = vasprintf(&items->text, format, arguments);
    va_end(arguments);
    if (length < 0)
        return -ENOMEM;
    items->place = place;
    items->section = section;
    claims->count++;
    return 0;
}

static int claim_addresses(
    struct claims *claims, const struct draft_section *section, const struct config_listen *listen)
{
    char text[ADDRESS_TEXT_MAX];
    int r = 0;

    for (size_t i = 0; i < listen->address_count && r == 0; i++)
        r = claim(claims, section->items[i], section, "Address=%s",
            address_format(&listen->addresses[i], text));
    return r;
}

static int claim_paths(
    struct claims *claims, const struct draft_section *section, const struct config_route *route)
{
    int r = 0;

    if (draft_section_wrong(section, "Host") || draft_section_wrong(section, "Path"))
        return 0;
    if (route->host_count == 0)
        return claim(claims, section->place, section, "Path=%s without Host=", route->path);
    for (size_t i = 0; i < route->host_count && r == 0; i++)
        r = claim(claims, section->items[i], section, "Host=%s and Path=%s", route->hosts[i],
            route->path);
    return r;
}

/* Equal claims next to each other, in the order in which they were read. */
static int compare_claims(const void *a, const void *b)
{
    const struct claim *x = a, *y = b;
    int order = strcmp(x->text, y->text);

    if (order != 0)
        return order;
    if (x->place.source != y->place.source) /* all in one array */
        return x->place.source < y->place.source ? -1 : 1;
    return (x->place.line > y->place.line) - (x->place.line < y->place.line);
}

static int check_claims(struct draft *draft, struct claims *claims)
{
    int r = 0;

    if (claims->count > 0)
        qsort(claims->items, claims->count, sizeof claims->items[0], compare_claims);
    for (size_t i = 1; i < claims->count && r == 0; i++) {
        const struct claim *one = &claims->items[i - 1], *two = &claims->items[i];
        if (strcmp(one->text, two->text) != 0)
            continue;
        const char *type = config_section_infos[two->section->type].type;
        r = draft_problem(draft, two->place, "[%s %s] has %s, as [%s %s] at %s:%u has", type,
            draft_section_name(draft, two->section), two->text, type,
            draft_section_name(draft, one->section), one->place.source->name, one->place.line);
    }
    return r;
}

/* What has to be unique over all sections, and what each of them has to have. */
static int check_sections(struct draft *draft, struct claims *claims)
{
    const struct config *config = draft->config;
    int r = 0;

    for (size_t i = 0; i < draft->section_count && r == 0; i++) {
        const struct draft_section *section = &draft->sections[i];
        if (section->type == CONFIG_LISTEN)
            r = claim_addresses(claims, section, &config->listens[section->index]);
        if (section->type != CONFIG_ROUTE)
            continue;
        const struct config_route *route = &config->routes[section->index];
        if (!route->root && !draft_section_wrong(section, "Root"))
            r = draft_problem(draft, section->place, "[Route %s] has no Root=", route->name);
        if (r == 0)
            r = claim_paths(claims, section, route);
    }
    return r < 0 ? r : check_claims(draft, claims);
}

/* What somebody has to listen for, and to answer. */
static int check_whole(struct draft *draft, struct place whole)
{
    const struct config *config = draft->config;
    bool serves = false;

    if (!draft->opened[CONFIG_LISTEN])
        return draft_problem(draft, whole, "there is no [Listen NAME] section");
    for (size_t i = 0; i < config->listen_count; i++)
        serves = serves || !config->listens[i].admin;
    if (serves && !draft->opened[CONFIG_ROUTE])
        return draft_problem(draft, whole, "there is no [Route NAME] section to answer requests");
    if (!serves && config->listen_count > 0 && draft->opened[CONFIG_ROUTE])
        return draft_problem(
            draft, whole, "every [Listen NAME] has Admin=yes, so no [Route NAME] can be reached");
    return 0;
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

static int check(struct draft *draft, const struct config_sources *sources)
{
    static const struct config_source none = {.name = (char *)"configuration"};
    struct place whole = {.source = sources->count > 0 ? sources->items : &none};
    __attribute__((cleanup(claims_clear))) struct claims claims = {0};

    int r = check_sections(draft, &claims);
    return r < 0 ? r : check_whole(draft, whole);
}

int config_parse(const struct config_sources *sources, struct config **ret, struct buffer *problems)
{
    __attribute__((cleanup(draft_deinit))) struct draft draft;

    int r = draft_init(&draft, problems);
    if (r == 0)
        r = read_sources(&draft, sources);
    if (r == 0)
        r = check(&draft, sources);
    if (r == 0 && draft.failed)
        r = -EINVAL;
    if (r < 0)
        return r;
    *ret = draft.config;
    draft.config = NULL;
    return 0;
}
