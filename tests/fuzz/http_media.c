/*
 * A mime.types table and a file name: the type found is one that may stand in a field.
 *
 * The file name is the first line.
 */
#include <stdlib.h>

#include "http/media.h"
#include "http/syntax.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span table = {(const char *)data, size}, name = span_cut(&table, '\n');
    struct media_types *types;

    if (media_types_new(table, &types) < 0)
        abort();
    struct span type = span_of(media_types_find(types, name));
    if (type.length < 3 || !syntax_all(type, SYNTAX_FIELD_VALUE))
        abort();
    media_types_free(types);
    return 0;
}
