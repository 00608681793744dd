/* Making, opening and damaging a store. */
#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static void in_dir(const struct kit *k, const char *name, char path[256])
{
    snprintf(path, 256, "%s/%s", k->dir, name);
}

static int try_open(struct kit *k, struct buf *why)
{
    struct store_options o = {.dir = k->dir};
    struct store *s = NULL;
    int err = store_open(&o, &s, why);

    store_close(s);
    return err;
}

static void assert_refused(struct kit *k, int want, const char *text)
{
    struct buf why = {0};

    assert_int_equal(try_open(k, &why), want);
    if (!strstr(buf_cstr(&why), text))
        fail_msg("\"%s\" does not say \"%s\"", buf_cstr(&why), text);
    buf_fini(&why);
}

static void sql(struct kit *k, const char *text)
{
    char path[256];
    sqlite3 *db;

    in_dir(k, "state-1.db", path);
    assert_int_equal(sqlite3_open(path, &db), 0);
    if (sqlite3_exec(db, text, NULL, NULL, NULL))
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    sqlite3_close(db);
}

struct said {
    char text[4000];
};

static void keep_line(void *data, const char *line)
{
    struct said *s = data;
    size_t len = strlen(s->text);

    snprintf(s->text + len, sizeof s->text - len, "%s\n", line);
}

