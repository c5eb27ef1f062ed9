#pragma once

/*
 * For tests of handlers: a request from its text, and what an answer comes to. A test includes
 * <cmocka.h> before this.
 */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "connection/answer.h"

static struct answer answer; /* as a worker has it: one for all requests */

/* The request "METHOD TARGET" with these field lines. One at a time. */
static inline const struct request *exchange_request(const char *line, const char *fields)
{
    static const struct head_limits limits = {.size = 16384, .fields = 64};
    static struct request request;
    static struct head_parser parser;
    static char text[16384];
    unsigned status;
    const char *why;

    int length = snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: x\r\n%s\r\n", line, fields);
    assert_in_range(length, 1, sizeof text - 1);
    head_parser_start(&parser, &request, &limits);
    assert_int_equal(head_parser_feed(&parser, (struct span){text, (size_t)length}, &status, &why),
        HEAD_COMPLETE);
    return &request;
}

/* The body the parts make up. */
static inline const char *exchange_body(void)
{
    static char text[4096];
    size_t length = 0;

    for (size_t i = 0; i < answer.part_count; i++) {
        const struct part *part = &answer.parts[i];
        assert_true(length + part->length < sizeof text);
        if (part->kind == PART_BYTES)
            memcpy(text + length, answer.bytes.bytes + part->offset, part->length);
        else
            assert_int_equal(
                pread(answer.file, text + length, part->length, (off_t)part->offset), part->length);
        length += part->length;
    }
    text[length] = '\0';
    assert_int_equal(length, answer_length(&answer));
    return text;
}

static inline const char *exchange_fields(void)
{
    return buffer_string(&answer.fields);
}

/* The value of a field; NULL where there is none. */
static inline const char *exchange_field(const char *name)
{
    static char value[512];
    char start[64];

    (void)snprintf(start, sizeof start, "%s: ", name);
    for (const char *line = exchange_fields(); *line; line = strstr(line, "\r\n") + 2)
        if (strncmp(line, start, strlen(start)) == 0) {
            const char *at = line + strlen(start);
            (void)snprintf(value, sizeof value, "%.*s", (int)(strstr(at, "\r\n") - at), at);
            return value;
        }
    return NULL;
}

static inline void assert_field(const char *name, const char *expected)
{
    const char *value = exchange_field(name);

    if (expected && !value)
        fail_msg("no %s in: %s", name, exchange_fields());
    if (expected)
        assert_string_equal(value, expected);
    else
        assert_null(value);
}
