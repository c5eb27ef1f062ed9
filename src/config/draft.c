#include "config/draft.h"

#include <errno.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/suggest.h"

#define NAME_LENGTH_MAX 255 /* of FileDescriptorName=, systemd.socket(5) */

int draft_problem(struct draft *draft, struct place place, const char *format, ...)
{
    va_list arguments;
    char *text;

    draft->failed = true;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        return -ENOMEM;
    int r = place.line > 0 ? buffer_printf(draft->problems, "%s:%u: %s\n", place.source->name,
                                 place.line, text)
                           : buffer_printf(draft->problems, "%s: %s\n", place.source->name, text);
    free(text);
    return r;
}

/* The array of the section's type; for named ones. */
static void **objects_of(struct config *config, const struct config_section_info *info)
{
    return (void **)(void *)((char *)config + info->objects_offset);
}

static void *section_object(const struct draft *draft, const struct draft_section *section)
{
    const struct config_section_info *info = &config_section_infos[section->type];

    if (!info->named)
        return draft->config;
    return (char *)*objects_of(draft->config, info) + section->index * info->object_size;
}

const char *draft_section_name(const struct draft *draft, const struct draft_section *section)
{
    if (!config_section_infos[section->type].named)
        return "";
    return *(char **)section_object(draft, section);
}

static const struct config_key *find_key(enum config_section_type type, const char *name)
{
    const struct config_section_info *info = &config_section_infos[type];

    for (size_t i = 0; i < info->key_count; i++)
        if (strcmp(info->keys[i].name, name) == 0)
            return &info->keys[i];
    return NULL;
}

static size_t key_number(enum config_section_type type, const struct config_key *key)
{
    return (size_t)(key - config_section_infos[type].keys);
}

const struct place *draft_section_given(const struct draft_section *section, const char *key)
{
    const struct place *given =
        &section->given[key_number(section->type, find_key(section->type, key))];

    return given->source ? given : NULL;
}

bool draft_section_wrong(const struct draft_section *section, const char *key)
{
    size_t number = key_number(section->type, find_key(section->type, key));

    return (section->wrong & UINT64_C(1) << number) != 0;
}

/* Appends an object of that name, and else of zeros. *ret_index is where it is. */
static int add_object(struct config *config, const struct config_section_info *info,
    struct span name, size_t *ret_index)
{
    void **objects = objects_of(config, info);
    size_t *count = (size_t *)(void *)((char *)config + info->count_offset);
    char *longer = reallocarray(*objects, *count + 1, info->object_size);
    char *copy = strndup(name.at, name.length);

    if (longer)
        *objects = longer;
    if (!longer || !copy) {
        free(copy);
        return -ENOMEM;
    }
    char *object = longer + *count * info->object_size;
    memset(object, 0, info->object_size);
    memcpy(object, &copy, sizeof copy); /* the first member */
    *ret_index = (*count)++;
    return 0;
}

/* The defaults are read as if they stood in a file. */
static int set_defaults(const struct draft *draft, const struct draft_section *section)
{
    const struct config_section_info *info = &config_section_infos[section->type];
    void *object = section_object(draft, section);
    int r = 0;

    for (size_t i = 0; i < info->key_count && r == 0; i++)
        if (info->keys[i].default_value)
            r = info->keys[i].set(object, &info->keys[i], info->keys[i].default_value, NULL);
    return r;
}

/* Where the section of a name is. */
struct named {
    enum config_section_type type;
    struct span name; /* the object's own */
    size_t section;
};

static int compare_names(const void *a, const void *b)
{
    const struct named *left = a, *right = b;

    if (left->type != right->type)
        return left->type < right->type ? -1 : 1;
    if (left->name.length != right->name.length)
        return left->name.length < right->name.length ? -1 : 1;
    return memcmp(left->name.at, right->name.at, left->name.length);
}

