#include "tests/bench/trio.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    pthread_t thread;
    uint32_t id;
    char dir[256], address[32];
    struct trio *trio;
    struct replica *r;
};

static struct place places[TRIO_MEMBERS];
static struct store_member list[TRIO_MEMBERS];

void trio_die(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

/* Ports that nobody has now. */
static void find_ports(void)
{
    int fd[TRIO_MEMBERS];

    for (int i = 0; i < TRIO_MEMBERS; i++) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof in;

        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (fd[i] < 0 || bind(fd[i], (struct sockaddr *)&in, sizeof in) || getsockname(fd[i], (struct sockaddr *)&in, &len))
            trio_die("port", "cannot be found");
        snprintf(places[i].address, sizeof places[i].address, "127.0.0.1:%u", ntohs(in.sin_port));
    }
    for (int i = 0; i < TRIO_MEMBERS; i++)
        close(fd[i]);
}

static void *start_main(void *arg)
{
    struct place *p = arg;
    struct replica_init init = {.dir = p->dir, .member_id = p->id, .members = list, .n_members = TRIO_MEMBERS, .listen = p->address};
    struct replica_options options = {.dir = p->dir, .timeout_ms = 30000, .listen = p->address, .leases_gone = p->trio->leases_gone};
    struct buf why = {0};

    if (replica_init(&init, &why) || replica_start(&options, 0, &p->r, &why))
        trio_die(p->dir, buf_cstr(&why));
    buf_fini(&why);
    return NULL;
}

void trio_start(struct trio *t, const char *dir)
{
    struct replica_status s = {0};

    if (mkdir(dir, 0700))
        trio_die(dir, "cannot be made");
    find_ports();
    for (int i = 0; i < TRIO_MEMBERS; i++) {
        places[i].trio = t;
        places[i].id = (uint32_t)i + 1;
        snprintf(places[i].dir, sizeof places[i].dir, "%s/%d", dir, i + 1);
        list[i] = (struct store_member){.id = places[i].id, .address = places[i].address, .role = STORE_MEMBER_VOTER};
    }
    for (int i = 0; i < TRIO_MEMBERS; i++)
        if (pthread_create(&places[i].thread, NULL, start_main, &places[i]))
            trio_die("thread", "cannot be started");
    for (int i = 0; i < TRIO_MEMBERS; i++) {
        pthread_join(places[i].thread, NULL);
        t->r[i] = places[i].r;
    }
    trio_put(t->r[0], STORE_ROOT_INO, "first", 1, 0);
    replica_status(t->r[0], &s);
    t->leader = t->r[s.leader ? s.leader - 1 : 0];
    t->follower = t->r[s.leader % TRIO_MEMBERS];
}

void trio_stop(struct trio *t)
{
    for (int i = TRIO_MEMBERS - 1; i >= 0; i--)
        replica_stop(t->r[i]);
}

static void answer_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct trio_answer *a = req->data;

    (void)rev;
    pthread_mutex_lock(&a->lock);
    a->err = err;
    a->ino = ino;
    a->done = 1;
    pthread_cond_signal(&a->come);
    pthread_mutex_unlock(&a->lock);
}

void trio_ask(struct trio_answer *a)
{
    *a = (struct trio_answer){.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER, .req = {.data = a, .cb = answer_cb}};
}

uint64_t trio_wait(struct trio_answer *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->come, &a->lock);
    pthread_mutex_unlock(&a->lock);
    if (a->err)
        trio_die("request", qfs_strerror(a->err));
    return a->ino;
}

uint64_t trio_do(struct replica *r, const struct store_op *op)
{
    struct store_command cmd = {.comm = "bench", .ops = op, .n_ops = 1};
    struct trio_answer a;

    trio_ask(&a);
    replica_submit(r, &a.req, &cmd);
    return trio_wait(&a);
}

void trio_put(struct replica *r, uint64_t dir, const char *name, size_t bytes, uint64_t lease)
{
    static char content[1 << 20];
    struct store_edit edits[] = {{.kind = STORE_EDIT_TRUNCATE}, {.kind = STORE_EDIT_WRITE, .bytes = {content, bytes}}};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = dir, .name = {name, strlen(name)}, .mode = 0644, .edits = edits, .n_edits = 2,
                          .valid = lease ? STORE_ATTR_LEASE : 0, .lease = lease};

    while ((op.new_ino = replica_new_ino(r, STORE_FILE)) == 0)
        usleep(1000);
    trio_do(r, &op);
}

uint64_t trio_grant(struct replica *r, const char *name, int64_t ttl_ns)
{
    return trio_do(r, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = {name, strlen(name)}, .rev = ttl_ns});
}

int trio_by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}
