#include "upstream/resolver.h"

#include <ares.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "base/list.h"

/* Seconds. */
#define TTL_LEAST 1
#define TTL_MOST 3600
#define TTL_OF_HOSTS 30
#define RETRY_MOST 30

struct resolver {
    struct ev_loop *loop;
    ares_channel channel;
    ev_timer timer; /* of c-ares: the next attempt, or the end of the last one */
    struct link sockets;
    struct link names;
    const struct resolver_name *starting; /* within ares_getaddrinfo() */
    double second;                        /* what counts as one */
};

/* A socket of c-ares, for as long as it wants to hear of it. */
struct resolver_socket {
    struct link link;
    ev_io io;
};

/* What c-ares holds on to until it has called back: it cannot forget a single look-up. */
struct lookup {
    struct resolver_name *name; /* NULL: nobody asks any more */
};

struct resolver_name {
    struct link link;
    struct resolver *resolver;
    const struct resolver_calls *calls;
    void *owner;
    ev_timer timer; /* to the next look-up */
    struct lookup *lookup;
    int retry; /* seconds from a failure to the next look-up; 0: the last one did not fail */
    struct address addresses[RESOLVER_ADDRESSES_MAX];
    size_t address_count;
    uint16_t port;
    char host[];
};

/* When c-ares wants to be called again: after each call of it, that may have changed. */
static void schedule(struct resolver *resolver)
{
    struct timeval left;

    ev_timer_stop(resolver->loop, &resolver->timer);
    if (!ares_timeout(resolver->channel, NULL, &left))
        return;
    ev_timer_set(&resolver->timer, (double)left.tv_sec + (double)left.tv_usec / 1e6, 0);
    ev_timer_start(resolver->loop, &resolver->timer);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct resolver *resolver = timer->data;

    (void)loop;
    (void)events;
    ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    schedule(resolver);
}

static void on_socket(struct ev_loop *loop, ev_io *io, int events)
{
    struct resolver *resolver = io->data;
    int fd = io->fd; /* @io may be freed in the call */

    (void)loop;
    ares_process_fd(resolver->channel, events & EV_READ ? fd : ARES_SOCKET_BAD,
        events & EV_WRITE ? fd : ARES_SOCKET_BAD);
    schedule(resolver);
}

static struct resolver_socket *find_socket(struct resolver *resolver, int fd)
{
    LIST_EACH (link, &resolver->sockets) {
        struct resolver_socket *socket = CONTAINER_OF(link, struct resolver_socket, link);
        if (socket->io.fd == fd)
            return socket;
    }
    return NULL;
}

static void forget_socket(struct resolver *resolver, struct resolver_socket *socket)
{
    ev_io_stop(resolver->loop, &socket->io);
    list_remove(&socket->link);
    free(socket);
}

static struct resolver_socket *add_socket(struct resolver *resolver)
{
    struct resolver_socket *socket = malloc(sizeof *socket);

    if (!socket)
        return NULL;
    ev_init(&socket->io, on_socket);
    socket->io.data = resolver;
    list_append(&resolver->sockets, &socket->link);
    return socket;
}

/* What c-ares wants to hear of a socket; nothing, before it closes it. */
static void on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
    struct resolver *resolver = data;
    struct resolver_socket *socket = find_socket(resolver, fd);

    if (!readable && !writable) {
        if (socket)
            forget_socket(resolver, socket);
        return;
    }
    if (socket)
        ev_io_stop(resolver->loop, &socket->io);
    else
        socket = add_socket(resolver);
    if (!socket) /* no memory: the look-up runs into its timeout, and is tried again */
        return;
    ev_io_set(&socket->io, fd, (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
    ev_io_start(resolver->loop, &socket->io);
}

/* IPv4 goes first; else by the bytes, in the order of the network. */
static int compare_addresses(const struct address *a, const struct address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return a->any.sa_family == AF_INET ? -1 : 1;
    if (a->any.sa_family == AF_INET)
        return memcmp(&a->ipv4.sin_addr, &b->ipv4.sin_addr, sizeof a->ipv4.sin_addr);
    return memcmp(&a->ipv6.sin6_addr, &b->ipv6.sin6_addr, sizeof a->ipv6.sin6_addr);
}

static bool take_address(const struct sockaddr *any, uint16_t port, struct address *ret)
{
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;

    *ret = (struct address){0};
    if (any->sa_family == AF_INET) {
        memcpy(&ipv4, any, sizeof ipv4);
        ret->ipv4 = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_addr = ipv4.sin_addr, .sin_port = htons(port)};
        ret->length = sizeof ret->ipv4;
        return true;
    }
    if (any->sa_family == AF_INET6) {
        memcpy(&ipv6, any, sizeof ipv6);
        ret->ipv6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_addr = ipv6.sin6_addr, .sin6_port = htons(port)};
        ret->length = sizeof ret->ipv6;
        return true;
    }
    return false;
}

