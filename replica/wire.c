/* A connection that is asked for: look up (at once if the host is written in digits), then one address after the other, each with a
 * handle of its own, until one answers. A handle is closed before the next one is made, and before the wire goes. */
#include "replica/wire.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/address.h"
#include "replica/replica.h"
#include "store/base/err.h"
#include "store/base/log.h"

enum {
    KEEPALIVE_S = 5,          /* idle before the first probe: notices a machine that is gone where nothing is sent */
    USER_TIMEOUT_MS = 5000,   /* what was sent and not acknowledged for that long breaks the connection */
    BACKLOG = 64,
    ADDRESSES_MAX = 8,        /* of one name: more are not tried */
};

struct wire {
    uv_loop_t *loop;
    struct wire_hooks hooks;
    uv_tcp_t tcp;                  /* of the attempt under way, or connected */
    bool open;                     /* `tcp` is a handle that must be closed */
    uv_getaddrinfo_t lookup;
    bool looking;                  /* `lookup` is under way */
    uv_connect_t connecting;
    struct sockaddr_storage addresses[ADDRESSES_MAX];
    unsigned n_addresses, next;    /* of these; the next to try */
    bool insecure;
    bool is_up, is_down;           /* hooks called */
    bool closing;                  /* wire_close was called */
    char error[128];               /* of the last attempt */
    bool refused;                  /* it was refused */
    void (*closed)(void *data);    /* wire_close's */
    void *closed_data;
};

struct listener {
    uv_tcp_t tcp;
    void (*accepted)(void *data, struct wire *c);
    void *data;
    void (*closed)(void *data);
    void *closed_data;
    int64_t complained_ms;         /* when an accept that failed was last logged */
};

static void try_next(struct wire *c);

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

static void go_down(struct wire *c, const char *why)
{
    if (c->is_down || c->closing)
        return;
    c->is_down = true;
    if (c->open && c->is_up)
        uv_read_stop((uv_stream_t *)&c->tcp);
    c->hooks.down(c->hooks.data, why);
}

static void finish(struct wire *c)
{
    if (c->open || c->looking)
        return;
    if (c->closed)
        c->closed(c->closed_data);
    free(c);
}

static void tcp_closed_cb(uv_handle_t *handle)
{
    struct wire *c = handle->data;

    c->open = false;
    if (c->closing)
        finish(c);
    else
        try_next(c);
}

void wire_close(struct wire *c, void (*closed)(void *data), void *data)
{
    c->closing = true;
    c->closed = closed;
    c->closed_data = data;
    if (c->looking)
        uv_cancel((uv_req_t *)&c->lookup); /* or it ends by itself */
    if (c->open && !uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, tcp_closed_cb);
    if (!c->open && !c->looking) { /* nothing to wait for, but the callback comes later all the same */
        if (uv_tcp_init(c->loop, &c->tcp) == 0) {
            c->open = true;
            c->tcp.data = c;
            uv_close((uv_handle_t *)&c->tcp, tcp_closed_cb);
        } else {
            finish(c);
        }
    }
}

static struct wire *wire_new(uv_loop_t *loop)
{
    struct wire *c = calloc(1, sizeof *c);

    if (c) {
        c->loop = loop;
        c->lookup.data = c;
        c->connecting.data = c;
    }
    return c;
}

static int open_tcp(struct wire *c)
{
    if (uv_tcp_init(c->loop, &c->tcp))
        return QE_NOMEM;
    c->tcp.data = c;
    c->open = true;
    return 0;
}

/* Small frames must not wait for others, and a machine that went away without a word must be noticed. Where an option cannot be set
 * the connection is as good, only slower or more patient. */
static void tune(struct wire *c)
{
    unsigned timeout = USER_TIMEOUT_MS;
    uv_os_fd_t fd;

    uv_tcp_nodelay(&c->tcp, 1);
    uv_tcp_keepalive(&c->tcp, 1, KEEPALIVE_S);
    if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
}

/* ---- Reading and writing ------------------------------------------------------------------------------------------------- */

static void alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct wire *c = handle->data;
    uint8_t *at = NULL;
    size_t len = 0;

    (void)suggested;
    c->hooks.space(c->hooks.data, &at, &len);
    *buf = uv_buf_init((char *)at, (unsigned)len);
}

static void read_cb(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct wire *c = stream->data;

    (void)buf;
    if (n > 0)
        c->hooks.got(c->hooks.data, (size_t)n);
    else if (n < 0)
        go_down(c, n == UV_EOF ? "the other side closed it" : n == UV_ENOBUFS ? "out of memory" : uv_strerror((int)n));
}

static void begin_reading(struct wire *c)
{
    int rv = uv_read_start((uv_stream_t *)&c->tcp, alloc_cb, read_cb);

    if (rv)
        go_down(c, uv_strerror(rv));
}

