#include "config/suggest.h"

#include <string.h>

#define LENGTH_MAX 40 /* longer words are no misspelt names of ours */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Damerau-Levenshtein distance by optimal string alignment; rows[i][j] compares prefixes. */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[LENGTH_MAX + 1][LENGTH_MAX + 1];

    for (size_t i = 0; i <= a_length; i++) {
        for (size_t j = 0; j <= b_length; j++) {
            if (i == 0 || j == 0) {
                rows[i][j] = i + j;
                continue;
            }
            char x = lower(a[i - 1]), y = lower(b[j - 1]);
            size_t edits = least(rows[i - 1][j], rows[i][j - 1]) + 1;
            edits = least(edits, rows[i - 1][j - 1] + (x == y ? 0 : 1));
            if (i > 1 && j > 1 && x == lower(b[j - 2]) && y == lower(a[i - 2]))
                edits = least(edits, rows[i - 2][j - 2] + 1);
            rows[i][j] = edits;
        }
    }
    return rows[a_length][b_length];
}

void suggest_offer(struct suggest *suggest, const char *name)
{
    size_t wrong_length = strlen(suggest->wrong), name_length = strlen(name);
    size_t longer = wrong_length > name_length ? wrong_length : name_length;

    if (longer > LENGTH_MAX)
        return;
    size_t distance = edit_distance(suggest->wrong, wrong_length, name, name_length);
    if (distance * 3 > longer || (suggest->nearest && distance >= suggest->distance))
        return;
    suggest->nearest = name;
    suggest->distance = distance;
}
