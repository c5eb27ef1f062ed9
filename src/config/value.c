#include "config/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/span.h"
#include "config/config.h"
#include "config/duration.h"
#include "config/host.h"
#include "config/network.h"
#include "config/server.h"
#include "config/size.h"

int value_set_boolean(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    bool *member = config_key_member(key, object);

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (span_equal_case(span_of(value), span_of(words[i]))) {
            *member = i % 2 != 0;
            return 0;
        }
    }
    return reason_set(reason, -EINVAL, "must be yes or no");
}

/* The numbers of a key's range are written as its values are, and read in the same way. */
static bool in_range(
    const struct config_key *key, int (*parse)(const char *, uint64_t *), uint64_t value)
{
    uint64_t minimum, maximum;

    return parse(key->minimum, &minimum) == 0 && value >= minimum &&
           parse(key->maximum, &maximum) == 0 && value <= maximum;
}

static int parse_number(const char *text, uint64_t *ret)
{
    return span_to_u64(span_of(text), ret);
}

int value_set_number(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    unsigned *member = config_key_member(key, object);
    uint64_t number;

    if (parse_number(value, &number) < 0 || !in_range(key, parse_number, number))
        return reason_set(
            reason, -EINVAL, "must be a number from %s to %s", key->minimum, key->maximum);
    *member = (unsigned)number;
    return 0;
}

int value_set_workers(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    unsigned *member = config_key_member(key, object);

    if (strcmp(value, "auto") == 0) {
        *member = 0;
        return 0;
    }
    if (value_set_number(object, key, value, NULL) < 0)
        return reason_set(
            reason, -EINVAL, "must be auto, or a number from %s to %s", key->minimum, key->maximum);
    return 0;
}

int value_set_duration(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    uint64_t *member = config_key_member(key, object), usec;

    if (duration_parse(value, &usec) < 0 || !in_range(key, duration_parse, usec))
        return reason_set(reason, -EINVAL,
            "must be a time span such as 500ms or 1min 30s, from %s to %s", key->minimum,
            key->maximum);
    *member = usec;
    return 0;
}

int value_set_size(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    uint64_t *member = config_key_member(key, object), bytes;

    if (size_parse(value, &bytes) < 0 || !in_range(key, size_parse, bytes))
        return reason_set(reason, -EINVAL,
            "must be a size in bytes, or with K, M, G or T, from %s to %s", key->minimum,
            key->maximum);
    *member = bytes;
    return 0;
}

/* The number of the word in the list, for an enum in the same order. */
static int set_word(void *object, const struct config_key *key, const char *value,
    const char *const *words, size_t count)
{
    unsigned *member = config_key_member(key, object);

    for (unsigned i = 0; i < count; i++) {
        if (strcmp(value, words[i]) == 0) {
            *member = i;
            return 0;
        }
    }
    return -EINVAL;
}

int value_set_access_log(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    static const char *const words[] = {
        [ACCESS_LOG_OFF] = "off",
        [ACCESS_LOG_COMBINED] = "combined",
        [ACCESS_LOG_JSON] = "json",
    };

    if (set_word(object, key, value, words, sizeof words / sizeof words[0]) < 0)
        return reason_set(reason, -EINVAL, "must be off, combined or json");
    return 0;
}

int value_set_balance(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    static const char *const words[] = {
        [BALANCE_ROUND_ROBIN] = "round-robin",
        [BALANCE_LEAST_CONNECTIONS] = "least-connections",
        [BALANCE_HASH] = "hash",
    };

    if (set_word(object, key, value, words, sizeof words / sizeof words[0]) < 0)
        return reason_set(reason, -EINVAL, "must be round-robin, least-connections or hash");
    return 0;
}

int value_set_send_proxy(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    static const char *const words[] = {
        [SEND_PROXY_NO] = "no",
        [SEND_PROXY_V1] = "v1",
        [SEND_PROXY_V2] = "v2",
    };

    if (set_word(object, key, value, words, sizeof words / sizeof words[0]) < 0)
        return reason_set(reason, -EINVAL, "must be no, v1 or v2");
    return 0;
}

static int set_string(void *object, const struct config_key *key, const char *value)
{
    char **member = config_key_member(key, object);
    char *copy = *value ? strdup(value) : NULL;

    if (*value && !copy)
        return -ENOMEM;
    free(*member);
    *member = copy;
    return 0;
}

int value_set_path(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    if (*value && *value != '/')
        return reason_set(reason, -EINVAL, "must be an absolute path");
    return set_string(object, key, value);
}

int value_set_socket_path(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    size_t longest = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;

    if (strlen(value) > longest)
        return reason_set(reason, -EINVAL,
            "must be at most %zu bytes long (unix(7) has no room for more)", longest);
    return value_set_path(object, key, value, reason);
}