void wire_begin(struct wire *c, const struct wire_hooks *hooks)
{
    c->hooks = *hooks;
    c->is_up = true;
    begin_reading(c);
}

static void write_cb(uv_write_t *req, int status)
{
    struct wire_write *w = (struct wire_write *)req;
    struct wire *c = req->handle->data;

    w->cb(w, status == 0 ? 0 : status == UV_ECANCELED && c->closing ? QE_CANCELED : QE_IO);
    if (status)
        go_down(c, uv_strerror(status));
}

int wire_write(struct wire *c, struct wire_write *w, const uv_buf_t bufs[], unsigned n)
{
    int rv;

    if (!c->is_up || c->is_down || c->closing)
        return QE_IO;
    rv = uv_write(&w->req, (uv_stream_t *)&c->tcp, bufs, n, write_cb);
    return rv == 0 ? 0 : rv == UV_ENOMEM ? QE_NOMEM : QE_IO;
}

size_t wire_queued(const struct wire *c)
{
    return c->is_up && c->open ? uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) : 0;
}

bool wire_refused(const struct wire *c)
{
    return c->refused && !c->is_up;
}

void wire_peer_text(const struct wire *c, char *out, size_t size)
{
    struct sockaddr_storage sa;
    int len = sizeof sa;

    if (c->open && uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&sa, &len) == 0)
        address_text((struct sockaddr *)&sa, out, size);
    else
        snprintf(out, size, "?");
}

/* ---- Connecting ---------------------------------------------------------------------------------------------------------- */

static void connect_cb(uv_connect_t *req, int status)
{
    struct wire *c = req->data;

    if (status == UV_ECANCELED || c->closing)
        return; /* the handle is being closed */
    if (status) {
        snprintf(c->error, sizeof c->error, "%s", uv_strerror(status));
        c->refused = status == UV_ECONNREFUSED;
        uv_close((uv_handle_t *)&c->tcp, tcp_closed_cb); /* and then the next address */
        return;
    }
    tune(c);
    c->is_up = true;
    c->hooks.up(c->hooks.data);
    if (!c->closing && !c->is_down)
        begin_reading(c);
}

static void try_next(struct wire *c)
{
    while (c->next < c->n_addresses) {
        const struct sockaddr *sa = (const struct sockaddr *)&c->addresses[c->next++];
        int rv;

        if (!c->insecure && !address_is_loopback(sa)) {
            snprintf(c->error, sizeof c->error, "it is not a loopback address, and there is no TLS (insecure = yes allows it)");
            continue;
        }
        if (open_tcp(c)) {
            snprintf(c->error, sizeof c->error, "out of memory");
            break;
        }
        rv = uv_tcp_connect(&c->connecting, &c->tcp, sa, connect_cb);
        if (rv == 0)
            return;
        snprintf(c->error, sizeof c->error, "%s", uv_strerror(rv));
        uv_close((uv_handle_t *)&c->tcp, tcp_closed_cb);
        return;
    }
    go_down(c, c->error[0] ? c->error : "it has no address");
}

static void lookup_cb(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct wire *c = req->data;

    c->looking = false;
    for (const struct addrinfo *a = list; a && c->n_addresses < ADDRESSES_MAX; a = a->ai_next)
        if (a->ai_addrlen <= sizeof c->addresses[0])
            memcpy(&c->addresses[c->n_addresses++], a->ai_addr, a->ai_addrlen);
    uv_freeaddrinfo(list);
    if (c->closing) {
        finish(c);
        return;
    }
    if (status)
        snprintf(c->error, sizeof c->error, "%s", uv_strerror(status));
    try_next(c);
}

/* For an address in digits nothing has to be looked up; the outcome comes later all the same, through the closing of a handle that
 * was not used. */
static int begin_literal(struct wire *c)
{
    c->n_addresses = 1;
    if (open_tcp(c))
        return QE_NOMEM;
    uv_close((uv_handle_t *)&c->tcp, tcp_closed_cb);
    return 0;
}

int wire_connect(uv_loop_t *loop, const char *address, bool insecure, const struct wire_hooks *hooks, struct wire **out)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct address a;
    struct wire *c;
    int err = address_parse(address, &a);

    if (err)
        return err;
    c = wire_new(loop);
    if (!c)
        return QE_NOMEM;
    c->hooks = *hooks;
    c->insecure = insecure;
    if (address_literal(&a, &c->addresses[0]))
        err = begin_literal(c);
    else if (uv_getaddrinfo(loop, &c->lookup, lookup_cb, a.host, a.port, &hints))
        err = QE_INVAL;
    else
        c->looking = true;
    if (err) {
        free(c);
        return err;
    }
    *out = c;
    return 0;
}

