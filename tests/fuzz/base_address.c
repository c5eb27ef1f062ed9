/*
 * An address: what is accepted is one that bind(2) would be given, equals itself, and is the same
 * address again after it was formatted, unless bytes were escaped.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void check(const struct address *address)
{
    char text[ADDRESS_TEXT_MAX], host[ADDRESS_TEXT_MAX];
    struct address again;

    assert(address->length > sizeof(sa_family_t) && address->length <= sizeof address->local);
    assert(address_equal(address, address));
    assert(strlen(address_format(address, text)) < ADDRESS_TEXT_MAX);
    assert(strlen(address_format_host(address, host)) < ADDRESS_TEXT_MAX);
    if (!strchr(text, '\\'))
        assert(address_parse(text, &again, NULL) == 0 && address_equal(address, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    char *text = strndup((const char *)bytes, length);
    struct reason reason = {""};
    struct address address;

    assert(text);
    int r = address_parse(text, &address, &reason);
    assert(r == 0 || (r == -EINVAL && reason.text[0] != '\0'));
    if (r == 0)
        check(&address);
    free(text);
    return 0;
}