/* A tree with something of everything; then what `text` does to the tables must be found, and called `words`. */
static void assert_found(const char *text, const char *words)
{
    struct kit k = {0};
    struct said said = {{0}};
    char big[5001];

    memset(big, 'b', 5000);
    big[5000] = 0;
    kit_init(&k);
    assert_int_equal(kit_mkdir(&k, ROOT, "d"), 0);
    assert_int_equal(kit_put(&k, k.res.ino, "f", "one"), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(kit_put(&k, ROOT, "g", big), 0);
    assert_int_equal(kit_rename(&k, ROOT, "g", ROOT, "h", 0), 0);
    assert_int_equal(kit_put(&k, ROOT, "gone", "v"), 0);
    assert_int_equal(kit_unlink(&k, ROOT, "gone"), 0);
    kit_close(&k);
    assert_int_equal(store_check(k.dir, keep_line, &said, NULL), 0);
    assert_null(strstr(said.text, "damage"));
    sql(&k, text);
    said.text[0] = 0;
    assert_int_equal(store_check(k.dir, keep_line, &said, NULL), QE_CORRUPT);
    if (!strstr(said.text, words))
        fail_msg("after %s, this does not say \"%s\":\n%s", text, words, said.text);
    kit_fini(&k);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */


static void an_interrupted_create_is_overwritten(void **state)
{
    struct kit k = {0};
    char path[256];
    int fd;

    (void)state;
    kit_make_dir(&k);
    for (int i = 0; i < 3; i++) {
        static const char *const left[] = {"state-1.db", "state-1.db-wal", "CURRENT.tmp"};

        in_dir(&k, left[i], path);
        fd = open(path, O_CREAT | O_WRONLY, 0600);
        assert_int_equal(write(fd, "garbage", 7), 7);
        close(fd);
    }
    assert_int_equal(kit_create(&k), 0);
    assert_int_equal(kit_open(&k), 0);
    kit_start(&k);
    kit_check(&k);
    kit_fini(&k);
}

static void what_was_applied_is_there_after_a_reopen(void **state)
{
    struct kit *k = *state;
    struct store_glance before, after;
    uint64_t h1, h2;
    int64_t rev;

    assert_int_equal(kit_put(k, ROOT, "f", "v"), 0);
    before = kit_glance(k);
    assert_int_equal(store_hash(k->r, &rev, &h1), 0);
    kit_reopen(k);
    after = kit_glance(k);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(store_hash(k->r, &rev, &h2), 0);
    assert_true(h1 == h2);
    kit_assert_content(k, STORE_HEAD, kit_lookup(k, STORE_HEAD, ROOT, "f"), "v");
}

static void sync_names_what_is_durable(void **state)
{
    struct kit *k = *state;
    uint64_t index = 0;
    bool more;

    assert_int_equal(kit_put(k, ROOT, "f", "v"), 0);
    assert_int_equal(store_sync(k->s, &index), 0);
    assert_int_equal(index, k->index);
    assert_int_equal(store_maintain(k->s, 5, true, &more), 0); /* also when the WAL is empty */
    assert_int_equal(store_sync(k->s, &index), 0);
}

static void a_checkpoint_starts_the_wal_over(void **state)
{
    struct kit *k = *state;
    char path[256], big[4001];
    struct stat st;
    off_t size;
    bool more;

    memset(big, 'x', 4000);
    big[4000] = 0;
    in_dir(k, "state-1.db-wal", path);
    for (int i = 0; i < 1500; i++) {
        assert_int_equal(kit_put(k, ROOT, "f", big), 0);
        assert_int_equal(store_maintain(k->s, 5, false, &more), 0);
    }
    assert_int_equal(stat(path, &st), 0);
    size = st.st_size;
    assert_true(size < 12 << 20);
    for (int i = 0; i < 1500; i++) {
        assert_int_equal(kit_put(k, ROOT, "f", big), 0);
        assert_int_equal(store_maintain(k->s, 5, false, &more), 0);
    }
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, size);
}

static void a_long_reader_holds_the_wal_back_up_to_its_hard_limit(void **state)
{
    struct kit *k = *state;
    struct store_options o = {.dir = k->dir, .wal_limit_bytes = 1 << 20};
    bool more = false;
    int n = 0;

    kit_close(k);
    assert_int_equal(store_open(&o, &k->s, NULL), 0);
    assert_int_equal(store_reader_open(k->s, &k->r), 0);
    assert_int_equal(store_read_begin(k->r, NULL), 0);
    while (!store_wal_full(k->s) && n++ < 2000)
        assert_int_equal(kit_put(k, ROOT, "f", "v"), 0);
    assert_true(store_wal_full(k->s));
    assert_int_equal(store_maintain(k->s, 5, false, &more), 0);
    assert_true(more);
    assert_true(store_wal_full(k->s));
    store_read_end(k->r);
    assert_int_equal(store_maintain(k->s, 5, false, &more), 0);
    assert_false(more);
    assert_false(store_wal_full(k->s));
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */


static void create_does_not_touch_a_cluster_that_is_there(void **state)
{
    struct kit *k = *state;

    assert_int_equal(kit_put(k, ROOT, "f", "v"), 0);
    assert_int_equal(kit_create(k), QE_EXIST);
    kit_assert_list(k, STORE_HEAD, ROOT, "f");
}

static void open_says_what_is_wrong(void **state)
{
    struct kit *k = *state;
    char current[256], db[256], away[256];
    int fd;

    kit_close(k);
    in_dir(k, "CURRENT", current);
    in_dir(k, "state-1.db", db);
    in_dir(k, "away", away);
    assert_int_equal(rename(current, away), 0);
    assert_refused(k, QE_NOCLUSTER, "no cluster");
    fd = open(current, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "quorumfs current 1\nname state-1.db\n", 35), 35);
    close(fd);
    assert_refused(k, QE_CORRUPT, "CURRENT");
    assert_int_equal(rename(away, current), 0);
    assert_int_equal(rename(db, away), 0);
    assert_refused(k, QE_CORRUPT, "missing");
    fd = open(db, O_CREAT | O_WRONLY, 0600);
    for (int i = 0; i < 100; i++)
        assert_int_equal(write(fd, "this is not a database at all, but some text", 44), 44);
    close(fd);
    assert_refused(k, QE_CORRUPT, "state-1.db");
    assert_int_equal(rename(away, db), 0);
    sql(k, "UPDATE meta SET epoch = 8");
    assert_refused(k, QE_CORRUPT, "do not belong together");
    sql(k, "UPDATE meta SET epoch = 7, format = format + 1");
    assert_refused(k, QE_FORMAT, "its format is");
    sql(k, "UPDATE meta SET format = format - 1, rev = -1");
    assert_refused(k, QE_CORRUPT, "meta");
    sql(k, "UPDATE meta SET rev = 1; PRAGMA application_id = 5");
    assert_refused(k, QE_FORMAT, "not a database of quorumfs");
    sql(k, "PRAGMA application_id = 1902539569"); /* 'qfs1' */
    assert_int_equal(kit_open(k), 0);
}

static void a_flipped_byte_of_current_is_noticed(void **state)
{
    struct kit *k = *state;
    char path[256], text[300], bad[300];
    ssize_t len;
    int fd;

    kit_close(k);
    in_dir(k, "CURRENT", path);
    fd = open(path, O_RDWR);
    len = read(fd, text, sizeof text);
    assert_true(len > 50);
    for (ssize_t i = 0; i < len; i++) {
        memcpy(bad, text, (size_t)len);
        bad[i] ^= 1;
        assert_int_equal(pwrite(fd, bad, (size_t)len, 0), len);
        assert_int_not_equal(try_open(k, NULL), 0);
    }
    assert_int_equal(pwrite(fd, text, (size_t)len, 0), len);
    close(fd);
    assert_int_equal(kit_open(k), 0);
}

static void check_finds_damage_and_names_it(void **state)
{
    (void)state;
    assert_found("UPDATE meta SET live_bytes = live_bytes + 1", "bytes in use");
    assert_found("UPDATE meta SET n_files = 7", "number of files");
    assert_found("UPDATE meta SET state_hash = state_hash + 1", "hashes");
    assert_found("INSERT INTO member VALUES(9, 'a:1', 2, 0)", "member 9 has the address");
    assert_found("UPDATE node SET nlink = 5 WHERE ino = 1", "inode 1 has nlink 5");
    assert_found("UPDATE node SET parent = 77 WHERE name = CAST('f' AS BLOB)", "not a directory");
    assert_found("UPDATE node SET parent = ino WHERE name = CAST('d' AS BLOB)", "not connected with the root");
    assert_found("UPDATE node SET mode = mode + 1 WHERE name = CAST('f' AS BLOB)", "other attributes");
    assert_found("UPDATE ver SET value = CAST('owe' AS BLOB) WHERE value = CAST('one' AS BLOB)", "not what was written");
    assert_found("UPDATE ver SET value = CAST('on' AS BLOB) WHERE value = CAST('one' AS BLOB)", "has not its size");
    assert_found("DELETE FROM big WHERE vid = (SELECT min(vid) FROM big)", "missing");
    assert_found("INSERT INTO big VALUES(1, x'00')", "large contents belong to no version");
    assert_found("DELETE FROM ver WHERE seq = (SELECT min(seq) FROM ver WHERE size > 4096)", "is missing");
    assert_found("UPDATE ver SET jver = jver + 1 WHERE jump > 0", "miscounted");
    assert_found("UPDATE ver SET jump = jump + 1 WHERE jump > 0", "leads nowhere");
    assert_found("UPDATE node SET jj = jj + 1, jjver = jjver + 1 WHERE jump > 0", "knows another jump pointer");
    assert_found("UPDATE ver SET prev = 1 WHERE prev = 0", "is missing");
    assert_found("UPDATE ver SET create_rev = create_rev + 1 WHERE seq = (SELECT min(prev) FROM ver WHERE prev > 0)", "cannot have been");
    assert_found("UPDATE ver SET name = x'7a' WHERE seq = (SELECT min(prev) FROM ver WHERE prev > 0)", "cannot have been");
    assert_found("UPDATE ver SET old_name = x'7a' WHERE op = 6", "cannot have been");
    assert_found("UPDATE ver SET mode = mode + 1 WHERE seq IN (SELECT prev FROM ver WHERE op IN (2, 6))", "cannot have been");
    assert_found("UPDATE ver SET hist = 0 WHERE hist > 9000", "goes back");
    assert_found("UPDATE meta SET hist_total = hist_total + 1", "superseded bytes");
    assert_found("INSERT INTO ver SELECT seq + 1, 44, op, 0, 0, 0, parent, name, old_parent, old_name, mode, uid, gid, mtime, ctime, 0, create_rev, "
                 "version, lease, vseq, chash, hist, w_member, w_uid, w_pid, w_comm, cause, xattr, NULL FROM ver ORDER BY seq DESC LIMIT 1", "belong to no inode");
    assert_found("UPDATE name_h SET to_rev = 99", "said to have lasted");
    assert_found("DELETE FROM name_h", "is missing or has not its time");
    assert_found("UPDATE name_h SET from_rev = from_rev - 1", "has not its time");
    assert_found("UPDATE name_h SET name = x'7a'", "is missing or has not its time");
    assert_found("INSERT INTO name_h SELECT 1, x'7a7a', 1, 2, ino FROM name_h LIMIT 1", "are recorded");
    assert_found("UPDATE name_h SET ino = 400", "of which nothing is left");
    assert_found("INSERT INTO name_h SELECT parent, name, 1, 90000, ino FROM node WHERE name = CAST('d' AS BLOB)", "two inodes");
    assert_found("INSERT INTO result VALUES(555, 1, 0, 0, 1, 0)", "no session");
    assert_found("UPDATE setting SET value = '3X' WHERE name = 'quota'", "setting \"quota\"");
    assert_found("DELETE FROM setting WHERE name = 'retain'", "settings");
    assert_found("DELETE FROM time", "time table is empty");
    assert_found("INSERT INTO stage VALUES(555, 0, 1, 0, x'00')", "no session");
    assert_found("INSERT INTO stage SELECT id, 1, 1, 0, x'00' FROM session", "lacks a part");
    assert_found("INSERT INTO stage SELECT id, 0, 1, 0, x'00' FROM session", "is not what was written");
    assert_found("INSERT INTO lease VALUES(1, 'x', 0, 1, 0, 1)", "lease 1, \"x\", cannot be");
    assert_found("UPDATE node SET lease = 5 WHERE name = CAST('f' AS BLOB)", "which there is not");
    assert_found("UPDATE node SET lease = 5 WHERE name = CAST('d' AS BLOB)", "no file");
    assert_found("INSERT INTO lock SELECT 1, 1, 0, x'61', id, 1, 1, 1, 0, 9223372036854775807, 1, member + 1, 0, 0, x'', 0, NULL FROM session", "of session");
    assert_found("INSERT INTO lock SELECT 1, 1, 0, x'2e', id, 1, 1, 1, 0, 9223372036854775807, 1, member, 0, 0, x'', 0, NULL FROM session", "of class");
    assert_found("INSERT INTO lock SELECT 1, 1, 0, x'61', id, 1, 1, 1, 0, 5, 1, member, 0, 0, x'', 0, NULL FROM session", "lock 1 cannot be");
    assert_found("INSERT INTO lock SELECT 1, 1, 0, x'61', id, 1, 1, 1, 0, 9223372036854775807, 1, member, 0, 0, x'', 7, x'41' FROM session", "not what was written");
    assert_found("INSERT INTO lock SELECT 1, 1, 0, x'61', id, 1, 1, 1, 0, 9223372036854775807, 0, member, 0, 0, x'', 0, NULL FROM session", "nothing is in its way");
    assert_found("INSERT INTO lock SELECT 1, 3, 9, x'', id, 1, 1, 1, 0, 5, 1, member, 0, 0, x'', 0, NULL FROM session; "
                 "INSERT INTO lock SELECT 2, 3, 9, x'', id, 2, 1, 0, 5, 6, 1, member, 0, 0, x'', 0, NULL FROM session", "held together");
    assert_found("DROP INDEX node_name; CREATE INDEX node_name ON node(parent, name); INSERT INTO node SELECT 4000, parent, name, born, mode, uid, gid, mtime, "
                 "ctime, size, create_rev, version, nlink, entries, lease, seq, vseq, chash, ord, jump, jver, jj, jjver, xattr FROM node WHERE "
                 "name = CAST('f' AS BLOB)", "damage");
}

static void a_damaged_content_is_an_error_and_not_other_bytes(void **state)
{
    struct kit *k = *state;
    struct buf b = {0};
    uint64_t ino;

    assert_int_equal(kit_put(k, ROOT, "f", "one"), 0);
    ino = k->res.ino;
    kit_close(k);
    sql(k, "UPDATE ver SET value = CAST('owe' AS BLOB) WHERE value = CAST('one' AS BLOB)");
    assert_int_equal(kit_open(k), 0);
    assert_int_equal(store_content(k->r, STORE_HEAD, ino, &b, NULL), QE_CORRUPT);
    assert_int_equal(b.len, 0);
    kit_close(k);
    sql(k, "UPDATE ver SET value = CAST('one' AS BLOB) WHERE value = CAST('owe' AS BLOB)");
    assert_int_equal(kit_open(k), 0);
    kit_assert_content(k, STORE_HEAD, ino, "one");
}

static void a_flipped_byte_of_the_database_is_refused_or_harmless(void **state)
{
    struct kit *k = *state;
    struct said said = {{0}};
    char path[256];
    struct stat st;
    int fd, refused = 0;

    for (int i = 0; i < 40; i++)
        assert_int_equal(kit_put(k, ROOT, i % 2 ? "f" : "g", "some text"), 0);
    kit_close(k);
    in_dir(k, "state-1.db", path);
    fd = open(path, O_RDWR);
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t at = 13; at < st.st_size; at += 97) {
        uint8_t was, now;
        struct store *s = NULL;
        struct store_reader *r = NULL;
        struct buf content = {0};
        struct store_attr a;

        assert_int_equal(pread(fd, &was, 1, at), 1);
        now = was ^ 0x10;
        assert_int_equal(pwrite(fd, &now, 1, at), 1);
        if (store_open(&(struct store_options){.dir = k->dir}, &s, NULL)) {
            refused++;
        } else { /* then the present is what it was */
            assert_int_equal(store_reader_open(s, &r), 0);
            if (store_lookup(r, STORE_HEAD, ROOT, "f", 1, &a) == 0 && store_content(r, STORE_HEAD, a.ino, &content, NULL) == 0)
                assert_string_equal(buf_cstr(&content), "some text");
            else
                refused++;
            store_reader_close(r);
            store_close(s);
        }
        buf_fini(&content);
        assert_int_equal(pwrite(fd, &was, 1, at), 1);
    }
    close(fd);
    assert_true(refused > 10);
    assert_int_equal(store_check(k->dir, keep_line, &said, NULL), 0);
    assert_int_equal(kit_open(k), 0);
}