static int enter_name(struct draft *draft, size_t section)
{
    struct named *entry = malloc(sizeof *entry);

    if (!entry)
        return -ENOMEM;
    *entry = (struct named){
        .type = draft->sections[section].type,
        .name = span_of(draft_section_name(draft, &draft->sections[section])),
        .section = section,
    };
    if (tsearch(entry, &draft->names, compare_names))
        return 0;
    free(entry);
    return -ENOMEM;
}

static int add_section(
    struct draft *draft, struct place place, enum config_section_type type, struct span name)
{
    const struct config_section_info *info = &config_section_infos[type];
    struct draft_section section = {.type = type, .place = place};
    struct draft_section *sections =
        reallocarray(draft->sections, draft->section_count + 1, sizeof sections[0]);

    if (!sections)
        return -ENOMEM;
    draft->sections = sections;
    int r = info->named ? add_object(draft->config, info, name, &section.index) : 0;
    if (r < 0)
        return r;
    section.given = calloc(info->key_count, sizeof section.given[0]);
    if (!section.given)
        return -ENOMEM;
    draft->current = draft->section_count;
    sections[draft->section_count++] = section;
    r = enter_name(draft, draft->current);
    return r < 0 ? r : set_defaults(draft, &sections[draft->current]);
}

int draft_init(struct draft *draft, struct buffer *problems)
{
    struct place nowhere = {0};

    *draft = (struct draft){.problems = problems, .config = calloc(1, sizeof *draft->config)};
    if (!draft->config)
        return -ENOMEM;
    int r = add_section(draft, nowhere, CONFIG_SERVER, SPAN(""));
    draft->current = DRAFT_NO_SECTION;
    return r;
}

void draft_deinit(struct draft *draft)
{
    for (size_t i = 0; i < draft->section_count; i++) {
        free(draft->sections[i].given);
        free(draft->sections[i].items);
    }
    free(draft->sections);
    tdestroy(draft->names, free);
    config_free(draft->config);
    *draft = (struct draft){0};
}

/* As systemd wants the names of file descriptors: sd_listen_fds_with_names(3) splits at colons. */
static bool is_valid_name(struct span name)
{
    if (name.length > NAME_LENGTH_MAX)
        return false;
    for (size_t i = 0; i < name.length; i++)
        if (name.at[i] < ' ' || name.at[i] > '~' || name.at[i] == ':')
            return false;
    return true;
}

static int unknown_section(struct draft *draft, struct place place, struct span type)
{
    char wrong[64]; /* the message shows no more of it */
    struct suggest suggest = {.wrong = wrong};

    (void)snprintf(wrong, sizeof wrong, "%.*s", (int)type.length, type.at);
    for (size_t i = 0; i < CONFIG_SECTION_TYPES; i++)
        suggest_offer(&suggest, config_section_infos[i].type);
    if (suggest.nearest)
        return draft_problem(
            draft, place, "unknown section [%s]; did you mean [%s]?", wrong, suggest.nearest);
    return draft_problem(draft, place, "unknown section [%s]", wrong);
}

static int open_section(
    struct draft *draft, struct place place, enum config_section_type type, struct span name)
{
    struct named wanted = {.type = type, .name = name};
    struct named *const *found = tfind(&wanted, &draft->names, compare_names);

    if (!found)
        return add_section(draft, place, type, name);
    draft->current = (*found)->section;
    return 0;
}

/* Cuts "[TYPE NAME]" into its parts. False: it has no bracket at the end. */
static bool split_header(struct span header, struct span *ret_type, struct span *ret_name)
{
    if (header.length < 2 || header.at[header.length - 1] != ']')
        return false;
    header = span_trim((struct span){header.at + 1, header.length - 2});
    *ret_type = header;
    ret_type->length = 0;
    while (ret_type->length < header.length && header.at[ret_type->length] != ' ' &&
           header.at[ret_type->length] != '\t')
        ret_type->length++;
    *ret_name =
        span_trim((struct span){header.at + ret_type->length, header.length - ret_type->length});
    return true;
}

