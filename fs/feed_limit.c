/* What streams that are behind may take: of the store's time, and of memory. */
#include "fs/feed.h"

#include "fs/usage.h"
#include "store/base/failpoint.h"

enum {
    REST = 100,           /* while somebody writes, the thread rests so many times as long as a page for those behind has taken, */
    REST_MS_MAX = 100,    /* or so long, */
    GAIN = 4,             /* or until a page for each that is behind covers so many times as much as is written meanwhile */
    BYTES_PER_UID = 256 << 20, /* of pages that were read for the streams of a user who is not root: usually 100 KiB, but a revision is never cut */
    BYTES_FEW = 64 << 10, /* the same for a failpoint */
};

int64_t feed_rest_ns(int64_t work_ns, int64_t covered, int64_t written, int64_t since_ns)
{
    int64_t rest_ns = REST * work_ns, gain_ns;

    if (written == 0)
        return 0;
    gain_ns = covered * since_ns / (GAIN * written);
    rest_ns = gain_ns < rest_ns ? gain_ns : rest_ns;
    return rest_ns < REST_MS_MAX * INT64_C(1000000) ? rest_ns : REST_MS_MAX * INT64_C(1000000);
}

bool feed_block_charge(struct feed_block *b, struct usage **users, uid_t uid)
{
    size_t max = FAILPOINT("fs.feed.few") ? BYTES_FEW : BYTES_PER_UID, bytes = feed_block_bytes(b), has = usage_of(*users, uid);

    if (uid != 0 && has > 0 && has + bytes > max) /* one can always be read, however large its revision is */
        return false;
    if (!usage_add(users, uid, bytes))
        return false;
    b->users = users;
    b->uid = uid;
    b->charged = bytes;
    return true;
}

void feed_block_discharge(struct feed_block *b)
{
    if (b->users)
        usage_drop(b->users, b->uid, b->charged);
    b->users = NULL;
}