/* In order, none twice; of too many the first ones, so that servers that rotate change nothing. */
static size_t insert_address(struct address *addresses, size_t count, const struct address *address)
{
    size_t at = 0;

    while (at < count && compare_addresses(&addresses[at], address) < 0)
        at++;
    if (at == RESOLVER_ADDRESSES_MAX ||
        (at < count && compare_addresses(&addresses[at], address) == 0))
        return count;
    if (count == RESOLVER_ADDRESSES_MAX)
        count--;
    memmove(&addresses[at + 1], &addresses[at], (count - at) * sizeof addresses[0]);
    addresses[at] = *address;
    return count + 1;
}

static size_t collect(const struct ares_addrinfo *found, uint16_t port, struct address *addresses)
{
    size_t count = 0;

    for (const struct ares_addrinfo_node *node = found->nodes; node; node = node->ai_next) {
        struct address address;
        if (take_address(node->ai_addr, port, &address))
            count = insert_address(addresses, count, &address);
    }
    return count;
}

/* The least of all TTLs on the way to the addresses. */
static int least_ttl(const struct ares_addrinfo *found)
{
    int least = TTL_MOST;

    for (const struct ares_addrinfo_node *node = found->nodes; node; node = node->ai_next)
        if (node->ai_ttl < least)
            least = node->ai_ttl;
    for (const struct ares_addrinfo_cname *cname = found->cnames; cname; cname = cname->next)
        if (cname->ttl < least)
            least = cname->ttl;
    return least;
}

static void look_up_after(struct resolver_name *name, int seconds)
{
    ev_timer_set(&name->timer, seconds * name->resolver->second, 0);
    ev_timer_start(name->resolver->loop, &name->timer);
}

