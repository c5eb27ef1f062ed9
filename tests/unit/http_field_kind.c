#include "http/field_kind.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *name;
    enum field_kind kind;
} rows[] = {
    {"connection", FIELD_CONNECTION},
    {"content-length", FIELD_CONTENT_LENGTH},
    {"http2-settings", FIELD_HOP},
    {"keep-alive", FIELD_HOP},
    {"proxy-authenticate", FIELD_HOP},
    {"proxy-authentication-info", FIELD_HOP},
    {"proxy-authorization", FIELD_HOP},
    {"proxy-connection", FIELD_HOP},
    {"te", FIELD_TE},
    {"trailer", FIELD_TRAILER},
    {"transfer-encoding", FIELD_TRANSFER_ENCODING},
    {"upgrade", FIELD_UPGRADE},
    {"expect", FIELD_EXPECT},
    {"host", FIELD_HOST},
    {"proxy", FIELD_OF_REQUEST},
    {"forwarded", FIELD_FORWARDED},
    {"x-forwarded-for", FIELD_FORWARDED_FOR},
    {"x-forwarded-host", FIELD_FORWARDED_HOST},
    {"x-forwarded-proto", FIELD_FORWARDED_PROTO},
    {"x-real-ip", FIELD_OF_CLIENT},
    {"age", FIELD_END_TO_END},
    {"authorization", FIELD_END_TO_END},
    {"cache-control", FIELD_END_TO_END},
    {"content-disposition", FIELD_END_TO_END},
    {"content-encoding", FIELD_END_TO_END},
    {"content-location", FIELD_END_TO_END},
    {"content-range", FIELD_END_TO_END},
    {"content-security-policy", FIELD_END_TO_END},
    {"content-type", FIELD_END_TO_END},
    {"cookie", FIELD_END_TO_END},
    {"date", FIELD_DATE},
    {"expires", FIELD_END_TO_END},
    {"if-match", FIELD_END_TO_END},
    {"if-modified-since", FIELD_END_TO_END},
    {"if-none-match", FIELD_END_TO_END},
    {"if-range", FIELD_END_TO_END},
    {"if-unmodified-since", FIELD_END_TO_END},
    {"location", FIELD_END_TO_END},
    {"max-forwards", FIELD_MAX_FORWARDS},
    {"origin", FIELD_END_TO_END},
    {"pragma", FIELD_END_TO_END},
    {"range", FIELD_END_TO_END},
    {"referer", FIELD_END_TO_END},
    {"retry-after", FIELD_END_TO_END},
    {"set-cookie", FIELD_END_TO_END},
    {"strict-transport-security", FIELD_END_TO_END},
    {"user-agent", FIELD_END_TO_END},
    {"vary", FIELD_END_TO_END},
    {"via", FIELD_END_TO_END},
    {"warning", FIELD_END_TO_END},
    {"www-authenticate", FIELD_END_TO_END},
    {"x-forwarded-port", FIELD_OF_CLIENT},
    {"x-forwarded-a", FIELD_OF_CLIENT},
    {"x-forwarded-a-name-longer-than-any-other", FIELD_OF_CLIENT},
    {"x-forwarded-client_cert", FIELD_DISGUISED},
};

static enum field_kind kind_of(const char *name)
{
    return field_kind_of(span_of(name));
}

/* Each name as it is, in upper case, longer, shorter, and as a CGI sees it. */
static void test_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[64];
        size_t length = strlen(rows[i].name);
        if (kind_of(rows[i].name) != rows[i].kind)
            fail_msg("%s: %d", rows[i].name, kind_of(rows[i].name));
        for (size_t j = 0; j <= length; j++)
            text[j] = rows[i].name[j] >= 'a' ? (char)(rows[i].name[j] - 0x20) : rows[i].name[j];
        assert_int_equal(kind_of(text), rows[i].kind);
        for (char *dash = text; (dash = strchr(dash, '-')); dash++) {
            *dash = "_.~^"[(dash - text) % 4];
            assert_int_equal(kind_of(text), FIELD_DISGUISED);
        }
        if (strncmp(rows[i].name, "x-forwarded-", 12) == 0) /* all of these are known */
            continue;
        (void)snprintf(text, sizeof text, "%sx", rows[i].name);
        assert_int_equal(kind_of(text), FIELD_OTHER);
        assert_int_equal(field_kind_of((struct span){rows[i].name, length - 1}), FIELD_OTHER);
    }
}

static void test_others(void **state)
{
    static const char *const names[] = {"", "x", "x-other", "x_other", "x-forwarded",
        "x-forwarded-", "x_forwarded_", "accept", "etag", "last-modified", "content-md5", "*",
        "a-name-longer-than-every-known-one-of-them"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(kind_of(names[i]), FIELD_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_others),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
