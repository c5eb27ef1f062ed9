#pragma once

#include <ev.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/error.h"

/*
 * Looks names up with c-ares on the worker's loop: nothing blocks. One resolver for a worker; its
 * configuration is the system's (resolv.conf(5), hosts(5)).
 */
struct resolver;

#define RESOLVER_ADDRESSES_MAX 16

/* Returns 0, or -errno with the reason. */
int resolver_new(struct ev_loop *loop, struct resolver **ret, struct reason *reason);

/* What tests set. */
struct resolver_settings {
    const char *servers;   /* HOST:PORT, with commas between; NULL: the system's */
    unsigned attempt_msec; /* until a server is asked again; 0: the system's */
    unsigned attempts;     /* 0: the system's */
    double second;         /* what counts as one in the times below */
};
int resolver_new_with(struct ev_loop *loop, const struct resolver_settings *settings,
    struct resolver **ret, struct reason *reason);

/*
 * Frees the names that are still watched as well. Look-ups under way are forgotten: nobody is
 * called. Not to be called in a call of a name. NULL is allowed.
 */
void resolver_free(struct resolver *resolver);

/* A name that is kept up to date: looked up at once, and again when its TTL is over. */
struct resolver_name;

struct resolver_calls {
    /*
     * What the name means has changed, or is known for the first time. @addresses with their port;
     * at most RESOLVER_ADDRESSES_MAX, sorted, none twice, valid in the call. The name may be
     * unwatched in it.
     */
    void (*resolved)(void *owner, const struct address *addresses, size_t count);
    /*
     * A look-up failed; @why is a literal. What was known stays; it is tried again in a while. The
     * name may be unwatched in it.
     */
    void (*failed)(void *owner, const char *why);
};

/*
 * Begins to keep @host up to date; no call comes before the loop runs again. TTLs are taken as
 * being at least a second and at most an hour; a failure is repeated after a second, then two, four
 * and so on up to half a minute. Of hosts(5), where no TTL is, a name is looked up again every half
 * minute.
 * @host is copied. NULL: no memory.
 */
struct resolver_name *resolver_watch(struct resolver *resolver, const char *host, uint16_t port,
    const struct resolver_calls *calls, void *owner);
/* NULL is allowed. */
void resolver_unwatch(struct resolver_name *name);
