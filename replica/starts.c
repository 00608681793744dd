#include "replica/starts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "replica/dir.h"
#include "replica/segment.h"
#include "store/base/err.h"

enum { FILE_MAX = 64 + STARTS_UNFIT_SIZE + STARTS_MAX * 64 };

static int save(const struct starts *s, const struct dir *d, struct buf *why)
{
    struct buf text = {0};
    int err = buf_printf(&text, "own %" PRIu64 " %" PRIu64 "\n", s->incarnation, s->run);

    if (!err && s->unfit[0])
        err = buf_printf(&text, "unfit %s\n", s->unfit);
    for (unsigned i = 0; i < s->n_seen && !err; i++)
        err = buf_printf(&text, "member %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", s->seen[i].id, s->seen[i].incarnation, s->seen[i].run);
    if (!err)
        err = buf_printf(&text, "crc %08" PRIx32 "\n", segment_crc32(text.data, text.len, 0));
    if (!err)
        err = dir_write_file(d->raft, "starts", text.data, text.len, why);
    buf_fini(&text);
    return err;
}

static void remember(struct starts *s, uint32_t id, uint64_t incarnation, uint64_t run)
{
    unsigned at = 0;

    while (at < s->n_seen && s->seen[at].id != id)
        at++;
    if (at == s->n_seen && s->n_seen == STARTS_MAX) {
        memmove(s->seen, s->seen + 1, --s->n_seen * sizeof s->seen[0]);
        at--;
    }
    if (at == s->n_seen)
        s->n_seen++;
    s->seen[at] = (struct start_seen){id, incarnation, run};
}

static int parse(struct starts *s, const char *text)
{
    const char *at = text;
    uint64_t incarnation, run;
    uint32_t id, crc;
    int len = 0;

    if (sscanf(at, "own %" SCNu64 " %" SCNu64 "\n%n", &s->incarnation, &s->run, &len) != 2 || len == 0)
        return QE_CORRUPT;
    at += len;
    len = 0;
    if (sscanf(at, "unfit %199[^\n]\n%n", s->unfit, &len) == 1 && len == 0)
        return QE_CORRUPT;
    for (at += len; sscanf(at, "member %" SCNu32 " %" SCNu64 " %" SCNu64 "\n%n", &id, &incarnation, &run, &len) == 3; at += len) {
        if (s->n_seen == STARTS_MAX)
            return QE_CORRUPT;
        remember(s, id, incarnation, run);
    }
    len = 0;
    if (sscanf(at, "crc %8" SCNx32 "\n%n", &crc, &len) != 1 || len == 0 || at[len] || segment_crc32(text, (size_t)(at - text), 0) != crc)
        return QE_CORRUPT;
    return 0;
}

int starts_begin(struct starts *s, const struct dir *d, struct buf *why)
{
    struct buf text = {0};
    int err = dir_read_file(d->raft, "starts", FILE_MAX, &text);

    memset(s, 0, sizeof *s);
    if (!err)
        err = parse(s, buf_cstr(&text));
    else if (err == QE_NOENT)
        err = 0;
    buf_fini(&text);
    if (err) {
        buf_printf(why, "\"%s/starts\" %s", d->raft,
                   err == QE_CORRUPT || err == QE_RANGE ? "is damaged: " DIR_REMEDY : "cannot be read");
        return err == QE_RANGE ? QE_CORRUPT : err;
    }
    if (s->unfit[0]) {
        buf_printf(why, "\"%s\" must not be served any more: %s; remove this member from the cluster, and join with an empty directory", d->path,
                   s->unfit);
        return QE_STALE;
    }
    s->incarnation++;
    if (getrandom(&s->run, sizeof s->run, 0) != sizeof s->run || s->run == 0)
        s->run = 1;
    return save(s, d, why);
}

int starts_unfit(struct starts *s, const struct dir *d, const char *why)
{
    struct buf ignored = {0};
    int err;

    snprintf(s->unfit, sizeof s->unfit, "%s", *why ? why : "the others refuse it");
    err = save(s, d, &ignored);
    buf_fini(&ignored);
    return err;
}

void starts_seen(const struct starts *s, uint32_t id, uint64_t *incarnation, uint64_t *run)
{
    *incarnation = *run = 0;
    for (unsigned i = 0; i < s->n_seen; i++) {
        if (s->seen[i].id == id) {
            *incarnation = s->seen[i].incarnation;
            *run = s->seen[i].run;
        }
    }
}

int starts_saw(struct starts *s, const struct dir *d, uint32_t id, uint64_t incarnation, uint64_t run)
{
    struct buf why = {0};
    int err;

    remember(s, id, incarnation, run);
    err = save(s, d, &why);
    buf_fini(&why);
    return err;
}
