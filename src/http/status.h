#pragma once

/* The reason phrase of a status code (RFC 9110 §15, IANA's registry); "Unknown" for others. */
const char *status_phrase(unsigned status);
