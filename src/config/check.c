#include "config/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/suggest.h"

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
#define CLEANUP_CLAIMS __attribute__((cleanup(claims_clear)))

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

static int claim_servers(struct claims *claims, const struct draft_section *section,
    const struct config_upstream *upstream)
{
    char text[ADDRESS_TEXT_MAX];
    int r = 0;

    for (size_t i = 0; i < upstream->server_count && r == 0; i++) {
        const struct config_server *server = &upstream->servers[i];
        r = server->host ? claim(claims, section->items[i], section, "Server=%s:%u", server->host,
                               server->port)
                         : claim(claims, section->items[i], section, "Server=%s",
                               address_format(&server->address, text));
    }
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

/* Keys that have no effect, or none that anybody can mean, without or beside another one. */
static const struct {
    const char *key, *other;
    enum config_section_type type;
    bool needed;
} companions[] = {
    {"Index", "Upstream", CONFIG_ROUTE, false},
    {"CacheControl", "Upstream", CONFIG_ROUTE, false},
    {"Fallback", "Upstream", CONFIG_ROUTE, false},
    {"Precompressed", "Upstream", CONFIG_ROUTE, false},
    {"UpstreamHost", "Upstream", CONFIG_ROUTE, true},
    {"Forwarded", "Upstream", CONFIG_ROUTE, true},
    {"ProbeHost", "Probe", CONFIG_UPSTREAM, true},
    {"ProbeInterval", "Probe", CONFIG_UPSTREAM, true},
    {"ProbeTimeout", "Probe", CONFIG_UPSTREAM, true},
    {"ProbeRise", "Probe", CONFIG_UPSTREAM, true},
    {"ProbeFall", "Probe", CONFIG_UPSTREAM, true},
    {"ProbeStatus", "Probe", CONFIG_UPSTREAM, true},
};

static int check_companions(struct draft *draft, const struct draft_section *section)
{
    const char *type = config_section_infos[section->type].type;
    const char *name = draft_section_name(draft, section);
    int r = 0;

    for (size_t i = 0; i < sizeof companions / sizeof companions[0] && r == 0; i++) {
        if (companions[i].type != section->type)
            continue;
        const char *key = companions[i].key, *other = companions[i].other;
        const struct place *place = draft_section_given(section, key);
        bool there = draft_section_given(section, other);
        if (!place || there == companions[i].needed)
            continue;
        r = there ? draft_problem(draft, *place, "%s= is for files, and [%s %s] has %s=", key, type,
                        name, other)
                  : draft_problem(draft, *place, "%s= needs %s=, which [%s %s] does not have", key,
                        other, type, name);
    }
    return r;
}

/* Finds the upstream that the section's key names. */
static int resolve(struct draft *draft, const struct draft_section *section, const char *key,
    const char *name, size_t *ret_index)
{
    const struct config *config = draft->config;
    struct suggest suggest = {.wrong = name};

    for (size_t i = 0; i < config->upstream_count; i++) {
        if (strcmp(config->upstreams[i].name, name) == 0) {
            *ret_index = i;
            return 0;
        }
        suggest_offer(&suggest, config->upstreams[i].name);
    }
    struct place place = *draft_section_given(section, key);
    if (suggest.nearest)
        return draft_problem(draft, place,
            "%s=%s: there is no [Upstream %s]; did you mean [Upstream %s]?", key, name, name,
            suggest.nearest);
    return draft_problem(draft, place, "%s=%s: there is no [Upstream %s]", key, name, name);
}

static int check_listen(struct draft *draft, const struct draft_section *section)
{
    struct config_listen *listen = &draft->config->listens[section->index];

    if (!listen->tunnel)
        return 0;
    int r = resolve(draft, section, "Tunnel", listen->tunnel, &listen->tunnel_upstream);
    if (r == 0 && listen->admin)
        r = draft_problem(draft, *draft_section_given(section, "Tunnel"),
            "[Listen %s] has Admin=yes, and answers by itself: it cannot have Tunnel=",
            listen->name);
    return r;
}

/* Beside an upstream, the root is where error pages are, and nothing else. */
static int check_upstream_root(struct draft *draft, const struct draft_section *section)
{
    const struct place *root = draft_section_given(section, "Root");
    const struct place *pages = draft_section_given(section, "ErrorPage");
    const char *name = draft_section_name(draft, section);

    if (root && !pages)
        return draft_problem(draft, *root,
            "[Route %s] has Upstream=, beside which Root= is for the files of ErrorPage= alone",
            name);
    if (pages && !root)
        return draft_problem(
            draft, *pages, "ErrorPage= needs Root=, which [Route %s] does not have", name);
    return 0;
}

static int check_route(struct draft *draft, const struct draft_section *section)
{
    struct config_route *route = &draft->config->routes[section->index];

    if (!route->upstream) {
        if (route->root || draft_section_wrong(section, "Root"))
            return 0;
        return draft_problem(
            draft, section->place, "[Route %s] has neither Root= nor Upstream=", route->name);
    }
    int r = resolve(draft, section, "Upstream", route->upstream, &route->upstream_index);
    return r < 0 ? r : check_upstream_root(draft, section);
}

static int check_upstream(struct draft *draft, const struct draft_section *section)
{
    const struct config_upstream *upstream = &draft->config->upstreams[section->index];
    CLEANUP_CLAIMS struct claims claims = {0}; /* another upstream may have the same server */

    if (upstream->server_count == 0 && !draft_section_wrong(section, "Server"))
        return draft_problem(draft, section->place, "[Upstream %s] has no Server=", upstream->name);
    int r = claim_servers(&claims, section, upstream);
    return r < 0 ? r : check_claims(draft, &claims);
}

static int check_section(struct draft *draft, const struct draft_section *section)
{
    int r = check_companions(draft, section);

    if (r < 0)
        return r;
    switch (section->type) {
    case CONFIG_LISTEN:
        return check_listen(draft, section);
    case CONFIG_ROUTE:
        return check_route(draft, section);
    case CONFIG_UPSTREAM:
        return check_upstream(draft, section);
    default:
        return 0;
    }
}

/* Each section by itself, and what has to be unique over all of them. */
static int check_sections(struct draft *draft)
{
    const struct config *config = draft->config;
    CLEANUP_CLAIMS struct claims claims = {0};
    int r = 0;

    for (size_t i = 0; i < draft->section_count && r == 0; i++) {
        const struct draft_section *section = &draft->sections[i];
        r = check_section(draft, section);
        if (r == 0 && section->type == CONFIG_LISTEN)
            r = claim_addresses(&claims, section, &config->listens[section->index]);
        if (r == 0 && section->type == CONFIG_ROUTE)
            r = claim_paths(&claims, section, &config->routes[section->index]);
    }
    return r < 0 ? r : check_claims(draft, &claims);
}

/* What somebody has to listen for, and to answer. */
static int check_whole(struct draft *draft, struct place whole)
{
    const struct config *config = draft->config;
    bool serves = false; /* requests, by routes */

    if (!draft->opened[CONFIG_LISTEN])
        return draft_problem(draft, whole, "there is no [Listen NAME] section");
    for (size_t i = 0; i < config->listen_count; i++)
        serves = serves || (!config->listens[i].admin && !config->listens[i].tunnel);
    if (serves && !draft->opened[CONFIG_ROUTE])
        return draft_problem(draft, whole, "there is no [Route NAME] section to answer requests");
    if (!serves && config->listen_count > 0 && draft->opened[CONFIG_ROUTE])
        return draft_problem(draft, whole,
            "every [Listen NAME] has Admin=yes or Tunnel=, so no [Route NAME] can be reached");
    return 0;
}

int check_draft(struct draft *draft, const struct config_sources *sources)
{
    static const struct config_source none = {.name = (char *)"configuration"};
    struct place whole = {.source = sources->count > 0 ? sources->items : &none};

    int r = check_sections(draft);
    return r < 0 ? r : check_whole(draft, whole);
}
