#pragma once

#include "http/request.h"

/*
 * Splits request->target into path, query and host by the form it has (RFC 9112 §3.2), which must
 * fit request->method: authority-form is for CONNECT alone, asterisk-form for OPTIONS alone, and
 * absolute-form is understood for the http and https schemes. request->host is left alone where the
 * target names none. Returns 0, or -EINVAL with a literal in *ret_why.
 */
int target_parse(struct request *request, const char **ret_why);
