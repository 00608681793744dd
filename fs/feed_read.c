/* Reads of streams: what of a stream's block goes into one. FUSE loop. */
#include <string.h>

#include "fs/feed.h"

enum { READ_BYTES = 64 << 10 }; /* a read that has so much goes to the end of the revision only: the loop has others to serve */

static struct feed_sight sight; /* of the stream that was looked at last; FUSE loop only */

void feed_forget(const struct feed_stream *s)
{
    if (sight.filter == &s->filter)
        feed_sight_clear(&sight);
}

bool feed_amid(const struct feed_stream *s)
{
    const struct feed_block *b = s->block;

    if (s->state != FEED_READING)
        return false;
    return s->line_off > 0 || (s->at > 0 && s->at < b->n_events && b->events[s->at - 1].rev == b->events[s->at].rev);
}

/* Moves to the next event that is shown; the stream is the loop's. False: the thread has to look for one. */
static bool stream_advance(struct fs *fs, struct feed_stream *s, enum feed_seen *seen)
{
    bool reading = s->state == FEED_READING;

    while (reading) {
        for (; s->at < s->block->n_events; s->at++) {
            *seen = feed_sees(&s->filter, s->block, s->at, &sight);
            if (*seen)
                return true;
        }
        reading = feed_next_block(fs, s);
    }
    return false;
}

bool feed_ready(struct fs *fs, struct feed_stream *s)
{
    enum feed_seen seen;

    for (;;) {
        if (feed_wait(fs, s))
            return feed_stopped(fs);
        if (s->state == FEED_FAILED || stream_advance(fs, s, &seen))
            return true;
    }
}

struct mark { /* a place where a revision ends */
    size_t at, len; /* of the block, of the output */
};

/* Takes whole revisions, or what is nearest to them. */
static int read_lines(struct fs *fs, struct feed_stream *s, size_t size, struct buf *out)
{
    struct mark end = {0};
    const struct feed_block *block = NULL;
    int64_t rev = 0;
    enum feed_seen seen;
    int err = 0;

    while (stream_advance(fs, s, &seen)) {
        const struct feed_event *e = &s->block->events[s->at];
        size_t before = out->len;

        if (s->block != block || e->rev != rev) {
            end = (struct mark){s->at, s->line_off ? 0 : before};
            if (before >= READ_BYTES || (feed_stopped(fs) && before))
                break;
        }
        block = s->block;
        rev = e->rev;
        err = feed_line(s->block, s->at, seen, out);
        if (err) { /* what was taken is gone from the stream: it is returned, and this line another time */
            out->len = before;
            return before ? 0 : err;
        }
        if (s->line_off) { /* its beginning has been read */
            memmove(out->data + before, out->data + before + s->line_off, out->len - before - s->line_off);
            out->len -= s->line_off;
        }
        if (out->len <= size) {
            s->at++;
            s->line_off = 0;
            continue;
        }
        if (end.len > 0) { /* back to where the revision began */
            s->at = end.at;
            s->line_off = 0;
            out->len = end.len;
        } else if (before > 0) {
            out->len = before;
        } else {
            s->line_off += size;
            out->len = size;
        }
        break;
    }
    return err;
}

int feed_read(struct fs *fs, struct feed_stream *s, size_t size, struct buf *out)
{
    int err = 0;

    while (!err && out->len == 0 && feed_ready(fs, s)) {
        if (feed_stopped(fs) && !feed_amid(s))
            return 0; /* the end */
        if (s->state == FEED_FAILED)
            return s->err;
        err = read_lines(fs, s, size, out);
    }
    return err;
}
