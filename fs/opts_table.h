/* The table of the member settings; private to opts.c, which owns it, and opts_load.c, which fills it in. */
#ifndef QFS_FS_OPTS_TABLE_H
#define QFS_FS_OPTS_TABLE_H

#include "fs/opts.h"
#include "store/store.h"

struct opts_row {
    const char *name;
    const char *initial; /* the default, as text */
    const char *allowed; /* for messages and --help */
    const char *help;    /* what it is for */
    int (*set)(struct fs_options *o, const char *value);      /* 0, QE_INVAL, QE_NOTBUILT, QE_NOMEM */
    int (*show)(const struct fs_options *o, struct buf *out); /* NULL: is not shown */
};
const struct opts_row *opts__rows(size_t *n);
const struct opts_row *opts__row(const char *name);                     /* NULL: no member setting */
const struct store_setting_def *opts__cluster_row(const char *name);    /* NULL: no cluster setting */

#endif
