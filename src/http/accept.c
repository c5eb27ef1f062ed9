#include "http/accept.h"

const struct coding_info codings[CODING_COUNT] = {
    [CODING_BROTLI] = {"br", ".br"},
    [CODING_ZSTD] = {"zstd", ".zst"},
    [CODING_GZIP] = {"gzip", ".gz"},
};

/* Weights are in thousandths. */
#define WEIGHT_UNSAID (-1)

struct weights {
    int codings[CODING_COUNT], identity, any;
};

/* qvalue (RFC 9110 §12.4.2): 0 to 1 with up to three decimals. Returns -1 for anything else. */
static int read_qvalue(struct span text)
{
    int weight = 0;

    if (text.length == 0 || text.length > 5 || (text.length > 1 && text.at[1] != '.'))
        return -1;
    for (size_t i = 0; i < 5; i++) {
        if (i == 1)
            continue;
        char digit = i < text.length ? text.at[i] : '0';
        if (digit < '0' || digit > '9')
            return -1;
        weight = weight * 10 + (digit - '0');
    }
    return weight <= 1000 ? weight : -1;
}

/* What follows a coding's name: nothing, or "q=" and a qvalue. */
static int read_weight(struct span parameter)
{
    if (!parameter.at)
        return 1000;
    parameter = span_trim(parameter);
    if (parameter.length < 2 || (parameter.at[0] | 0x20) != 'q' || parameter.at[1] != '=')
        return -1;
    return read_qvalue((struct span){parameter.at + 2, parameter.length - 2});
}

static int *weight_of(struct weights *weights, struct span name)
{
    if (span_equal(name, SPAN("*")))
        return &weights->any;
    if (span_equal_case(name, SPAN("identity")))
        return &weights->identity;
    if (span_equal_case(name, SPAN("x-gzip"))) /* RFC 9110 §8.4.1.3 */
        return &weights->codings[CODING_GZIP];
    for (int i = 0; i < CODING_COUNT; i++)
        if (span_equal_case(name, span_of(codings[i].name)))
            return &weights->codings[i];
    return NULL;
}

/* Malformed elements are skipped. */
static void read_weights(const struct request *request, struct weights *weights)
{
    struct list_walk walk = {.name = "accept-encoding"};
    struct span element;

    while (request_list_next(request, &walk, &element)) {
        struct span name = span_trim(span_cut(&element, ';'));
        int weight = read_weight(element), *slot = weight_of(weights, name);
        if (weight >= 0 && slot)
            *slot = weight;
    }
}

/* "*" speaks for whatever the list does not name; what nobody speaks for is not asked for. */
static int said(const struct weights *weights, int weight)
{
    if (weight != WEIGHT_UNSAID)
        return weight;
    return weights->any != WEIGHT_UNSAID ? weights->any : 0;
}

size_t accept_codings(const struct request *request, enum coding ret[static CODING_COUNT])
{
    struct weights weights = {
        {WEIGHT_UNSAID, WEIGHT_UNSAID, WEIGHT_UNSAID}, WEIGHT_UNSAID, WEIGHT_UNSAID};
    int sorted[CODING_COUNT];
    size_t count = 0;

    read_weights(request, &weights);
    for (int i = 0; i < CODING_COUNT; i++) {
        int weight = said(&weights, weights.codings[i]);
        size_t at = count;
        if (weight == 0 || weight < said(&weights, weights.identity))
            continue;
        for (; at > 0 && sorted[at - 1] < weight; at--) {
            sorted[at] = sorted[at - 1];
            ret[at] = ret[at - 1];
        }
        sorted[at] = weight;
        ret[at] = (enum coding)i;
        count++;
    }
    return count;
}
