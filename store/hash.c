/* The state hash: the sum, modulo 2^64, of a hash of each replicated row, so that a change costs two row hashes. Only what is the
 * same on every member goes in: no jump pointers, nothing that depends on when this member compacted. */
#include <string.h>
#include <xxhash.h>

#include "store/lock.h"

enum { PACK_WORDS = 20 };

struct pack {
    uint8_t bytes[PACK_WORDS * 8 + STORE_NAME_MAX];
    size_t len;
};

static void pack_u(struct pack *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p->bytes[p->len++] = (uint8_t)(v >> (8 * i));
}

static void pack_i(struct pack *p, int64_t v)
{
    pack_u(p, (uint64_t)v);
}

uint64_t hash_node(const struct node *n)
{
    struct pack p = {.len = 0};

    pack_u(&p, 'N');
    pack_u(&p, n->ino);
    pack_u(&p, n->parent);
    pack_i(&p, n->born);
    pack_u(&p, (uint64_t)n->mode << 32 | n->nlink);
    pack_u(&p, (uint64_t)n->uid << 32 | n->gid);
    pack_i(&p, n->mtime);
    pack_i(&p, n->ctime);
    pack_i(&p, n->size);
    pack_i(&p, n->create_rev);
    pack_i(&p, n->version);
    pack_i(&p, n->seq);
    pack_i(&p, n->vseq);
    pack_u(&p, n->chash);
    pack_i(&p, n->entries);
    pack_u(&p, n->xattr.len ? XXH3_64bits(n->xattr.data, n->xattr.len) : 0);
    if (n->lease) /* else as it was before there were leases */
        pack_u(&p, n->lease);
    memcpy(p.bytes + p.len, n->name, n->name_len);
    return XXH3_64bits(p.bytes, p.len + n->name_len);
}

uint64_t hash_session(const struct session *ss)
{
    struct pack p = {.len = 0};

    pack_u(&p, 'S');
    pack_u(&p, ss->id);
    pack_u(&p, ss->member);
    pack_u(&p, ss->nonce);
    pack_u(&p, ss->last_seq);
    pack_u(&p, ss->acked);
    return XXH3_64bits(p.bytes, p.len);
}

uint64_t hash_result(uint64_t session, const struct kept_result *r)
{
    struct pack p = {.len = 0};

    pack_u(&p, 'R');
    pack_u(&p, session);
    pack_u(&p, r->seq);
    pack_i(&p, r->err);
    pack_i(&p, r->rev);
    pack_u(&p, r->ino);
    return XXH3_64bits(p.bytes, p.len);
}

uint64_t hash_stage(uint64_t session, uint64_t id, int64_t part, uint64_t data)
{
    struct pack p = {.len = 0};

    pack_u(&p, 'T');
    pack_u(&p, session);
    pack_u(&p, id);
    pack_i(&p, part);
    pack_u(&p, data);
    return XXH3_64bits(p.bytes, p.len);
}

uint64_t hash_bookmark(struct store_bytes name, const struct store_bookmark *b)
{
    struct pack p = {.len = 0};

    pack_u(&p, 'B');
    pack_u(&p, b->owner);
    pack_i(&p, b->rev);
    memcpy(p.bytes + p.len, name.data, name.len);
    return XXH3_64bits(p.bytes, p.len + name.len);
}

uint64_t hash_setting(const char *name, const char *value)
{
    uint64_t h = XXH3_64bits(name, strlen(name));

    return XXH3_64bits_withSeed(value, strlen(value), h);
}

uint64_t hash_member(const struct store_member *m)
{
    struct pack p = {.len = 0};

    pack_u(&p, 'M');
    pack_u(&p, m->id);
    pack_u(&p, m->role);
    pack_u(&p, m->nonce);
    return XXH3_64bits_withSeed(m->address, strlen(m->address), XXH3_64bits(p.bytes, p.len));
}

uint64_t hash_lease(const struct store_lease *l)
{
    struct pack p = {.len = 0};

    pack_u(&p, 'L');
    pack_u(&p, l->id);
    pack_u(&p, l->owner);
    pack_i(&p, l->ttl_ns);
    pack_i(&p, l->left_ns);
    pack_u(&p, l->renewed);
    return XXH3_64bits_withSeed(l->name, strlen(l->name), XXH3_64bits(p.bytes, p.len));
}

uint64_t hash_lock(const struct lock_thing *th, const struct lock_row *r)
{
    struct pack p = {.len = 0};

    pack_u(&p, 'K');
    pack_i(&p, r->id);
    pack_u(&p, th->class);
    pack_u(&p, th->ino);
    pack_u(&p, r->session);
    pack_u(&p, r->owner);
    pack_u(&p, r->request);
    pack_u(&p, r->exclusive);
    pack_i(&p, r->first);
    pack_i(&p, r->last);
    pack_i(&p, r->token);
    pack_u(&p, (uint64_t)r->member << 32 | r->uid);
    pack_u(&p, (uint32_t)r->pid);
    pack_u(&p, r->vhash);
    memcpy(p.bytes + p.len, r->comm, sizeof r->comm);
    p.len += sizeof r->comm;
    return XXH3_64bits_withSeed(th->name.len ? th->name.data : "", th->name.len, XXH3_64bits(p.bytes, p.len));
}

uint64_t hash_content(const void *data, size_t len)
{
    return len ? XXH3_64bits(data, len) : 0;
}

uint64_t hash_state(const struct state *st)
{
    struct pack p = {.len = 0};

    pack_u(&p, st->hash);
    pack_i(&p, st->rev);
    pack_i(&p, st->time);
    pack_i(&p, st->compacted);
    pack_i(&p, st->next_ino);
    pack_i(&p, st->next_member);
    pack_i(&p, st->live_bytes);
    pack_i(&p, st->n_files);
    pack_i(&p, st->n_dirs);
    pack_i(&p, st->n_symlinks);
    pack_i(&p, st->hist_total);
    pack_i(&p, st->hist_base);
    return XXH3_64bits(p.bytes, p.len);
}
