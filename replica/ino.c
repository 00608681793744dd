#include "replica/ino.h"

#include "replica/member.h"
#include "store/base/log.h"

void ino_init(struct replica *r)
{
    pthread_mutex_init(&r->ino.lock, NULL);
}

void ino_fini(struct replica *r)
{
    pthread_mutex_destroy(&r->ino.lock);
}

static const struct store_op reserve_op = {.kind = STORE_OP_RESERVE};
static const struct store_command reserve = {.comm = "quorumfs", .ops = &reserve_op, .n_ops = 1};

/* Under the lock: a block moves up when the one in use is empty. True: there is room for another. */
static bool shift(struct ino *n)
{
    if (n->next[0] == n->end[0]) {
        n->next[0] = n->next[1];
        n->end[0] = n->end[1];
        n->next[1] = n->end[1] = 0;
    }
    return n->next[1] == n->end[1];
}

static void put_block(struct ino *n, uint64_t first)
{
    int i = n->next[0] == n->end[0] ? 0 : 1;

    n->next[i] = first;
    n->end[i] = first + STORE_INO_BLOCK;
}

static void ask(struct replica *r);

/* The first block is enough to serve; the others follow. After an error the next number that is taken asks again. */
static void reserved_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct replica *r = req->data;
    bool more;

    (void)rev;
    pthread_mutex_lock(&r->ino.lock);
    if (!err)
        put_block(&r->ino, ino);
    more = !err && shift(&r->ino);
    r->ino.asking = more;
    pthread_mutex_unlock(&r->ino.lock);
    if (err && err != QE_SHUTDOWN)
        log_warn("replica", "cannot reserve inode numbers: %s", qfs_strerror(err));
    if (more)
        ask(r);
    serve_note(r, err);
}

static void ask(struct replica *r)
{
    r->ino.req.data = r;
    r->ino.req.cb = reserved_cb;
    submit_internal(r, &r->ino.req, &reserve);
}

uint64_t replica_new_ino(struct replica *r, enum store_kind kind)
{
    struct ino *n = &r->ino;
    uint64_t ino = 0;
    bool more;

    pthread_mutex_lock(&n->lock);
    more = shift(n) && !n->asking;
    if (n->next[0] != n->end[0])
        ino = n->next[0]++ * 4 + (uint64_t)kind;
    n->asking = n->asking || more;
    pthread_mutex_unlock(&n->lock);
    if (more)
        ask(r);
    return ino;
}

void ino_want(struct replica *r)
{
    bool more;

    pthread_mutex_lock(&r->ino.lock);
    more = !r->ino.asking;
    r->ino.asking = true;
    pthread_mutex_unlock(&r->ino.lock);
    if (more)
        ask(r);
}
