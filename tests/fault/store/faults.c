#include "tests/fault/store/faults.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    bool armed, lasting, fired;
    enum fault_kind kind;
    long left; /* operations until the one that fails */
    long met;
} fault;

void faults_arm(enum fault_kind kind, long n, bool lasting)
{
    fault.kind = kind;
    fault.left = n;
    fault.lasting = lasting;
    fault.met = 0;
    fault.fired = false;
    fault.armed = true;
}

bool faults_disarm(void)
{
    fault.armed = false;
    return fault.fired;
}

long faults_met(void)
{
    return fault.met;
}

static bool fails(enum fault_kind kind)
{
    if (!fault.armed || fault.kind != kind)
        return false;
    fault.met++;
    if (fault.left > 1) {
        fault.left--;
        return false;
    }
    if (fault.fired && !fault.lasting)
        return false;
    return fault.fired = true;
}

/* ---- Memory: the linker sends the store's calls here ---------------------------------------------------------------------- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_malloc(size_t size)
{
    return fails(FAULT_ALLOC) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails(FAULT_ALLOC) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails(FAULT_ALLOC) ? NULL : __real_realloc(p, size);
}

static sqlite3_mem_methods real_mem;

static void *mem_malloc(int size)
{
    return fails(FAULT_ALLOC) ? NULL : real_mem.xMalloc(size);
}

static void *mem_realloc(void *p, int size)
{
    return fails(FAULT_ALLOC) ? NULL : real_mem.xRealloc(p, size);
}

/* ---- Files: a VFS over the real one --------------------------------------------------------------------------------------- */

struct file {
    sqlite3_file base;
    sqlite3_file *real; /* behind this struct */
};

static sqlite3_vfs *real_vfs;
static sqlite3_vfs shim;

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct file *)f)->real;
}

#define FORWARD(name, params, args) \
    static int file_##name params { return real_of(f)->pMethods->x##name args; }
FORWARD(FileSize, (sqlite3_file * f, sqlite3_int64 *size), (real_of(f), size))
FORWARD(Lock, (sqlite3_file * f, int lock), (real_of(f), lock))
FORWARD(Unlock, (sqlite3_file * f, int lock), (real_of(f), lock))
FORWARD(CheckReservedLock, (sqlite3_file * f, int *out), (real_of(f), out))
FORWARD(FileControl, (sqlite3_file * f, int op, void *arg), (real_of(f), op, arg))
FORWARD(SectorSize, (sqlite3_file * f), (real_of(f)))
FORWARD(DeviceCharacteristics, (sqlite3_file * f), (real_of(f)))
FORWARD(ShmMap, (sqlite3_file * f, int page, int size, int extend, void volatile **out), (real_of(f), page, size, extend, out))
FORWARD(ShmLock, (sqlite3_file * f, int offset, int n, int flags), (real_of(f), offset, n, flags))
FORWARD(ShmUnmap, (sqlite3_file * f, int delete), (real_of(f), delete))
FORWARD(Fetch, (sqlite3_file * f, sqlite3_int64 off, int n, void **out), (real_of(f), off, n, out))
FORWARD(Unfetch, (sqlite3_file * f, sqlite3_int64 off, void *p), (real_of(f), off, p))

static void file_ShmBarrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int file_Close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int file_Read(sqlite3_file *f, void *p, int n, sqlite3_int64 off)
{
    return fails(FAULT_IO) ? SQLITE_IOERR_READ : real_of(f)->pMethods->xRead(real_of(f), p, n, off);
}

static int file_Write(sqlite3_file *f, const void *p, int n, sqlite3_int64 off)
{
    if (fails(FAULT_FULL))
        return SQLITE_FULL;
    if (fails(FAULT_IO)) { /* a torn write: half of it arrives */
        (void)real_of(f)->pMethods->xWrite(real_of(f), p, n / 2, off);
        return SQLITE_IOERR_WRITE;
    }
    return real_of(f)->pMethods->xWrite(real_of(f), p, n, off);
}

static int file_Truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return fails(FAULT_IO) ? SQLITE_IOERR_TRUNCATE : real_of(f)->pMethods->xTruncate(real_of(f), size);
}

/* Nothing here survives the machine, so nothing need reach the disk. */
static int file_Sync(sqlite3_file *f, int flags)
{
    (void)f, (void)flags;
    return fails(FAULT_IO) ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static const sqlite3_io_methods methods = {
    3, file_Close, file_Read, file_Write, file_Truncate, file_Sync, file_FileSize, file_Lock, file_Unlock, file_CheckReservedLock,
    file_FileControl, file_SectorSize, file_DeviceCharacteristics, file_ShmMap, file_ShmLock, file_ShmBarrier, file_ShmUnmap, file_Fetch, file_Unfetch,
};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out)
{
    struct file *file = (struct file *)f;
    int rc;

    (void)vfs;
    file->base.pMethods = NULL;
    file->real = (sqlite3_file *)(file + 1);
    if (fails(FAULT_IO))
        return SQLITE_CANTOPEN;
    rc = real_vfs->xOpen(real_vfs, name, file->real, flags, out);
    if (rc == SQLITE_OK)
        file->base.pMethods = &methods;
    return rc;
}

static void must(int rc)
{
    if (rc == SQLITE_OK)
        return;
    fprintf(stderr, "faults: SQLite cannot be prepared: %d\n", rc);
    exit(1);
}

void faults_install(void)
{
    sqlite3_mem_methods mine;

    must(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_mem));
    if (!real_mem.xMalloc) { /* known after a first start only */
        must(sqlite3_initialize());
        must(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_mem));
        must(sqlite3_shutdown());
    }
    mine = real_mem;
    mine.xMalloc = mem_malloc;
    mine.xRealloc = mem_realloc;
    must(sqlite3_config(SQLITE_CONFIG_MALLOC, &mine));
    must(sqlite3_initialize());
    real_vfs = sqlite3_vfs_find("unix-excl"); /* which the store asks for */
    shim = *real_vfs;
    shim.pNext = NULL;
    shim.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
    shim.xOpen = shim_open;
    must(sqlite3_vfs_register(&shim, 1)); /* in front of the one of the same name */
}
