/* status, status.json, revision, hash, health: what this member knows of itself. None of them asks another member. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control/tree.h"
#include "store/base/clock.h"

enum {
    QUOTA_NEARLY_PERCENT = 90,          /* health speaks up above it */
    DISK_LOW_BYTES = 256 * 1024 * 1024, /* and below it: writes go on until much less is free */
    FIELDS_MAX = 24,
    HEARD_BY_S = 5,                     /* after the start; each member tells how it is once a second */
};

struct status_field {
    const char *name;
    const char *text; /* NULL: a number */
    int64_t number;
};

void control__facts(struct fs *fs, struct control_facts *out)
{
    replica_status(fs->replica, &out->status);
    replica_glance(fs->replica, &out->glance);
    for (size_t i = 0; i < STORE_CLUSTER_ID_SIZE; i++)
        snprintf(out->cluster + 2 * i, 3, "%02x", out->status.cluster_id[i]);
    out->uptime_s = (clock_boottime_ns() - fs->started_ns) / 1000000000;
    out->failed_commits = atomic_load(&fs->failed_commits);
}

/* The fields of status, in their order. */
static size_t status_fields(const struct control_facts *f, struct status_field out[FIELDS_MAX])
{
    const struct replica_status *s = &f->status;
    const struct store_glance *g = &f->glance;
    const struct status_field fields[] = {
        {"version", QFS_VERSION, 0},
        {"cluster", f->cluster, 0},
        {"member", NULL, s->member},
        {"role", s->role, 0},
        {"leader", NULL, s->leader},
        {"term", NULL, (int64_t)s->term},
        {"revision", NULL, g->rev},
        {"compacted", NULL, g->compacted},
        {"applied", NULL, (int64_t)s->applied},
        {"commit", NULL, (int64_t)s->commit},
        {"members", NULL, s->n_members},
        {"voters", NULL, s->n_voters},
        {"leases", NULL, g->n_leases},
        {"locks", NULL, g->n_locks},
        {"files", NULL, g->n_files},
        {"bytes", NULL, g->live_bytes},
        {"quota", NULL, g->quota},
        {"history_bytes", NULL, g->hist_bytes},
        {"alarm", s->alarm[0] ? s->alarm : "none", 0},
        {"failed_commits", NULL, (int64_t)f->failed_commits},
        {"uptime", NULL, f->uptime_s},
    };
    _Static_assert(sizeof fields / sizeof *fields <= FIELDS_MAX, "FIELDS_MAX is too small");

    memcpy(out, fields, sizeof fields);
    return sizeof fields / sizeof *fields;
}

int control__read_status(struct fs *fs, const char *child, struct buf *out)
{
    struct control_facts facts;
    struct status_field fields[FIELDS_MAX];
    size_t n;
    int err = 0;

    (void)child;
    control__facts(fs, &facts);
    n = status_fields(&facts, fields);
    for (size_t i = 0; i < n && !err; i++) {
        if (fields[i].text)
            err = buf_printf(out, "%s: %s\n", fields[i].name, fields[i].text);
        else
            err = buf_printf(out, "%s: %" PRId64 "\n", fields[i].name, fields[i].number);
    }
    return err;
}

int control__read_status_json(struct fs *fs, const char *child, struct buf *out)
{
    struct control_facts facts;
    struct status_field fields[FIELDS_MAX];
    struct json_object *all = json_object_new_object(), *value;
    size_t n;
    int err = all ? 0 : QE_NOMEM;

    (void)child;
    control__facts(fs, &facts);
    n = status_fields(&facts, fields);
    for (size_t i = 0; i < n && !err; i++) {
        value = fields[i].text ? json_object_new_string(fields[i].text) : json_object_new_int64(fields[i].number);
        if (!value || json_object_object_add(all, fields[i].name, value)) {
            json_object_put(value);
            err = QE_NOMEM;
        }
    }
    if (!err)
        err = buf_printf(out, "%s\n", json_object_to_json_string_ext(all, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                                             JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(all);
    return err;
}

/* Linearizable when it is opened (the row says so). */
int control__read_revision(struct fs *fs, const char *child, struct buf *out)
{
    struct store_glance g;

    (void)child;
    replica_glance(fs->replica, &g);
    return buf_printf(out, "%" PRId64 "\n", g.rev);
}

int control__read_hash(struct fs *fs, const char *child, struct buf *out)
{
    int64_t rev;
    uint64_t hash;
    int err = store_hash(fs->reader, &rev, &hash);

    (void)child;
    return err ? err : buf_printf(out, "%" PRId64 " %016" PRIx64 "\n", rev, hash);
}

/* What is wrong with the members, as far as this one knows. Just after the start it has not heard of the others. */
static void members_health(struct fs *fs, const struct control_facts *f, struct buf *out)
{
    struct replica_member *all;
    size_t n;

    if (f->status.n_voters && f->status.n_voters % 2 == 0)
        buf_printf(out, "%" PRIu32 " voters tolerate no more failures than %" PRIu32 ": an odd number is better\n", f->status.n_voters,
                   f->status.n_voters - 1);
    if (f->status.n_members > 1 && !*fs->opt->listen)
        buf_printf(out, "this member has no network: its setting listen is empty\n");
    if (replica_members(fs->replica, &all, &n))
        return;
    for (size_t i = 0; i < n; i++) {
        if (all[i].id == f->status.member && strcmp(all[i].state, "ok") != 0)
            buf_printf(out, "this member is %s: it lacks %" PRIu64 " log entries\n", all[i].state, all[i].lag);
        else if (!strcmp(all[i].state, "unreachable") && f->uptime_s >= HEARD_BY_S)
            buf_printf(out, "member %" PRIu32 " is unreachable at \"%s\"\n", all[i].id, all[i].address);
    }
    free(all);
}

/* `ok`, or a line for each trouble. */
int control__read_health(struct fs *fs, const char *child, struct buf *out)
{
    struct control_facts f;
    int err;

    (void)child;
    control__facts(fs, &f);
    if (f.status.alarm[0])
        buf_printf(out, "%s\n", f.status.alarm);
    if (!f.status.leader)
        buf_printf(out, "no leader is known\n");
    members_health(fs, &f, out);
    err = replica_writable(fs->replica);
    if (err && !f.status.alarm[0])
        buf_printf(out, "writes are refused: %s\n", qfs_strerror(err));
    if (f.status.free_bytes >= 0 && f.status.free_bytes < DISK_LOW_BYTES)
        buf_printf(out, "the disk of the data directory is low: %" PRId64 " bytes are free\n", f.status.free_bytes);
    if (f.glance.live_bytes / QUOTA_NEARLY_PERCENT >= f.glance.quota / 100)
        buf_printf(out, "the quota is nearly used up: %" PRId64 " of %" PRId64 " bytes\n", f.glance.live_bytes, f.glance.quota);
    return out->len ? 0 : buf_printf(out, "ok\n");
}
