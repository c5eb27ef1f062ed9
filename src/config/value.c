#include "config/value.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/span.h"
#include "config/config.h"
#include "config/duration.h"
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

int value_set_access_log(
    void *object, const struct config_key *key, const char *value, struct reason *reason)
{
    static const char *const words[] = {
        [ACCESS_LOG_OFF] = "off",
        [ACCESS_LOG_COMBINED] = "combined",
        [ACCESS_LOG_JSON] = "json",
    };
    enum access_log_kind *member = config_key_member(key, object);

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(value, words[i]) == 0) {
            *member = (enum access_log_kind)i;
            return 0;
        }
    }
    return reason_set(reason, -EINVAL, "must be off, combined or json");
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

/* The next word of a list that whitespace separates; false: there is none. */
static bool next_word(const char **text, struct span *ret)
{
    *text += strspn(*text, " \t");
    *ret = (struct span){*text, strcspn(*text, " \t")};
    *text += ret->length;
    return ret->length > 0;
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
    struct span word;

    if (!*value)
        clear_strings(object, key);
    while (next_word(&value, &word)) {
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

static bool is_label_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* RFC 1123 §2.1 and RFC 1035 §2.3.4; the underscore is in use all the same. */
static bool is_host_name(struct span name)
{
    if (name.length > 253)
        return false;
    while (name.at) {
        struct span label = span_cut(&name, '.');
        if (label.length == 0 || label.length > 63)
            return false;
        for (size_t i = 0; i < label.length; i++)
            if (!is_label_character(label.at[i]))
                return false;
    }
    return true;
}

/* An IPv6 address as it stands in a Host field: in brackets (RFC 3986 §3.2.2). */
static bool is_ipv6_literal(struct span host)
{
    char text[INET6_ADDRSTRLEN] = "";
    struct in6_addr address;

    if (host.length < 2 || host.length - 2 >= sizeof text || host.at[0] != '[' ||
        host.at[host.length - 1] != ']')
        return false;
    memcpy(text, host.at + 1, host.length - 2);
    return inet_pton(AF_INET6, text, &address) == 1;
}

static int check_host(struct span host, struct reason *reason)
{
    const char *problem;

    if (is_host_name(host) || is_ipv6_literal(host))
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
    struct span word;

    if (!*value)
        clear_strings(object, key);
    while (next_word(&value, &word)) {
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
    struct span word;

    (void)key;
    if (!*value)
        listen->address_count = 0;
    while (next_word(&value, &word)) {
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
    struct span word;
    uint64_t status;

    (void)key;
    if (!*value) {
        while (route->error_page_count > 0)
            free(route->error_pages[--route->error_page_count].path);
        return 0;
    }
    if (!path || path == value || !names_file(path))
        goto invalid;
    while (next_word(&value, &word) && word.at < path) {
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
