#include "replica/link.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/err.h"

struct link {
    struct wire *wire;          /* owned until it is closed */
    struct frame_reader reader;
    struct link_hooks hooks;
    bool closing;               /* link_close was called */
    bool broken;                /* `down` was called */
    void (*closed)(void *data); /* link_close's */
    void *closed_data;
};

struct out { /* one frame on its way */
    struct wire_write write;
    void (*done)(void *data, int err);
    void *data;
    uint8_t header[FRAME_HEADER_SIZE];
    uv_buf_t bufs[];            /* header, head, payload; the head and a copied payload lie behind them */
};

/* ---- Hooks of the connection --------------------------------------------------------------------------------------------- */

static void break_down(struct link *l, const char *why)
{
    if (l->broken || l->closing)
        return;
    l->broken = true;
    l->hooks.down(l->hooks.data, why);
}

static void on_up(void *data)
{
    struct link *l = data;

    l->hooks.up(l->hooks.data);
}

static void on_space(void *data, uint8_t **at, size_t *len)
{
    struct link *l = data;

    frame_reader_space(&l->reader, at, len);
}

static int on_frame(void *data, struct frame *f)
{
    struct link *l = data;

    l->hooks.frame(l->hooks.data, f);
    return l->closing || l->broken ? QE_CANCELED : 0;
}

static void on_got(void *data, size_t n)
{
    struct link *l = data;
    const char *why = "out of memory";
    int err;

    if (l->broken || l->closing)
        return; /* whatever else it says */
    err = frame_reader_got(&l->reader, n, on_frame, l, &why);
    if (err && err != QE_CANCELED)
        break_down(l, why);
}

static void on_down(void *data, const char *why)
{
    break_down(data, why);
}

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

static struct link *link_new(const struct link_hooks *hooks, unsigned types)
{
    struct link *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->hooks = *hooks;
    frame_reader_init(&l->reader);
    l->reader.types = types;
    l->reader.head_max = FRAME_GREETING_MAX;
    return l;
}

int link_connect(uv_loop_t *loop, const char *address, bool insecure, const struct link_hooks *hooks, unsigned types, struct link **out)
{
    struct link *l = link_new(hooks, types);
    struct wire_hooks wire_hooks = {l, on_up, on_space, on_got, on_down};
    int err;

    if (!l)
        return QE_NOMEM;
    err = wire_connect(loop, address, insecure, &wire_hooks, &l->wire);
    if (err) {
        free(l);
        return err;
    }
    *out = l;
    return 0;
}

int link_accept(struct wire *c, const struct link_hooks *hooks, unsigned types, struct link **out)
{
    struct link *l = link_new(hooks, types);
    struct wire_hooks wire_hooks = {l, on_up, on_space, on_got, on_down};

    if (!l) {
        wire_close(c, NULL, NULL);
        return QE_NOMEM;
    }
    l->wire = c;
    *out = l;
    wire_begin(c, &wire_hooks);
    return 0;
}

void link_trust(struct link *l, unsigned types)
{
    l->reader.types = types;
    l->reader.head_max = FRAME_HEAD_MAX;
    l->reader.payload_max = FRAME_PAYLOAD_MAX;
}

static void wire_closed(void *data)
{
    struct link *l = data;

    frame_reader_fini(&l->reader);
    if (l->closed)
        l->closed(l->closed_data);
    free(l);
}

void link_close(struct link *l, void (*closed)(void *data), void *data)
{
    l->closing = true;
    l->closed = closed;
    l->closed_data = data;
    wire_close(l->wire, wire_closed, l);
}

bool link_closing(const struct link *l)
{
    return l->closing;
}

size_t link_queued(const struct link *l)
{
    return wire_queued(l->wire);
}

bool link_refused(const struct link *l)
{
    return wire_refused(l->wire);
}

void link_peer_text(const struct link *l, char *out, size_t size)
{
    wire_peer_text(l->wire, out, size);
}

/* ---- Sending ------------------------------------------------------------------------------------------------------------- */

static void written_cb(struct wire_write *w, int err)
{
    struct out *o = (struct out *)w;

    if (o->done)
        o->done(o->data, err);
    free(o);
}

/* Lays the frame out behind the struct: the buffers, the head, and the payload when it is copied. Empty pieces are left out: they would
 * cost a system call. */
static struct out *out_new(enum frame_type type, const ProtobufCMessage *head, size_t head_len, const uv_buf_t *payload, unsigned n,
                           enum link_payload how, size_t len, unsigned *n_bufs)
{
    size_t room = 2 + (how == LINK_COPY ? 1 : n);
    struct out *o = malloc(sizeof *o + room * sizeof o->bufs[0] + head_len + (how == LINK_COPY ? len : 0));
    char *at = o ? (char *)&o->bufs[room] : NULL, *copy;
    unsigned k = 1;

    if (!o)
        return NULL;
    memset(o, 0, sizeof *o);
    o->bufs[0] = uv_buf_init((char *)o->header, sizeof o->header);
    protobuf_c_message_pack(head, (uint8_t *)at);
    if (head_len > 0)
        o->bufs[k++] = uv_buf_init(at, (unsigned)head_len);
    copy = at + head_len;
    *n_bufs = k;
    if (how == LINK_COPY && len > 0)
        o->bufs[(*n_bufs)++] = uv_buf_init(copy, (unsigned)len);
    for (unsigned i = 0; i < n; i++) {
        if (payload[i].len == 0)
            continue;
        if (how == LINK_LEND)
            o->bufs[(*n_bufs)++] = payload[i];
        else
            copy = (char *)memcpy(copy, payload[i].base, payload[i].len) + payload[i].len;
    }
    frame_header(o->header, type, at, head_len, o->bufs + k, *n_bufs - k);
    return o;
}

int link_send(struct link *l, enum frame_type type, const ProtobufCMessage *head, const uv_buf_t *payload, unsigned n,
              enum link_payload how, void (*done)(void *data, int err), void *data)
{
    size_t head_len = protobuf_c_message_get_packed_size(head), len = 0;
    unsigned n_bufs;
    struct out *o;
    int err;

    for (unsigned i = 0; i < n; i++)
        len += payload[i].len;
    if (head_len > FRAME_HEAD_MAX || len > FRAME_PAYLOAD_MAX)
        return QE_2BIG;
    if (l->broken || l->closing)
        return QE_IO;
    o = out_new(type, head, head_len, payload, n, how, len, &n_bufs);
    if (!o)
        return QE_NOMEM;
    o->write.cb = written_cb;
    o->done = done;
    o->data = data;
    err = wire_write(l->wire, &o->write, o->bufs, n_bufs);
    if (err)
        free(o);
    return err;
}
