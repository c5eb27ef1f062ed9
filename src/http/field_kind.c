#include "http/field_kind.h"

#include "http/syntax.h"

/*
 * By length, so that nearly every name is known or not after a look or two.
 *
 * FIELD_HOP: RFC 9110 §7.6.1, RFC 9112 §6; RFC 7540 §3.2.1 has HTTP2-Settings named in Connection.
 * FIELD_END_TO_END: what has to be known before the content (RFC 9110 §6.5.1), and what a client
 * could hide from its backend by naming it in Connection.
 */
struct known {
    const char *name; /* NULL: the last */
    enum field_kind kind;
};
#define NAMES(...) ((const struct known[]){__VA_ARGS__, {NULL, FIELD_OTHER}})

static const struct known *const known[] = {
    [2] = NAMES({"te", FIELD_TE}),
    [3] = NAMES({"age", FIELD_END_TO_END}, {"via", FIELD_END_TO_END}),
    [4] = NAMES({"host", FIELD_HOST}, {"date", FIELD_DATE}, {"vary", FIELD_END_TO_END}),
    [5] = NAMES({"proxy", FIELD_OF_REQUEST}, {"range", FIELD_END_TO_END}),
    [6] = NAMES({"expect", FIELD_EXPECT}, {"cookie", FIELD_END_TO_END},
        {"origin", FIELD_END_TO_END}, {"pragma", FIELD_END_TO_END}),
    [7] =
        NAMES({"trailer", FIELD_TRAILER}, {"upgrade", FIELD_UPGRADE}, {"expires", FIELD_END_TO_END},
            {"referer", FIELD_END_TO_END}, {"warning", FIELD_END_TO_END}),
    [8] = NAMES({"if-match", FIELD_END_TO_END}, {"if-range", FIELD_END_TO_END},
        {"location", FIELD_END_TO_END}),
    [9] = NAMES({"forwarded", FIELD_FORWARDED}, {"x-real-ip", FIELD_OF_CLIENT}),
    [10] = NAMES({"connection", FIELD_CONNECTION}, {"keep-alive", FIELD_HOP},
        {"set-cookie", FIELD_END_TO_END}, {"user-agent", FIELD_END_TO_END}),
    [11] = NAMES({"retry-after", FIELD_END_TO_END}),
    [12] = NAMES({"content-type", FIELD_END_TO_END}, {"max-forwards", FIELD_MAX_FORWARDS}),
    [13] = NAMES({"authorization", FIELD_END_TO_END}, {"cache-control", FIELD_END_TO_END},
        {"content-range", FIELD_END_TO_END}, {"if-none-match", FIELD_END_TO_END}),
    [14] = NAMES({"content-length", FIELD_CONTENT_LENGTH}, {"http2-settings", FIELD_HOP}),
    [15] = NAMES({"x-forwarded-for", FIELD_FORWARDED_FOR}),
    [16] = NAMES({"proxy-connection", FIELD_HOP}, {"x-forwarded-host", FIELD_FORWARDED_HOST},
        {"content-encoding", FIELD_END_TO_END}, {"content-location", FIELD_END_TO_END},
        {"www-authenticate", FIELD_END_TO_END}),
    [17] = NAMES({"transfer-encoding", FIELD_TRANSFER_ENCODING},
        {"x-forwarded-proto", FIELD_FORWARDED_PROTO}, {"if-modified-since", FIELD_END_TO_END}),
    [18] = NAMES({"proxy-authenticate", FIELD_HOP}),
    [19] = NAMES({"proxy-authorization", FIELD_HOP}, {"content-disposition", FIELD_END_TO_END},
        {"if-unmodified-since", FIELD_END_TO_END}),
    [23] = NAMES({"content-security-policy", FIELD_END_TO_END}),
    [25] = NAMES(
        {"proxy-authentication-info", FIELD_HOP}, {"strict-transport-security", FIELD_END_TO_END}),
};

/* Letters in lower case, digits as they are, and '-' for whatever else a name may hold. */
static char fold(char c)
{
    return syntax_is(c, SYNTAX_WORD) ? (char)(c | 0x20) : '-';
}

/* Whether @at begins with @wanted, which is folded, and not longer. */
static bool begins_folded(const char *at, const char *wanted)
{
    for (; *wanted; at++, wanted++)
        if (fold(*at) != *wanted)
            return false;
    return true;
}

static enum field_kind folded_kind(struct span name)
{
    static const char of_client[] = "x-forwarded-";
    const struct known *row =
        name.length < sizeof known / sizeof *known ? known[name.length] : NULL;

    for (; row && row->name; row++)
        if (begins_folded(name.at, row->name))
            return row->kind;
    if (name.length >= sizeof of_client && begins_folded(name.at, of_client))
        return FIELD_OF_CLIENT;
    return FIELD_OTHER;
}

enum field_kind field_kind_of(struct span name)
{
    enum field_kind kind = folded_kind(name);

    return kind != FIELD_OTHER && !syntax_all(name, SYNTAX_WORD) ? FIELD_DISGUISED : kind;
}
