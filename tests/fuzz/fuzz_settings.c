/* Cluster settings as users write them: any text is taken or refused with a sentence, and what is taken is taken again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "tests/fuzz/fuzz.h"

static const char *const seeds[] = {
    "quota=2G", "max-value=1M", "retain=revisions:100000,bytes:2G", "retain=time:24h", "session-ttl=10s", "heartbeat=100ms",
    "election-timeout=1000ms", "quota=18446744073709551616", "quota=-1", "nothing=1",
};

size_t fuzz_seed(size_t i, uint8_t *out, size_t max)
{
    if (i >= sizeof seeds / sizeof *seeds)
        return 0;
    return (size_t)snprintf((char *)out, max, "%s", seeds[i]);
}

static void check(const char *name, const char *value)
{
    struct buf canonical = {0}, again = {0}, why = {0};
    int err = store_setting_check(name, value, &canonical, &why);

    if (err && !why.len)
        abort(); /* a refusal says why */
    if (!err && store_setting_check(name, buf_cstr(&canonical), &again, NULL))
        abort(); /* the canonical text is a value */
    if (!err && strcmp(buf_cstr(&canonical), buf_cstr(&again)))
        abort(); /* and canonical */
    buf_fini(&canonical);
    buf_fini(&again);
    buf_fini(&why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[4097], *value;
    const struct store_setting_def *defs;
    size_t n;

    size = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy(text, data, size);
    text[size] = 0;
    value = strchr(text, '=');
    if (!value)
        return 0;
    *value++ = 0;
    check(text, value);
    defs = store_setting_defs(&n);
    for (size_t i = 0; i < n; i++)
        check(defs[i].name, value);
    return 0;
}
