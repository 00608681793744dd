/* Databases of the former format, made into the present one when they are opened for writing: in one transaction, so that a crash leaves one or
 * the other. Whatever is hashed stays as it is: all members go on agreeing, and what a copy was announced to be is still true of it. */
#include "store/convert.h"

#include <stdio.h>

/* Format 2 had tables for leases and locks, with other columns, that nothing filled. What is made here stays as it is when schema.sql changes. */
#define LEASE_OF_3 \
    "lease(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, owner INTEGER NOT NULL, ttl INTEGER NOT NULL, remaining INTEGER NOT NULL, " \
    "renewed INTEGER NOT NULL) STRICT;"
#define LOCK_OF_3 \
    "lock(id INTEGER PRIMARY KEY, class INTEGER NOT NULL, ino INTEGER NOT NULL, name BLOB NOT NULL, session INTEGER NOT NULL, " \
    "owner INTEGER NOT NULL, request INTEGER NOT NULL, exclusive INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, " \
    "token INTEGER NOT NULL, member INTEGER NOT NULL, uid INTEGER NOT NULL, pid INTEGER NOT NULL, comm BLOB NOT NULL, vhash INTEGER NOT NULL, " \
    "value BLOB) STRICT;"
static const char for_readers[] = "PRAGMA temp_store = MEMORY; CREATE TEMP TABLE " LEASE_OF_3 "CREATE TEMP TABLE " LOCK_OF_3;
static const char from_2[] =
    "DROP TABLE lease; DROP TABLE lock;"
    "CREATE TABLE " LEASE_OF_3
    "CREATE TABLE " LOCK_OF_3
    "CREATE INDEX lock_thing ON lock(class, ino, name, id);"
    "CREATE INDEX lock_session ON lock(session, owner, id);"
    "UPDATE meta SET format = 3";

/* A trigger, say, would be run by what is written here. */
static int check_rows(struct conn *c)
{
    int64_t rows = 0;
    int err = conn_pragma(c, "SELECT (SELECT count(*) FROM lease) + (SELECT count(*) FROM lock) + (SELECT count(*) FROM node WHERE lease IS NOT NULL) + "
                             "(SELECT count(*) FROM sqlite_schema WHERE type = 'trigger')", &rows);

    if (err || rows == 0)
        return err;
    snprintf(c->msg, sizeof c->msg, "it is of the former format, and has things in it that format never had");
    return QE_CORRUPT;
}

int convert_for_reader(struct conn *c)
{
    return conn_exec(c, for_readers);
}

int convert(struct conn *c)
{
    int err = conn_exec(c, "BEGIN IMMEDIATE");

    if (!err)
        err = check_rows(c);
    if (!err)
        err = conn_exec(c, from_2);
    if (!err)
        err = conn_exec(c, "COMMIT");
    if (err && !sqlite3_get_autocommit(c->db))
        (void)sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL); /* the message stays */
    return err;
}
