#include "fs/control/at_name.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A number in canonical form, to the end of the text. */
static bool parse_number(const char *text, int64_t *out)
{
    size_t len = strspn(text, "0123456789");

    if (len == 0 || len > 18 || text[len] || (text[0] == '0' && len > 1))
        return false;
    *out = strtoll(text, NULL, 10);
    return true;
}

/* Exactly `digits` digits; moves on. */
static bool take(const char **p, int digits, int lo, int hi, int *out)
{
    int v = 0;

    for (int i = 0; i < digits; i++, (*p)++) {
        if (!isdigit((unsigned char)**p))
            return false;
        v = v * 10 + (**p - '0');
    }
    *out = v;
    return v >= lo && v <= hi;
}

static bool take_char(const char **p, char c)
{
    if (**p != c)
        return false;
    ++*p;
    return true;
}

/* ".123456789" behind the seconds, up to nine digits. */
static bool take_fraction(const char **p, int64_t *ns)
{
    int64_t unit = 100000000;

    *ns = 0;
    if (!take_char(p, '.'))
        return true;
    if (!isdigit((unsigned char)**p))
        return false;
    for (; isdigit((unsigned char)**p); ++*p, unit /= 10)
        *ns += (**p - '0') * unit;
    return true;
}

static bool parse_time(const char *p, int64_t *out)
{
    struct tm tm = {0}, back;
    int64_t ns = 0;
    time_t t;

    if (!take(&p, 4, 1970, 2200, &tm.tm_year) || !take_char(&p, '-') || !take(&p, 2, 1, 12, &tm.tm_mon) || !take_char(&p, '-') ||
        !take(&p, 2, 1, 31, &tm.tm_mday))
        return false;
    if (*p) {
        if (!take_char(&p, 'T') || !take(&p, 2, 0, 23, &tm.tm_hour) || !take_char(&p, ':') || !take(&p, 2, 0, 59, &tm.tm_min))
            return false;
        if (*p == ':' && (++p, !take(&p, 2, 0, 59, &tm.tm_sec) || !take_fraction(&p, &ns)))
            return false;
        if (!take_char(&p, 'Z') || *p)
            return false;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    back = tm;
    t = timegm(&back); /* moves days that a month does not have */
    *out = (int64_t)t * 1000000000 + ns;
    return back.tm_mon == tm.tm_mon && back.tm_mday == tm.tm_mday;
}

enum at_kind at_name_parse(const char *name, int64_t *value)
{
    if (parse_number(name, value))
        return AT_REVISION;
    if (!strncmp(name, "head-", 5))
        return parse_number(name + 5, value) ? AT_HEAD : AT_NOTHING;
    return parse_time(name, value) ? AT_TIME : AT_NOTHING;
}
