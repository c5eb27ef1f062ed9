#include "http/media.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "http/syntax.h"

/* What the web needs, in the format of mime.types; text/javascript is RFC 9239's. */
static const char own_table[] = "text/html html htm\n"
                                "text/css css\n"
                                "text/javascript js mjs\n"
                                "text/plain txt text log\n"
                                "text/markdown md markdown\n"
                                "text/csv csv\n"
                                "text/calendar ics\n"
                                "text/vtt vtt\n"
                                "text/xml xml xsl\n"
                                "application/json json map\n"
                                "application/ld+json jsonld\n"
                                "application/manifest+json webmanifest\n"
                                "application/atom+xml atom\n"
                                "application/rss+xml rss\n"
                                "application/xhtml+xml xhtml\n"
                                "application/wasm wasm\n"
                                "application/pdf pdf\n"
                                "application/zip zip\n"
                                "application/gzip gz\n"
                                "application/zstd zst\n"
                                "application/x-tar tar\n"
                                "application/x-bzip2 bz2\n"
                                "application/x-xz xz\n"
                                "application/x-7z-compressed 7z\n"
                                "image/svg+xml svg\n"
                                "image/png png\n"
                                "image/jpeg jpg jpeg\n"
                                "image/gif gif\n"
                                "image/webp webp\n"
                                "image/avif avif\n"
                                "image/vnd.microsoft.icon ico\n"
                                "image/bmp bmp\n"
                                "image/tiff tif tiff\n"
                                "font/woff woff\n"
                                "font/woff2 woff2\n"
                                "font/ttf ttf\n"
                                "font/otf otf\n"
                                "audio/mpeg mp3\n"
                                "audio/mp4 m4a\n"
                                "audio/ogg ogg oga opus\n"
                                "audio/wav wav\n"
                                "audio/flac flac\n"
                                "video/mp4 mp4 m4v\n"
                                "video/webm webm\n"
                                "video/ogg ogv\n"
                                "video/quicktime mov\n";

/* Offsets into types->strings, which moves while it grows. */
struct entry {
    size_t extension, type;
};

struct media_types {
    struct buffer strings;
    struct entry *entries; /* sorted by extension, each once */
    size_t count, capacity;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static int add_entry(struct media_types *types, struct entry entry)
{
    if (types->count == types->capacity) {
        size_t capacity = types->capacity ? types->capacity * 2 : 128;
        struct entry *entries = reallocarray(types->entries, capacity, sizeof *entries);
        if (!entries)
            return -ENOMEM;
        types->entries = entries;
        types->capacity = capacity;
    }
    types->entries[types->count++] = entry;
    return 0;
}

static bool is_type(struct span type)
{
    struct span subtype = type, top = span_cut(&subtype, '/');

    return top.length > 0 && subtype.length > 0 && syntax_all(top, SYNTAX_TOKEN) &&
           syntax_all(subtype, SYNTAX_TOKEN);
}

/* Appends the type as Content-Type says it. */
static int add_type(struct media_types *types, struct span type, size_t *ret_offset)
{
    struct span charset = SPAN("");

    if (span_equal_case(type, SPAN("application/javascript")) ||
        span_equal_case(type, SPAN("application/x-javascript")))
        type = SPAN("text/javascript"); /* RFC 9239 §6: the others are obsolete */
    if (type.length > 5 && span_equal_case((struct span){type.at, 5}, SPAN("text/")))
        charset = SPAN("; charset=utf-8");
    *ret_offset = types->strings.length;
    int r = buffer_append(&types->strings, type);
    if (r == 0)
        r = buffer_append(&types->strings, charset);
    return r == 0 ? buffer_append(&types->strings, (struct span){"", 1}) : r;
}

static int add_line(struct media_types *types, struct span line)
{
    struct span type, word;
    struct entry entry;
    int r;

    if (!span_cut_word(&line, &type) || !is_type(type) || type.length > 255 ||
        span_trim(line).length == 0)
        return 0; /* most of the system's types have no extension */
    r = add_type(types, type, &entry.type);
    while (r == 0 && span_cut_word(&line, &word)) {
        if (!syntax_all(word, SYNTAX_TOKEN))
            continue;
        entry.extension = types->strings.length;
        r = buffer_append(&types->strings, word);
        if (r == 0)
            r = buffer_append(&types->strings, (struct span){"", 1});
        if (r == 0)
            r = add_entry(types, entry);
        for (size_t i = 0; r == 0 && i < word.length; i++)
            types->strings.bytes[entry.extension + i] = lower(word.at[i]);
    }
    return r;
}

static int add_table(struct media_types *types, struct span text)
{
    while (text.length > 0) {
        struct span line = span_cut(&text, '\n');
        line = span_cut(&line, '#');
        if (line.length > 0 && line.at[line.length - 1] == '\r')
            line.length--;
        int r = add_line(types, line);
        if (r < 0)
            return r;
    }
    return 0;
}

/* By extension, and what was added later first. */
static int compare(const void *a, const void *b, void *strings)
{
    const struct entry *left = a, *right = b;
    const char *base = strings;
    int order = strcmp(base + left->extension, base + right->extension);

    if (order != 0)
        return order;
    return left->extension < right->extension ? 1 : -1;
}

static void sort(struct media_types *types)
{
    const char *strings = types->strings.bytes;
    size_t kept = 1;

    qsort_r(types->entries, types->count, sizeof *types->entries, compare, types->strings.bytes);
    for (size_t i = 1; i < types->count; i++)
        if (strcmp(strings + types->entries[i].extension,
                strings + types->entries[kept - 1].extension) != 0)
            types->entries[kept++] = types->entries[i];
    types->count = kept;
}

int media_types_new(struct span text, struct media_types **ret)
{
    struct media_types *types = calloc(1, sizeof *types);
    int r;

    if (!types)
        return -ENOMEM;
    r = add_table(types, SPAN(own_table));
    if (r == 0)
        r = add_table(types, text);
    if (r < 0) {
        media_types_free(types);
        return r;
    }
    sort(types);
    *ret = types;
    return 0;
}

void media_types_free(struct media_types *types)
{
    if (!types)
        return;
    buffer_clear(&types->strings);
    free(types->entries);
    free(types);
}

/* The part behind the last dot of the last segment, if that dot does not begin it. */
static struct span extension_of(struct span name)
{
    for (size_t i = name.length; i > 0; i--) {
        if (name.at[i - 1] == '/')
            break;
        if (name.at[i - 1] == '.') {
            if (i == 1 || name.at[i - 2] == '/')
                break;
            return (struct span){name.at + i, name.length - i};
        }
    }
    return (struct span){name.at, 0};
}

/* As strcmp(3), of an extension in any case with one in lower case. */
static int compare_extension(struct span extension, const char *known)
{
    for (size_t i = 0; i < extension.length; i++) {
        if (known[i] == '\0')
            return 1;
        int difference = (unsigned char)lower(extension.at[i]) - (unsigned char)known[i];
        if (difference != 0)
            return difference;
    }
    return known[extension.length] == '\0' ? 0 : -1;
}

const char *media_types_find(const struct media_types *types, struct span file_name)
{
    struct span extension = extension_of(file_name);
    size_t low = 0, high = types->count;

    while (low < high && extension.length > 0) {
        size_t middle = low + (high - low) / 2;
        const struct entry *entry = &types->entries[middle];
        int order = compare_extension(extension, types->strings.bytes + entry->extension);
        if (order == 0)
            return types->strings.bytes + entry->type;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return "application/octet-stream";
}
