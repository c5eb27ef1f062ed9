#include "http/field_kind.h"

static const struct known {
    struct span name;
    enum field_kind kind;
} known[] = {
    /* RFC 9110 §7.6.1, RFC 9112 §6; RFC 7540 §3.2.1 has HTTP2-Settings named in Connection */
    {SPAN("connection"), FIELD_HOP},
    {SPAN("content-length"), FIELD_HOP},
    {SPAN("http2-settings"), FIELD_HOP},
    {SPAN("keep-alive"), FIELD_HOP},
    {SPAN("proxy-authenticate"), FIELD_HOP},
    {SPAN("proxy-authentication-info"), FIELD_HOP},
    {SPAN("proxy-authorization"), FIELD_HOP},
    {SPAN("proxy-connection"), FIELD_HOP},
    {SPAN("te"), FIELD_TE},
    {SPAN("trailer"), FIELD_TRAILER},
    {SPAN("transfer-encoding"), FIELD_HOP},
    {SPAN("upgrade"), FIELD_UPGRADE},
    {SPAN("expect"), FIELD_OF_REQUEST},
    {SPAN("host"), FIELD_OF_REQUEST},
    {SPAN("proxy"), FIELD_OF_REQUEST}, /* CGI makes HTTP_PROXY of it: CVE-2016-5385 */
    {SPAN("forwarded"), FIELD_FORWARDED},
    {SPAN("x-forwarded-for"), FIELD_FORWARDED_FOR},
    {SPAN("x-forwarded-host"), FIELD_FORWARDED_HOST},
    {SPAN("x-forwarded-proto"), FIELD_FORWARDED_PROTO},
    {SPAN("x-real-ip"), FIELD_OF_CLIENT},
    /* RFC 9110 §6.5.1: what has to be known before the content; and what a client could hide from
     * its backend by naming it in Connection */
    {SPAN("age"), FIELD_END_TO_END},
    {SPAN("authorization"), FIELD_END_TO_END},
    {SPAN("cache-control"), FIELD_END_TO_END},
    {SPAN("content-disposition"), FIELD_END_TO_END},
    {SPAN("content-encoding"), FIELD_END_TO_END},
    {SPAN("content-location"), FIELD_END_TO_END},
    {SPAN("content-range"), FIELD_END_TO_END},
    {SPAN("content-security-policy"), FIELD_END_TO_END},
    {SPAN("content-type"), FIELD_END_TO_END},
    {SPAN("cookie"), FIELD_END_TO_END},
    {SPAN("date"), FIELD_DATE},
    {SPAN("expires"), FIELD_END_TO_END},
    {SPAN("if-match"), FIELD_END_TO_END},
    {SPAN("if-modified-since"), FIELD_END_TO_END},
    {SPAN("if-none-match"), FIELD_END_TO_END},
    {SPAN("if-range"), FIELD_END_TO_END},
    {SPAN("if-unmodified-since"), FIELD_END_TO_END},
    {SPAN("location"), FIELD_END_TO_END},
    {SPAN("max-forwards"), FIELD_END_TO_END},
    {SPAN("origin"), FIELD_END_TO_END},
    {SPAN("pragma"), FIELD_END_TO_END},
    {SPAN("range"), FIELD_END_TO_END},
    {SPAN("referer"), FIELD_END_TO_END},
    {SPAN("retry-after"), FIELD_END_TO_END},
    {SPAN("set-cookie"), FIELD_END_TO_END},
    {SPAN("strict-transport-security"), FIELD_END_TO_END},
    {SPAN("user-agent"), FIELD_END_TO_END},
    {SPAN("vary"), FIELD_END_TO_END},
    {SPAN("via"), FIELD_END_TO_END},
    {SPAN("warning"), FIELD_END_TO_END},
    {SPAN("www-authenticate"), FIELD_END_TO_END},
};

/* Letters in lower case, digits as they are, and '-' for whatever else a name may hold. */
static char fold(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c | 0x20);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : '-';
}

/* @name is not shorter than @wanted, which is folded. */
static bool begins_folded(struct span name, struct span wanted)
{
    for (size_t i = 0; i < wanted.length; i++)
        if (fold(name.at[i]) != wanted.at[i])
            return false;
    return true;
}

static enum field_kind folded_kind(struct span name)
{
    static const struct span of_client = SPAN("x-forwarded-");

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].name.length == name.length && begins_folded(name, known[i].name))
            return known[i].kind;
    if (name.length > of_client.length && begins_folded(name, of_client))
        return FIELD_OF_CLIENT;
    return FIELD_OTHER;
}

static bool is_disguised(struct span name)
{
    for (size_t i = 0; i < name.length; i++)
        if (name.at[i] != '-' && fold(name.at[i]) == '-')
            return true;
    return false;
}

enum field_kind field_kind_of(struct span name)
{
    enum field_kind kind = folded_kind(name);

    return kind != FIELD_OTHER && is_disguised(name) ? FIELD_DISGUISED : kind;
}
