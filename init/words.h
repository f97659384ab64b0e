/* The words of a program: read by dolium-verbs where they are asked for, put into a plan. */
#ifndef DOLIUM_WORDS_H
#define DOLIUM_WORDS_H

#include "verbs.h"
#include "wire.h"

#define PATHS 64 /* where a program may be */
#define MOST_STRINGS (1u << 20) /* bytes of paths, words and environment */
#define MOST_WORDS (2 * MOST_STRINGS + (PATHS + 2) * LARGEST) /* bytes that put_words may take */

/* Of a process in JSON, as they are written in its document; or none. */
struct value words_of(const char *document);

/* What is to be put. */
void hear_document(struct value words);
void hear_program(char **program);

/* What was heard takes the place of the words in a plan; at `to`, where there is room for it.  Where it ends; NULL where it cannot be. */
char *put_words(char *to, const struct header *plan, struct record *execute);

#endif
