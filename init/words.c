#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>

#include "words.h"

/* Each with a NUL behind it. */
static char said[LARGEST], *said_end = said;
static int64_t said_count;

struct value words_of(const char *document)
{
    struct value name, found, words = {NULL, NULL};
    for (const char *at = document; next(at, &name, &found); at = found.end) {
        if (!is(name, "\"args\""))
            continue;
        if (words.at || *found.at != '[') /* the last one counts in JSON */
            python();
        words = found;
    }
    return words;
}

/* A string of JSON as it is meant, with a NUL behind it; where that ends.  What is beyond ASCII is for Python. */
static char *meant(char *to, struct value string)
{
    static const char escaped[] = "\"\"\\\\//b\bf\fn\nr\rt\t", digits[] = "0123456789abcdef";
    if (*string.at != '"')
        python();
    for (const char *at = string.at + 1; at < string.end - 1; at++) {
        unsigned char letter = (unsigned char)*at;
        if (letter < ' ' || letter > '~' + 1)
            python();
        if (letter == '\\' && *++at == 'u') {
            const char *high, *low;
            if (string.end - at < 6 || at[1] != '0' || at[2] != '0' || at[3] > '7' || !(high = strchr(digits, at[3])) ||
                !(low = strchr(digits, at[4] | ' ')))
                python();
            letter = (unsigned char)((high - digits) << 4 | (low - digits));
            at += 4;
        } else if (letter == '\\') {
            const char *pair = escaped;
            while (*pair && *pair != *at)
                pair += 2;
            letter = *pair ? (unsigned char)pair[1] : 0;
        }
        if (!letter)
            python();
        *to++ = (char)letter;
    }
    *to++ = 0;
    return to;
}

void hear_document(struct value words)
{
    for (const char *at = words.at; *at != ']'; said_count++) {
        struct value word = {at + 1, past(at + 1)};
        said_end = meant(said_end, word);
        at = word.end;
    }
}

void hear_program(char **program)
{
    for (; *program; program++, said_count++) {
        if (strlen(*program) >= (size_t)(said + sizeof said - said_end))
            python();
        said_end = stpcpy(said_end, *program) + 1;
    }
}

/* The strings of what is executed are the paths where the program may be, then its words, then all else (plan/program.py). */
char *put_words(char *to, const struct header *plan, struct record *execute)
{
    char *begin = to;
    const char *path = (const char *)plan + execute->data, *limit = path + execute->length, *name = path, *rest;
    if (!*said || execute->n1 < 1 || execute->n1 > PATHS || execute->n2 < 1 || execute->length > MOST_STRINGS)
        return NULL;
    for (int64_t index = 0; index < execute->n1; index++, name++)
        if (!(name = memchr(name, 0, (size_t)(limit - name))))
            return NULL;
    rest = name;
    for (int64_t index = 0; index < execute->n2; index++, rest++)
        if (!(rest = memchr(rest, 0, (size_t)(limit - rest))))
            return NULL;
    if (!strchr(said, '/') != !strchr(name, '/')) /* the one is looked for, the other not */
        return NULL;
    for (; path < name; path += strlen(path) + 1) {
        if (strlen(path) < strlen(name))
            return NULL;
        size_t above = strlen(path) - strlen(name);
        memcpy(to, path, above);
        to = stpcpy(to + above, said) + 1;
    }
    memcpy(to, said, (size_t)(said_end - said));
    to += said_end - said;
    memcpy(to, rest, (size_t)(limit - rest));
    to += limit - rest;
    execute->data = (uint32_t)(begin - (const char *)plan);
    execute->length = (uint32_t)(to - begin);
    execute->n2 = said_count;
    return to;
}