static bool is_known(
    const struct resolver_name *name, const struct address *addresses, size_t count)
{
    if (count != name->address_count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (compare_addresses(&addresses[i], &name->addresses[i]) != 0)
            return false;
    return true;
}

/* The name may be gone after the call, so that comes last. */
static void succeed(struct resolver_name *name, const struct ares_addrinfo *found,
    const struct address *addresses, size_t count)
{
    int ttl = least_ttl(found);

    /* c-ares says 0 for hosts(5). It reads that at once, while what is asked for comes later. */
    if (ttl <= 0 && name->resolver->starting == name)
        ttl = TTL_OF_HOSTS;
    name->retry = 0;
    look_up_after(name, ttl < TTL_LEAST ? TTL_LEAST : ttl);
    if (is_known(name, addresses, count))
        return;
    memcpy(name->addresses, addresses, count * sizeof addresses[0]);
    name->address_count = count;
    name->calls->resolved(name->owner, addresses, count);
}

static void fail(struct resolver_name *name, int status)
{
    name->retry = name->retry == 0 ? 1 : name->retry * 2;
    if (name->retry > RETRY_MOST)
        name->retry = RETRY_MOST;
    look_up_after(name, name->retry);
    name->calls->failed(name->owner, ares_strerror(status));
}

static void on_looked_up(void *data, int status, int timeouts, struct ares_addrinfo *found)
{
    struct lookup *lookup = data;
    struct resolver_name *name = lookup->name;
    struct address addresses[RESOLVER_ADDRESSES_MAX];

    (void)timeouts;
    free(lookup);
    if (name) {
        name->lookup = NULL;
        size_t count = status == ARES_SUCCESS ? collect(found, name->port, addresses) : 0;
        if (count > 0)
            succeed(name, found, addresses, count);
        else
            fail(name, status == ARES_SUCCESS ? ARES_ENODATA : status);
    }
    if (found)
        ares_freeaddrinfo(found);
}

static void look_up(struct ev_loop *loop, ev_timer *timer, int events)
{
    /* ARES_AI_NOSORT: c-ares would connect to each address in order to sort them. */
    static const struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct resolver_name *name = timer->data;
    struct resolver *resolver = name->resolver;
    struct lookup *lookup = malloc(sizeof *lookup);

    (void)loop;
    (void)events;
    if (!lookup) {
        fail(name, ARES_ENOMEM);
        return;
    }
    *lookup = (struct lookup){name};
    name->lookup = lookup;
    resolver->starting = name;
    ares_getaddrinfo(resolver->channel, name->host, NULL, &hints, on_looked_up, lookup);
    resolver->starting = NULL;
    schedule(resolver);
}

static int open_channel(struct resolver *resolver, const struct resolver_settings *settings)
{
    struct ares_options options = {
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = resolver,
        .timeout = (int)settings->attempt_msec,
        .tries = (int)settings->attempts,
    };
    int mask = ARES_OPT_SOCK_STATE_CB;

    if (settings->attempt_msec > 0)
        mask |= ARES_OPT_TIMEOUTMS;
    if (settings->attempts > 0)
        mask |= ARES_OPT_TRIES;
#ifdef ARES_OPT_QUERY_CACHE
    /* Off, where there is one: when a TTL is over, nobody wants to hear the same again. */
    mask |= ARES_OPT_QUERY_CACHE; /* a .qcache_max_ttl of 0 */
#endif
    int status = ares_init_options(&resolver->channel, &options, mask);
    if (status != ARES_SUCCESS) {
        resolver->channel = NULL;
        return status;
    }
    return settings->servers ? ares_set_servers_ports_csv(resolver->channel, settings->servers)
                             : ARES_SUCCESS;
}

static int reason_of(int status, struct reason *reason)
{
    int error = status == ARES_ENOMEM ? -ENOMEM : -EINVAL;

    return reason_set(reason, error, "cannot look up names: %s", ares_strerror(status));
}

int resolver_new_with(struct ev_loop *loop, const struct resolver_settings *settings,
    struct resolver **ret, struct reason *reason)
{
    int status = ares_library_init(ARES_LIB_INIT_ALL); /* counts */

    if (status != ARES_SUCCESS)
        return reason_of(status, reason);
    struct resolver *resolver = calloc(1, sizeof *resolver);
    if (!resolver) {
        ares_library_cleanup();
        return reason_of(ARES_ENOMEM, reason);
    }
    resolver->loop = loop;
    resolver->second = settings->second;
    list_init(&resolver->sockets);
    list_init(&resolver->names);
    ev_init(&resolver->timer, on_timeout);
    resolver->timer.data = resolver;
    status = open_channel(resolver, settings);
    if (status != ARES_SUCCESS) {
        resolver_free(resolver);
        return reason_of(status, reason);
    }
    *ret = resolver;
    return 0;
}

int resolver_new(struct ev_loop *loop, struct resolver **ret, struct reason *reason)
{
    static const struct resolver_settings settings = {.second = 1};

    return resolver_new_with(loop, &settings, ret, reason);
}

void resolver_free(struct resolver *resolver)
{
    if (!resolver)
        return;
    LIST_EACH (link, &resolver->names)
        resolver_unwatch(CONTAINER_OF(link, struct resolver_name, link));
    if (resolver->channel)
        ares_destroy(resolver->channel); /* calls back for each look-up, and closes the sockets */
    LIST_EACH (link, &resolver->sockets)
        forget_socket(resolver, CONTAINER_OF(link, struct resolver_socket, link));
    ev_timer_stop(resolver->loop, &resolver->timer);
    free(resolver);
    ares_library_cleanup();
}

struct resolver_name *resolver_watch(struct resolver *resolver, const char *host, uint16_t port,
    const struct resolver_calls *calls, void *owner)
{
    size_t size = strlen(host) + 1;
    struct resolver_name *name = calloc(1, sizeof *name + size);

    if (!name)
        return NULL;
    name->resolver = resolver;
    name->calls = calls;
    name->owner = owner;
    name->port = port;
    memcpy(name->host, host, size);
    list_append(&resolver->names, &name->link);
    ev_init(&name->timer, look_up);
    name->timer.data = name;
    look_up_after(name, 0);
    return name;
}

void resolver_unwatch(struct resolver_name *name)
{
    if (!name)
        return;
    if (name->lookup)
        name->lookup->name = NULL;
    ev_timer_stop(name->resolver->loop, &name->timer);
    list_remove(&name->link);
    free(name);
}
