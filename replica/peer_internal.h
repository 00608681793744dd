/* peer_internal: what the files peer*.c share; nobody else includes this. */
#ifndef QFS_REPLICA_PEER_INTERNAL_H
#define QFS_REPLICA_PEER_INTERNAL_H

#include "replica/link.h"
#include "replica/peer.h"

enum {
    PEER_GREETING_MS = 3000,      /* to connect, and again to be greeted */
    PEER_BACKOFF_MIN_MS = 50,     /* before the second attempt; doubled each time */
    PEER_BACKOFF_MAX_MS = 1000,   /* a member that comes back is not waited for longer than that */
    PEER_REFUSED_MS = 5000,       /* when the other side does not want us: nothing will change soon */
    PEER_PING_MS = 1000,
    PEER_WAITING_MAX = 16,        /* messages that wait for a connection which is being made */
    PEER_COMPLAINTS_MAX = 20,     /* log lines about strangers at a time */
    PEER_COMPLAINT_MS = 3000,     /* after which one more is allowed */
};

struct waiting { /* a message of libraft without a payload, for a connection that is being made */
    Qfs__RaftMessage head;
    struct raft_io_send *req;
    raft_io_send_cb cb;
};

enum peer_phase { PEER_PAUSE, PEER_CONNECTING, PEER_GREETING, PEER_UP };

struct peer { /* our connection to one member */
    struct peers *peers;
    struct peer *next;
    uint32_t id;
    enum peer_phase phase;
    struct link *link;                /* NULL in PEER_PAUSE */
    unsigned n_links;                 /* open ones, also those that are being closed */
    bool gone;                        /* no member any more: freed when n_links is 0 */
    int64_t deadline_ms;              /* PAUSE: next attempt. CONNECTING, GREETING: given up. UP: next ping */
    int64_t backoff_ms;               /* of the next pause */
    char address[PEER_ADDRESS_SIZE];  /* of the attempt under way */
    char learned[PEER_ADDRESS_SIZE];  /* what its hello said; "" */
    bool learned_failed;              /* the last attempt there failed: the table's is next */
    uint64_t incarnation, run;        /* the newest that was seen */
    bool was_up;                      /* since it was last found to be gone */
    enum peer_refusal refusal;        /* the last answer to our hello */
    char said[160];                   /* the last complaint that was logged; "" while all is well */
    struct waiting waiting[PEER_WAITING_MAX];
    unsigned n_waiting;
    int64_t round_trip_ns;
};

struct incoming { /* a connection that was accepted */
    struct peers *peers;
    struct incoming *next, *prev;
    struct link *link;
    uint32_t from;                    /* 0: not greeted, or a guest */
    bool greeted, guest;
    bool refused;                     /* it was told so, and is not listened to any more */
    int64_t deadline_ms;              /* for the hello; 0 after it */
    struct peer_guest *handle;        /* this, as the hooks know it; NULL: no guest */
    char text[64];                    /* its address, for the log */
};

struct peers {
    uv_loop_t *loop;
    struct peer_config config;        /* `listen` is not used: see `listen` */
    struct peer_hooks hooks;
    char listen[PEER_ADDRESS_SIZE];   /* "": no network */
    char advertise[PEER_ADDRESS_SIZE]; /* "": where it listens */
    struct listener *listener;
    uv_timer_t timer;                 /* for the nearest of all deadlines */
    struct peer *peers;               /* to members */
    unsigned n_peers;
    struct incoming *incoming;        /* newest first */
    unsigned n_incoming, n_guests;
    unsigned handles;                 /* that must be closed before the end */
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
    uint64_t random;                  /* of the jitter */
    int64_t complaint_ms;             /* when the last complaint was paid for */
    unsigned complaints, suppressed;  /* logged since; and not logged */
};

/* peer.c */
int64_t peer__now_ms(const struct peers *p);
void peer__arm(struct peers *p);                       /* after a deadline changed */
void peer__handle_closed(struct peers *p);             /* one of `handles` is gone */
struct peer *peer__find(const struct peers *p, uint32_t id);
struct peer *peer__add(struct peers *p, uint32_t id);  /* NULL: no memory, or too many */
/* A line about somebody who is perhaps no member: not more than PEER_COMPLAINTS_MAX of them at a time. */
void peer__complain(struct peers *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* peer_out.c */
void peer__kick(struct peer *peer);                    /* connect now, if not connected */
void peer__timeout(struct peer *peer);                 /* its deadline has passed */
void peer__gone(struct peer *peer);                    /* its process has ended */
void peer__cut(struct peer *peer);                     /* close without another attempt */
void peer__free_if_gone(struct peer *peer);
void peer__flush(struct peer *peer, int status);       /* 0: sends what waits; else its callbacks get that */

/* peer_in.c */
void peer__accepted(void *data, struct wire *c);
void peer__incoming_close(struct incoming *in);
void peer__incoming_refuse(struct incoming *in, enum peer_refusal refusal, const char *text);

/* peer_hello.c */
void peer__hello(struct peers *p, uint32_t to, Qfs__Hello *out, char address[PEER_ADDRESS_SIZE]);
void peer__welcome(struct peers *p, enum peer_refusal refusal, const char *text, Qfs__Welcome *out);
/* What to answer to a hello; `text` gets the sentence for a refusal. */
enum peer_refusal peer__judge_hello(struct peers *p, const Qfs__Hello *hello, char *text, size_t size);
/* What to make of an answer. PEER_WELCOME: go on. */
enum peer_refusal peer__judge_welcome(struct peer *peer, const Qfs__Welcome *w, char *text, size_t size);

/* peer_raft.c */
void peer__raft_head(const struct raft_message *m, Qfs__RaftMessage *out);
/* Takes the payload of the frame, if it needs it. QE_CORRUPT with a text in *why, QE_NOMEM. */
int peer__raft_decode(const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE], uint32_t from, struct frame *f, struct raft_message *out,
                      const char **why);
void peer__raft_free(struct raft_message *m); /* what decode allocated */

#endif