/*
 * Whether a request's path can be, or begin with, @path: those we compare with are decoded and have
 * no empty, "." or ".." segments left. After a final slash there is no segment.
 */
static bool is_resolved_path(const char *path)
{
    if (*path != '/')
        return false;
    for (struct span rest = span_of(path + 1); rest.length > 0;) {
        struct span segment = span_cut(&rest, '/');
        if (segment.length == 0 || span_equal(segment, SPAN(".")) ||
            span_equal(segment, SPAN("..")))
            return false;
    }
    return true;
}

int value_set_prefix(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    if (!is_resolved_path(value))
        return reason_set(reason, -EINVAL,
            "must begin with / and have no empty, '.' or '..' segments: no request would match");
    return set_string(object, key, value);
}

static bool names_file(const char *path)
{
    return is_resolved_path(path) && path[strlen(path) - 1] != '/';
}

int value_set_file_path(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    if (*value && !names_file(value))
        return reason_set(reason, -EINVAL,
            "must name a file below Root= by a path that begins with /, such as /index.html");
    return set_string(object, key, value);
}

int value_set_field_value(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    for (const char *c = value; *c; c++)
        if (*c < ' ' || *c > '~')
            return reason_set(
                reason, -EINVAL, "must be printable ASCII: it becomes the value of a header field");
    return set_string(object, key, value);
}

int value_set_name(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    (void)reason; /* whether there is such a section is known when all of them are read */
    return set_string(object, key, value);
}

int value_set_authority(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    struct span host, port;
    uint16_t number;

    host_split(span_of(value), &host, &port);
    if (*value && !host_is_name(host) && !host_is_ipv6(host))
        return reason_set(reason, -EINVAL,
            "must be a host, or a host and a port, as in a Host field: example.com, "
            "[2001:db8::1]:8080");
    int r = port.at ? host_parse_port(port, &number, reason) : 0;
    return r < 0 ? r : set_string(object, key, value);
}

int value_set_probe(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    const char *path = value;

    if (strncmp(path, "GET ", 4) == 0)
        path += 4 + strspn(path + 4, " \t");
    bool valid = !*value || *path == '/';
    for (const char *c = path; *c; c++)
        valid = valid && *c > ' ' && *c <= '~' && *c != '#';
    if (!valid)
        return reason_set(reason, -EINVAL,
            "must be a path that begins with /, perhaps with a query, of printable ASCII without "
            "spaces and '#'; it is asked for with GET");
    return set_string(object, key, path);
}

static bool parse_status(struct span text, unsigned *ret)
{
    uint64_t status;

    if (span_to_u64(text, &status) < 0 || status < 200 || status > 599)
        return false;
    *ret = (unsigned)status;
    return true;
}

int value_set_probe_status(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    struct config_upstream *upstream = object;
    struct span most = span_of(value), least = span_cut(&most, '-');
    unsigned from, to;

    (void)key;
    if (!parse_status(least, &from) || !parse_status(most.at ? most : least, &to) || from > to)
        return reason_set(reason, -EINVAL,
            "must be a status from 200 to 599, or a range of them, such as 200-399");
    upstream->probe_status_least = from;
    upstream->probe_status_most = to;
    return 0;
}

static int append_string(void *object, const struct config_key *key, struct span text)
{
    char ***strings = config_key_member(key, object);
    size_t *count = config_key_count(key, object);
    char **longer = reallocarray(*strings, *count + 1, sizeof **strings);

    if (!longer)
        return -ENOMEM;
    *strings = longer;
    longer[*count] = strndup(text.at, text.length);
    if (!longer[*count])
        return -ENOMEM;
    (*count)++;
    return 0;
}

static void clear_strings(void *object, const struct config_key *key)
{
    char ***strings = config_key_member(key, object);
    size_t *count = config_key_count(key, object);

    while (*count > 0)
        free((*strings)[--*count]);
}

