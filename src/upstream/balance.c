#include "upstream/balance.h"

#include <math.h>

#include "base/clock.h"

/* How much is to be said against a server, before Balance= decides among the best. */
enum {
    RANK_AVOIDED = 1,
    RANK_HAS_FAILED = 2,
    RANK_NONE = 4,
};

static unsigned rank(const struct upstream_server *server, const struct demand *demand, double now)
{
    return (demand->avoid == server ? RANK_HAS_FAILED : 0) +
           (upstream_server_is_avoided(server, now) ? RANK_AVOIDED : 0);
}

static bool is_candidate(
    const struct upstream_server *server, const struct demand *demand, double now)
{
    if (!upstream_server_is_usable(server, now))
        return false;
    return upstream_server_has_room(server) || (demand->reusable && server->idle_count > 0);
}

/*
 * Weighted round robin, spread evenly, as nginx does it: each gets its weight in credit, the
 * richest is chosen and pays for all.
 */
static double round_robin(struct upstream_server *server)
{
    server->credit += server->config->weight;
    return server->credit;
}

static double least_connections(const struct upstream_server *server)
{
    size_t busy = server->lent + server->dialling;

    return -(double)(busy + 1) / server->config->weight;
}

/* Weighted rendezvous hashing: a server that goes away moves only its own clients. */
static double rendezvous(const struct upstream_server *server, uint32_t key)
{
    uint64_t mixed = ((uint64_t)key << 32 | server->hash) * UINT64_C(0x9e3779b97f4a7c15);

    mixed ^= mixed >> 32; /* splitmix64's finish */
    mixed *= UINT64_C(0xbf58476d1ce4e5b9);
    mixed ^= mixed >> 29;
    double unit = ((double)(mixed >> 11) + 0.5) / 9007199254740992.0; /* 2^53: between 0 and 1 */
    return -(double)server->config->weight / log(unit);
}

static double score(
    enum balance balance, struct upstream_server *server, const struct demand *demand)
{
    switch (balance) {
    case BALANCE_ROUND_ROBIN:
        return round_robin(server);
    case BALANCE_LEAST_CONNECTIONS:
        return least_connections(server);
    case BALANCE_HASH:
        return rendezvous(server, demand->hash);
    }
    return 0;
}

static unsigned best_rank(
    const struct upstream *upstream, const struct demand *demand, double now, size_t *ret_count)
{
    unsigned best = RANK_NONE;

    *ret_count = 0;
    for (size_t i = 0; i < upstream->server_count; i++) {
        const struct upstream_server *server = &upstream->servers[i];
        unsigned its = is_candidate(server, demand, now) ? rank(server, demand, now) : RANK_NONE;
        *ret_count = its < best ? 1 : *ret_count + (its == best);
        best = its < best ? its : best;
    }
    return best;
}

struct upstream_server *balance_choose(struct upstream *upstream, const struct demand *demand)
{
    double now = clock_monotonic_seconds(), most = 0;
    struct upstream_server *chosen = NULL;
    size_t count;
    unsigned best = best_rank(upstream, demand, now, &count);
    double weights = 0;

    if (best == RANK_NONE)
        return NULL;
    /* Those with the same score take turns. */
    size_t turn = upstream->turn++;
    for (size_t i = 0; i < upstream->server_count; i++) {
        struct upstream_server *server = &upstream->servers[(turn + i) % upstream->server_count];
        if (!is_candidate(server, demand, now) || rank(server, demand, now) != best)
            continue;
        double its = count == 1 ? 1 : score(upstream->config->balance, server, demand);
        weights += server->config->weight;
        if (!chosen || its > most) {
            chosen = server;
            most = its;
        }
    }
    if (count > 1)
        chosen->credit -= weights;
    return chosen;
}

bool balance_repeats(const struct upstream *upstream, const struct demand *demand)
{
    size_t count;

    return demand->avoid &&
           best_rank(upstream, demand, clock_monotonic_seconds(), &count) & RANK_HAS_FAILED;
}
