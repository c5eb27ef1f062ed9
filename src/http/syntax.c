#include "http/syntax.h"

/* Every visible character may stand in a field value; all but '#' in a target, all but '"' in an
 * entity tag. */
#define VISIBLE (SYNTAX_FIELD_VALUE | SYNTAX_TARGET | SYNTAX_ETAG)
#define UNRESERVED (VISIBLE | SYNTAX_TOKEN | SYNTAX_REG_NAME | SYNTAX_PATH)
#define WORD (UNRESERVED | SYNTAX_WORD)
#define SUB_DELIM (VISIBLE | SYNTAX_REG_NAME | SYNTAX_PATH)

const uint8_t syntax_classes[256] = {
    ['\t'] = SYNTAX_FIELD_VALUE,
    [' '] = SYNTAX_FIELD_VALUE,
    ['!'] = SUB_DELIM | SYNTAX_TOKEN,
    ['"'] = SYNTAX_FIELD_VALUE | SYNTAX_TARGET,
    ['#'] = SYNTAX_FIELD_VALUE | SYNTAX_ETAG | SYNTAX_TOKEN,
    ['$'] = SUB_DELIM | SYNTAX_TOKEN,
    ['%'] = VISIBLE | SYNTAX_TOKEN,
    ['&' ... '\''] = SUB_DELIM | SYNTAX_TOKEN,
    ['(' ... ')'] = SUB_DELIM,
    ['*' ... '+'] = SUB_DELIM | SYNTAX_TOKEN,
    [','] = SUB_DELIM,
    ['-'] = WORD,
    ['.'] = UNRESERVED,
    ['/'] = VISIBLE | SYNTAX_PATH,
    ['0' ... '9'] = WORD,
    [':'] = VISIBLE | SYNTAX_PATH,
    [';'] = SUB_DELIM,
    ['<'] = VISIBLE,
    ['='] = SUB_DELIM,
    ['>' ... '?'] = VISIBLE,
    ['@'] = VISIBLE | SYNTAX_PATH,
    ['A' ... 'Z'] = WORD,
    ['[' ... ']'] = VISIBLE,
    ['^'] = VISIBLE | SYNTAX_TOKEN,
    ['_'] = UNRESERVED,
    ['`'] = VISIBLE | SYNTAX_TOKEN,
    ['a' ... 'z'] = WORD,
    ['{'] = VISIBLE,
    ['|'] = VISIBLE | SYNTAX_TOKEN,
    ['}'] = VISIBLE,
    ['~'] = UNRESERVED,
    [0x80 ... 0xff] = SYNTAX_FIELD_VALUE | SYNTAX_ETAG,
};

bool syntax_all(struct span span, enum syntax class)
{
    uint8_t common = (uint8_t) class;

#pragma GCC unroll 8
    for (size_t i = 0; i < span.length; i++)
        common &= syntax_classes[(unsigned char)span.at[i]];
    return common == class;
}

int syntax_hexadecimal(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}
