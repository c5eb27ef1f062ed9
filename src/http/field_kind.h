#pragma once

#include "base/span.h"

/*
 * What a gateway makes of a field, by its name.
 */
enum field_kind {
    FIELD_OTHER,             /* sent on, unless a Connection option names it */
    FIELD_END_TO_END,        /* sent on, whatever Connection names; not in a trailer */
    FIELD_DATE,              /* the same */
    FIELD_MAX_FORWARDS,      /* the same, but one less in a request to trace the way */
    FIELD_HOP,               /* never sent on: of this connection alone, or made anew */
    FIELD_CONNECTION,        /* the same */
    FIELD_CONTENT_LENGTH,    /* the same */
    FIELD_TE,                /* the same */
    FIELD_TRANSFER_ENCODING, /* the same */
    FIELD_UPGRADE,           /* the same */
    FIELD_TRAILER,           /* goes with the trailer section it announces */
    FIELD_OF_REQUEST,        /* never sent on in a request: made anew, or dangerous to backends */
    FIELD_EXPECT,            /* the same */
    FIELD_HOST,              /* the same */
    FIELD_OF_CLIENT,         /* what a proxy says of its client */
    FIELD_FORWARDED,         /* the same: RFC 7239 */
    FIELD_FORWARDED_FOR,     /* the same: X-Forwarded-For */
    FIELD_FORWARDED_HOST,    /* the same: X-Forwarded-Host */
    FIELD_FORWARDED_PROTO,   /* the same: X-Forwarded-Proto */
    /*
     * "X_Forwarded_For", "content.length": no name of ours, but CGI (RFC 3875 §4.1.18) and its
     * descendants read it as one of those that are not simply sent on.
     */
    FIELD_DISGUISED,
};

enum field_kind field_kind_of(struct span name);
