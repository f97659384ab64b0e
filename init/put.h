/* Text that is put together in a buffer, whose room the caller knows; each returns where it ends.  Without stdio(3), which is larger
 * than all that these programs say. */
#ifndef DOLIUM_PUT_H
#define DOLIUM_PUT_H

#include <stdint.h>

static char *put(char *at, const char *text)
{
    while (*text)
        *at++ = *text++;
    return at;
}

/* A number in decimal, with zeros before it up to that width. */
static char *put_number(char *at, uint64_t number, int width)
{
    char digits[20];
    int count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    for (; width > count; width--)
        *at++ = '0';
    while (count)
        *at++ = digits[--count];
    return at;
}

#endif