int value_add_file_names(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    struct span rest = span_of(value), word;

    if (!*value)
        clear_strings(object, key);
    while (span_cut_word(&rest, &word)) {
        if (memchr(word.at, '/', word.length) || span_equal(word, SPAN(".")) ||
            span_equal(word, SPAN("..")))
            return reason_set(
                reason, -EINVAL, "'%.*s' is not the name of a file", (int)word.length, word.at);
        int r = append_string(object, key, word);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_host(struct span host, struct reason *reason)
{
    const char *problem;

    if (host_is_name(host) || host_is_ipv6(host))
        return 0;
    if (memchr(host.at, '*', host.length))
        problem = "is a wildcard, and each host has to be named in full";
    else if (memchr(host.at, ':', host.length) && host.at[0] != '[')
        problem = "has a port, and a route answers on every port (IPv6 addresses: in brackets)";
    else
        problem = "is not a host name (non-ASCII names: in their xn-- form)";
    return reason_set(reason, -EINVAL, "'%.*s' %s", (int)host.length, host.at, problem);
}

int value_add_hosts(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    char ***hosts = config_key_member(key, object);
    size_t *count = config_key_count(key, object);
    struct span rest = span_of(value), word;

    if (!*value)
        clear_strings(object, key);
    while (span_cut_word(&rest, &word)) {
        int r = check_host(word, reason);
        if (r < 0)
            return r;
        r = append_string(object, key, word);
        if (r < 0)
            return r;
        for (char *c = (*hosts)[*count - 1]; *c; c++) /* RFC 9110 §4.2.3: hosts ignore case */
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c | 0x20);
    }
    return 0;
}

static int add_address(struct config_listen *listen, struct span word, struct reason *reason)
{
    struct address address, *addresses;
    char *text = strndup(word.at, word.length);

    if (!text)
        return -ENOMEM;
    int r = address_parse(text, &address, reason);
    free(text);
    if (r < 0)
        return r;
    addresses =
        reallocarray(listen->addresses, listen->address_count + 1, sizeof listen->addresses[0]);
    if (!addresses)
        return -ENOMEM;
    listen->addresses = addresses;
    addresses[listen->address_count++] = address;
    return 0;
}

int value_add_addresses(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    struct config_listen *listen = object;
    struct span rest = span_of(value), word;

    (void)key;
    if (!*value)
        listen->address_count = 0;
    while (span_cut_word(&rest, &word)) {
        int r = add_address(listen, word, reason);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A status has one page: the last one given. */
static int set_error_page(struct config_route *route, unsigned status, const char *path)
{
    struct config_error_page *pages = route->error_pages;
    size_t count = route->error_page_count, i = 0;
    char *copy = strdup(path);

    if (!copy)
        return -ENOMEM;
    while (i < count && pages[i].status != status)
        i++;
    if (i < count) {
        free(pages[i].path);
        pages[i].path = copy;
        return 0;
    }
    pages = reallocarray(pages, count + 1, sizeof pages[0]);
    if (!pages) {
        free(copy);
        return -ENOMEM;
    }
    route->error_pages = pages;
    pages[route->error_page_count++] = (struct config_error_page){status, copy};
    return 0;
}

int value_add_error_pages(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    struct config_route *route = object;
    const char *path = strchr(value, '/'); /* the rest of the line: a path may hold spaces */
    struct span rest = span_of(value), word;
    uint64_t status;

    (void)key;
    if (!*value) {
        while (route->error_page_count > 0)
            free(route->error_pages[--route->error_page_count].path);
        return 0;
    }
    if (!path || path == value || !names_file(path))
        goto invalid;
    while (span_cut_word(&rest, &word) && word.at < path) {
        if (span_to_u64(word, &status) < 0 || status < 400 || status > 599)
            goto invalid;
        int r = set_error_page(route, (unsigned)status, path);
        if (r < 0)
            return r;
    }
    return 0;
invalid:
    return reason_set(reason, -EINVAL,
        "must be one or more statuses from 400 to 599, and a file below Root=: 404 /404.html");
}

int value_add_server(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    struct config_upstream *upstream = object;
    struct config_server server, *servers;

    (void)key;
    if (!*value) {
        while (upstream->server_count > 0)
            server_clear(&upstream->servers[--upstream->server_count]);
        return 0;
    }
    int r = server_parse(span_of(value), &server, reason);
    if (r < 0)
        return r;
    servers = reallocarray(upstream->servers, upstream->server_count + 1, sizeof servers[0]);
    if (!servers) {
        server_clear(&server);
        return -ENOMEM;
    }
    upstream->servers = servers;
    servers[upstream->server_count++] = server;
    return 0;
}

static int add_network(struct config *config, struct span word, struct reason *reason)
{
    struct config_network network, *networks;

    int r = network_parse(word, &network, reason);
    if (r < 0)
        return r;
    networks =
        reallocarray(config->trusted_proxies, config->trusted_proxy_count + 1, sizeof networks[0]);
    if (!networks)
        return -ENOMEM;
    config->trusted_proxies = networks;
    networks[config->trusted_proxy_count++] = network;
    return 0;
}

int value_add_networks(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    struct config *config = object;
    struct span rest = span_of(value), word;

    (void)key;
    if (!*value)
        config->trusted_proxy_count = 0;
    while (span_cut_word(&rest, &word)) {
        int r = add_network(config, word, reason);
        if (r < 0)
            return r;
    }
    return 0;
}
