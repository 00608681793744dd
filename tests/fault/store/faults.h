/* Failures on demand: the n-th allocation (the store's or SQLite's) or the n-th operation on a file fails. */
#ifndef QFS_TESTS_FAULTS_H
#define QFS_TESTS_FAULTS_H

#include <stdbool.h>

enum fault_kind {
    FAULT_ALLOC,  /* malloc, calloc, realloc of the store; SQLite's memory */
    FAULT_IO,     /* read, write, sync, truncate, open: I/O error */
    FAULT_FULL,   /* write: no room */
};

void faults_install(void); /* before anything else uses SQLite */
/* From now on the n-th operation of that kind fails, and all after it when `lasting`. */
void faults_arm(enum fault_kind kind, long n, bool lasting);
/* No more failures. True when one has happened since faults_arm. */
bool faults_disarm(void);
/* How many operations of that kind there were since it was armed. */
long faults_met(void);

#endif