/* ---- Listening ----------------------------------------------------------------------------------------------------------- */

static void connection_cb(uv_stream_t *server, int status)
{
    struct listener *l = server->data;
    int64_t now = (int64_t)uv_now(server->loop);
    struct wire *c = status == 0 ? wire_new(server->loop) : NULL;

    if (c && open_tcp(c) == 0 && uv_accept(server, (uv_stream_t *)&c->tcp) == 0) {
        tune(c);
        l->accepted(l->data, c);
        return;
    }
    if (c)
        wire_close(c, NULL, NULL);
    if (l->complained_ms == 0 || now - l->complained_ms > 60000) { /* no descriptors or no memory left: this may go on for a while */
        log_warn("peer", "a connection could not be accepted: %s", status ? uv_strerror(status) : "out of memory");
        l->complained_ms = now;
    }
}

static int resolve(const struct address *a, bool insecure, const char *text, struct sockaddr_storage *out, struct buf *why)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *list = NULL;
    int rv;

    if (!address_literal(a, out)) {
        rv = getaddrinfo(a->host, a->port, &hints, &list);
        if (rv || list->ai_addrlen > sizeof *out) {
            buf_printf(why, "cannot listen on \"%s\": %s", text, rv ? gai_strerror(rv) : "it has no address");
            if (list)
                freeaddrinfo(list);
            return QE_INVAL;
        }
        memcpy(out, list->ai_addr, list->ai_addrlen);
        freeaddrinfo(list);
        if (address_is_loopback((struct sockaddr *)out) && strcmp(a->host, "localhost") != 0)
            log_warn("peer", "\"%s\" is a loopback address on this machine: other machines do not reach it", a->host);
    }
    if (insecure || address_is_loopback((struct sockaddr *)out))
        return 0;
    buf_printf(why, "cannot listen on \"%s\": without TLS, members speak in the clear and trust whoever reaches them, so only a loopback "
               "address is allowed; insecure = yes allows others", text);
    return QE_PERM;
}

static void listener_closed_cb(uv_handle_t *handle)
{
    struct listener *l = handle->data;

    if (l->closed)
        l->closed(l->closed_data);
    free(l);
}

void listener_close(struct listener *l, void (*closed)(void *data), void *data)
{
    l->closed = closed;
    l->closed_data = data;
    uv_close((uv_handle_t *)&l->tcp, listener_closed_cb);
}

static int where_to_listen(const char *address, bool insecure, struct sockaddr_storage *out, struct buf *why)
{
    struct address a;

    if (address_parse(address, &a)) {
        buf_printf(why, "cannot listen on \"%s\": it is not HOST:PORT", address);
        return QE_INVAL;
    }
    return resolve(&a, insecure, address, out, why);
}

int replica_may_listen(const char *address, bool insecure, struct buf *why)
{
    struct sockaddr_storage sa;
    int err = where_to_listen(address, insecure, &sa, why), fd;

    if (err)
        return err;
    if (sa.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&sa)->sin6_port = 0;
    else
        ((struct sockaddr_in *)&sa)->sin_port = 0;
    fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa)) {
        buf_printf(why, "cannot listen on \"%s\": %s", address, errno == EADDRNOTAVAIL ? "it is not an address of this machine" : strerror(errno));
        err = QE_INVAL;
    }
    if (fd >= 0)
        close(fd);
    return err;
}

int wire_listen(uv_loop_t *loop, const char *address, bool insecure, void (*accepted)(void *data, struct wire *c), void *data,
                struct listener **out, struct buf *why)
{
    struct sockaddr_storage sa;
    struct listener *l;
    int rv = where_to_listen(address, insecure, &sa, why);

    if (rv)
        return rv;
    l = calloc(1, sizeof *l);
    if (!l || uv_tcp_init(loop, &l->tcp)) {
        free(l);
        buf_printf(why, "out of memory");
        return QE_NOMEM;
    }
    l->tcp.data = l;
    l->accepted = accepted;
    l->data = data;
    rv = uv_tcp_bind(&l->tcp, (struct sockaddr *)&sa, 0);
    if (!rv)
        rv = uv_listen((uv_stream_t *)&l->tcp, BACKLOG, connection_cb);
    if (rv) {
        buf_printf(why, "cannot listen on \"%s\": %s", address, uv_strerror(rv));
        listener_close(l, NULL, NULL);
        return rv == UV_EADDRINUSE ? QE_BUSY : rv == UV_EADDRNOTAVAIL ? QE_INVAL : QE_IO;
    }
    *out = l;
    return 0;
}

unsigned listener_port(const struct listener *l)
{
    struct sockaddr_storage sa;
    int len = sizeof sa;

    if (uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&sa, &len))
        return 0;
    return ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port : ((struct sockaddr_in *)&sa)->sin_port);
}