static void check_finds_damaged_pages(void **state)
{
    struct kit *k = *state;
    struct said said = {{0}};
    char path[256], page[4096];
    int fd;

    for (int i = 0; i < 50; i++)
        assert_int_equal(kit_put(k, ROOT, "f", "some text"), 0);
    kit_close(k);
    in_dir(k, "state-1.db", path);
    fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, page, 4096, 3 * 4096), 4096);
    for (int i = 0; i < 4096; i += 7)
        page[i] ^= 0x55;
    assert_int_equal(pwrite(fd, page, 4096, 3 * 4096), 4096);
    assert_int_equal(store_check(k->dir, keep_line, &said, NULL), QE_CORRUPT);
    assert_non_null(strstr(said.text, "damage"));
    for (int i = 0; i < 4096; i += 7)
        page[i] ^= 0x55;
    assert_int_equal(pwrite(fd, page, 4096, 3 * 4096), 4096);
    close(fd);
    assert_int_equal(kit_open(k), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(an_interrupted_create_is_overwritten),
        KIT_TEST(what_was_applied_is_there_after_a_reopen),
        KIT_TEST(sync_names_what_is_durable),
        KIT_TEST(a_checkpoint_starts_the_wal_over),
        KIT_TEST(a_long_reader_holds_the_wal_back_up_to_its_hard_limit),
        KIT_TEST(create_does_not_touch_a_cluster_that_is_there),
        KIT_TEST(open_says_what_is_wrong),
        KIT_TEST(a_flipped_byte_of_current_is_noticed),
        KIT_TEST(check_finds_damage_and_names_it),
        KIT_TEST(a_damaged_content_is_an_error_and_not_other_bytes),
        KIT_TEST(a_flipped_byte_of_the_database_is_refused_or_harmless),
        KIT_TEST(check_finds_damaged_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