int draft_open(struct draft *draft, struct place place, struct span header)
{
    enum config_section_type type = 0;
    struct span type_name, name;

    draft->current = DRAFT_REFUSED_SECTION;
    if (!split_header(header, &type_name, &name))
        return draft_problem(draft, place, "a section ends with ']', and nothing follows it");
    while (type < CONFIG_SECTION_TYPES &&
           !span_equal(span_of(config_section_infos[type].type), type_name))
        type++;
    if (type == CONFIG_SECTION_TYPES)
        return unknown_section(draft, place, type_name);
    const struct config_section_info *info = &config_section_infos[type];
    draft->opened[type] = true;
    if (!info->named && name.length > 0)
        return draft_problem(draft, place, "[%s] takes no name", info->type);
    if (info->named && name.length == 0)
        return draft_problem(draft, place, "[%s] needs a name: [%s NAME]", info->type, info->type);
    if (!is_valid_name(name))
        return draft_problem(draft, place,
            "the name of a section is printable ASCII without ':', %d characters at most",
            NAME_LENGTH_MAX);
    return open_section(draft, place, type, name);
}

static int unknown_key(
    struct draft *draft, struct place place, enum config_section_type type, const char *name)
{
    const struct config_section_info *info = &config_section_infos[type];
    struct suggest suggest = {.wrong = name};

    for (enum config_section_type other = 0; other < CONFIG_SECTION_TYPES; other++)
        if (find_key(other, name))
            return draft_problem(draft, place, "%s= is a key of [%s], not of [%s]", name,
                config_section_infos[other].type, info->type);
    for (size_t i = 0; i < info->key_count; i++)
        suggest_offer(&suggest, info->keys[i].name);
    if (suggest.nearest)
        return draft_problem(draft, place, "unknown key %s= in [%s]; did you mean %s=?", name,
            info->type, suggest.nearest);
    return draft_problem(draft, place, "unknown key %s= in [%s]", name, info->type);
}

/* Brings the places of a list's items up to date after the list grew or was emptied. */
static int note_items(struct draft_section *section, struct place place, size_t count)
{
    if (count < section->item_count)
        section->item_count = count;
    if (count == section->item_count)
        return 0;
    struct place *items = reallocarray(section->items, count, sizeof items[0]);
    if (!items)
        return -ENOMEM;
    section->items = items;
    while (section->item_count < count)
        items[section->item_count++] = place;
    return 0;
}

static bool is_identity(const struct config_key *key)
{
    return strcmp(key->name, "Host") == 0 || strcmp(key->name, "Address") == 0 ||
           strcmp(key->name, "Server") == 0;
}

/* The empty value: an empty list, or the default. What is inherited is so when all is read. */
static int reset(void *object, const struct config_key *key)
{
    bool empty = key->count_offset > 0 || !key->default_value;

    if (key->inherited)
        return 0;
    return key->set(object, key, empty ? "" : key->default_value, NULL);
}

int draft_assign(struct draft *draft, struct place place, const char *name, const char *value)
{
    struct reason reason = {0};

    if (draft->current == DRAFT_REFUSED_SECTION)
        return 0;
    if (draft->current == DRAFT_NO_SECTION)
        return draft_problem(draft, place, "%s= stands before the first [SECTION]", name);
    struct draft_section *section = &draft->sections[draft->current];
    const struct config_key *key = find_key(section->type, name);
    if (!key)
        return unknown_key(draft, place, section->type, name);
    size_t number = key_number(section->type, key);
    void *object = section_object(draft, section);
    bool first = !section->given[number].source;
    section->given[number] = *value ? place : (struct place){0};
    int r = !*value || (first && key->count_offset > 0) ? reset(object, key) : 0;
    if (r == 0 && *value)
        r = key->set(object, key, value, &reason);
    if (r == -EINVAL) {
        section->wrong |= UINT64_C(1) << number;
        r = draft_problem(draft, place, "%s=%s: %s", name, value, reason.text);
    }
    if (r == 0 && is_identity(key))
        r = note_items(section, place, *config_key_count(key, object));
    return r;
}
