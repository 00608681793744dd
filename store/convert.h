/* From the former format to the present one. */
#ifndef QFS_STORE_CONVERT_H
#define QFS_STORE_CONVERT_H

#include "store/db.h"

enum { STORE_FORMAT_FORMER = 2 };

int convert(struct conn *c); /* a connection that may write, of a database of the former format */
/* Of a connection that shall only read: it sees the present tables, as empty as they would be. For store_check, before the member is started. */
int convert_for_reader(struct conn *c);

#endif
