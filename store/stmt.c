#include "store/stmt.h"

/* The columns of a state, in the order of node__attr_from_row. */
#define ATTR_COLUMNS "ino, parent, mode, uid, gid, mtime, ctime, size, create_rev, version, seq, vseq, chash, lease"
#define VER_COLUMNS \
    "seq, ino, op, prev, jump, jver, parent, name, old_parent, old_name, mode, uid, gid, mtime, ctime, size, create_rev, version, " \
    "vseq, chash, hist, xattr, cause, lease, w_member, w_uid, w_pid, w_comm, value"
#define VER_VALUES "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24"

#define LEASE_COLUMNS "id, name, owner, ttl, remaining, renewed"
#define LOCK_COLUMNS "id, session, owner, request, exclusive, first, last, token, member, uid, pid, comm, vhash"

enum { READ = 0, WRITE = 1 };

const struct stmt_def stmt_defs[STMT_N] = {
    [STMT_BEGIN_WRITE] = {"BEGIN IMMEDIATE", WRITE},
    [STMT_BEGIN_READ] = {"BEGIN", READ},
    [STMT_COMMIT] = {"COMMIT", READ},
    [STMT_ROLLBACK] = {"ROLLBACK", READ},
    [STMT_SAVEPOINT] = {"SAVEPOINT command", WRITE},
    [STMT_RELEASE] = {"RELEASE command", WRITE},
    [STMT_ROLLBACK_TO] = {"ROLLBACK TO command", WRITE},

    [STMT_META_GET] = {"SELECT format, cluster_id, epoch, applied, term, crc, rev, time, compacted, next_ino, live_bytes, n_files, n_dirs, "
                       "n_symlinks, hist_total, hist_base, state_hash, compact_from, compact_to, compact_pos, next_member FROM meta WHERE id = 1", READ},
    [STMT_META_SET] = {"UPDATE meta SET applied = ?1, term = ?2, crc = ?3, rev = ?4, time = ?5, compacted = ?6, next_ino = ?7, "
                       "live_bytes = ?8, n_files = ?9, n_dirs = ?10, n_symlinks = ?11, hist_total = ?12, hist_base = ?13, state_hash = ?14, "
                       "compact_from = ?15, compact_to = ?16, compact_pos = ?17, next_member = ?18 WHERE id = 1", WRITE},
    [STMT_META_SPAN] = {"SELECT rev, compacted FROM meta WHERE id = 1", READ},
    [STMT_META_TIME] = {"SELECT time FROM meta WHERE id = 1", READ},

    [STMT_NODE_GET] = {"SELECT parent, name, born, mode, uid, gid, mtime, ctime, size, create_rev, version, nlink, seq, vseq, chash, "
                       "ord, jump, jver, jj, jjver, xattr, entries, lease FROM node WHERE ino = ?1", WRITE},
    [STMT_NODE_ATTR] = {"SELECT " ATTR_COLUMNS ", nlink FROM node WHERE ino = ?1", READ},
    [STMT_NODE_XATTR] = {"SELECT xattr FROM node WHERE ino = ?1 AND parent IS NOT NULL", READ},
    [STMT_NODE_BY_NAME] = {"SELECT ino FROM node WHERE parent = ?1 AND name = ?2", READ},
    [STMT_NODE_BORN_BY] = {"SELECT ino FROM node WHERE parent = ?1 AND name = ?2 AND born <= ?3", READ},
    [STMT_NODE_ENTRIES] = {"SELECT entries FROM node WHERE ino = ?1 AND parent IS NOT NULL", WRITE},
    [STMT_NODE_SEQ] = {"SELECT seq FROM node WHERE ino = ?1", READ},
    [STMT_NODE_NAME] = {"SELECT parent, name FROM node WHERE ino = ?1", READ},
    [STMT_NODE_HAS_CHILD] = {"SELECT 1 FROM node WHERE parent = ?1 LIMIT 1", WRITE},
    [STMT_NODE_INSERT] = {"INSERT INTO node(ino, mode, uid, gid, mtime, ctime, size, create_rev, version, nlink, seq, vseq, chash, ord, jump, "
                          "jver, jj, jjver, xattr, lease, parent, name, born, entries) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, "
                          "?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, 0)", WRITE},
    [STMT_NODE_UPDATE] = {"UPDATE node SET mode = ?2, uid = ?3, gid = ?4, mtime = ?5, ctime = ?6, size = ?7, create_rev = ?8, version = ?9, "
                          "nlink = ?10, seq = ?11, vseq = ?12, chash = ?13, ord = ?14, jump = ?15, jver = ?16, jj = ?17, jjver = ?18, "
                          "xattr = ?19, lease = ?20 WHERE ino = ?1", WRITE},
    [STMT_NODE_BIND] = {"UPDATE node SET parent = ?2, name = ?3, born = ?4 WHERE ino = ?1", WRITE},
    [STMT_NODE_TOUCH] = {"UPDATE node SET mtime = ?2, ctime = ?3, nlink = ?4, entries = ?5 WHERE ino = ?1", WRITE},
    [STMT_NODE_DELETE] = {"DELETE FROM node WHERE ino = ?1 AND parent IS NULL", WRITE},

    [STMT_VER_INSERT] = {"INSERT INTO ver(" VER_COLUMNS ") VALUES(" VER_VALUES ", ?25, ?26, ?27, ?28, ?29)", WRITE},
    /* The new row keeps content and writer of the row before. */
    [STMT_VER_CARRY] = {"INSERT INTO ver(" VER_COLUMNS ") SELECT " VER_VALUES ", w_member, w_uid, w_pid, w_comm, value FROM ver "
                        "WHERE seq = ?4", WRITE},
    [STMT_VER_LINKS] = {"SELECT prev, jump, jver FROM ver WHERE seq = ?1", READ},
    [STMT_VER_ATTR] = {"SELECT " ATTR_COLUMNS ", op FROM ver WHERE seq = ?1", READ},
    [STMT_VER_DIR] = {"SELECT parent, name, mode, uid, gid FROM ver WHERE seq = ?1", READ},
    [STMT_VER_VALUE] = {"SELECT value FROM ver WHERE seq = ?1", READ},
    [STMT_VER_XATTR] = {"SELECT xattr FROM ver WHERE seq = ?1", READ},
    [STMT_VER_WRITER] = {"SELECT w_member, w_uid, w_pid, w_comm FROM ver WHERE seq = ?1", READ},
    [STMT_VER_HIST] = {"SELECT seq, hist FROM ver WHERE seq < ?1 ORDER BY seq DESC LIMIT 1", READ},
    [STMT_VER_SCAN] = {"SELECT seq, ino, op, prev, vseq, size, parent, name, old_parent, old_name FROM ver WHERE seq >= ?1 AND seq < ?2 "
                       "ORDER BY seq LIMIT ?3", WRITE},
    [STMT_VER_DELETE] = {"DELETE FROM ver WHERE seq = ?1 RETURNING vseq, size", WRITE},
    [STMT_VER_VSEQ] = {"SELECT vseq FROM ver WHERE seq = ?1", READ},
    [STMT_EVENTS] = {"SELECT seq, op, ino, parent, name, old_parent, old_name, cause, create_rev, version FROM ver WHERE seq >= ?1 ORDER BY seq", READ},

    [STMT_BIG_INSERT] = {"INSERT INTO big(vid, data) VALUES(?1, ?2)", WRITE},
    [STMT_BIG_GET] = {"SELECT data FROM big WHERE vid = ?1", READ},
    [STMT_BIG_DELETE] = {"DELETE FROM big WHERE vid = ?1", WRITE},

    [STMT_NAMEH_INSERT] = {"INSERT INTO name_h(parent, name, from_rev, to_rev, ino) VALUES(?1, ?2, ?3, ?4, ?5)", WRITE},
    /* Bindings of a name do not overlap: only the newest one that had begun can be the one. A name may have had many. */
    [STMT_NAMEH_GET] = {"SELECT ino FROM (SELECT ino, to_rev FROM name_h WHERE parent = ?1 AND name = ?2 AND from_rev <= ?3 ORDER BY from_rev DESC "
                        "LIMIT 1) WHERE to_rev > ?3", READ},
    [STMT_NAMEH_PRUNE] = {"DELETE FROM name_h WHERE parent = ?1 AND name = ?2 AND from_rev < ?3 AND to_rev <= ?3", WRITE},
    /* Bindings that began before ?3; ?4: of directories only. */
    [STMT_PAST_NOW] = {"SELECT ino, born, 9223372036854775807 FROM node WHERE parent = ?1 AND name = ?2 AND born < ?3 AND (?4 = 0 OR ino & 3 = 1)", READ},
    [STMT_PAST_ENDED] = {"SELECT ino, from_rev, to_rev FROM name_h WHERE parent = ?1 AND name = ?2 AND from_rev < ?3 AND (?4 = 0 OR ino & 3 = 1) "
                         "ORDER BY from_rev DESC LIMIT 1", READ},
    /* Names bound before ?3 and still after ?4. */
    [STMT_PAST_NAMES_NOW] = {"SELECT name FROM node WHERE parent = ?1 AND name > ?2 AND born < ?3 AND ?4 >= 0 ORDER BY name LIMIT ?5", READ},
    [STMT_PAST_NAMES_ENDED] = {"SELECT DISTINCT name FROM name_h WHERE parent = ?1 AND name > ?2 AND from_rev < ?3 AND to_rev > ?4 ORDER BY name "
                               "LIMIT ?5", READ},
    [STMT_LIST_NOW] = {"SELECT name, ino FROM node WHERE parent = ?1 AND name > ?2 ORDER BY name", READ},
    [STMT_LIST_AT] = {"SELECT name, ino FROM node WHERE parent = ?1 AND name > ?2 AND born <= ?3 UNION ALL "
                      "SELECT name, ino FROM name_h WHERE parent = ?1 AND name > ?2 AND from_rev <= ?3 AND to_rev > ?3 ORDER BY name", READ},

    [STMT_SESSION_ALL] = {"SELECT id, member, nonce FROM session ORDER BY id", READ},
    [STMT_SESSION_INSERT] = {"INSERT INTO session(id, member, nonce) VALUES(?1, ?2, ?3)", WRITE},
    [STMT_SESSION_DELETE] = {"DELETE FROM session WHERE id = ?1", WRITE},
    [STMT_RESULT_ALL] = {"SELECT session, seq, acked, err, rev, ino FROM result ORDER BY session, seq", WRITE},
    [STMT_RESULT_INSERT] = {"INSERT INTO result(session, seq, acked, err, rev, ino) VALUES(?1, ?2, ?3, ?4, ?5, ?6)", WRITE},
    [STMT_RESULT_PRUNE] = {"DELETE FROM result WHERE session = ?1 AND seq < ?2", WRITE},

    [STMT_STAGE_ALL] = {"SELECT session, id, max(part), sum(length(data)) FROM stage GROUP BY session", WRITE},
    [STMT_STAGE_INSERT] = {"INSERT INTO stage(session, part, id, hash, data) VALUES(?1, ?2, ?3, ?4, ?5)", WRITE},
    [STMT_STAGE_GET] = {"SELECT data, hash FROM stage WHERE session = ?1 AND part = ?2", WRITE},
    [STMT_STAGE_HASHES] = {"SELECT session, part, id, hash FROM stage WHERE session = ?1", WRITE},
    [STMT_STAGE_DELETE] = {"DELETE FROM stage WHERE session = ?1", WRITE},

    [STMT_SETTING_GET] = {"SELECT value FROM setting WHERE name = ?1", READ},
    [STMT_SETTING_SET] = {"INSERT OR REPLACE INTO setting(name, value) VALUES(?1, ?2)", WRITE},

    [STMT_MEMBER_ALL] = {"SELECT id, address, role, nonce FROM member ORDER BY id", READ},
    [STMT_MEMBER_GET] = {"SELECT address, role, nonce FROM member WHERE id = ?1", WRITE},
    [STMT_MEMBER_BY_NONCE] = {"SELECT id FROM member WHERE nonce = ?1", WRITE},
    [STMT_MEMBER_COUNT] = {"SELECT count(*), count(*) FILTER (WHERE role = ?1) FROM member", WRITE},
    [STMT_MEMBER_SET] = {"INSERT OR REPLACE INTO member(id, address, role, nonce) VALUES(?1, ?2, ?3, ?4)", WRITE},
    [STMT_MEMBER_DELETE] = {"DELETE FROM member WHERE id = ?1", WRITE},

    [STMT_BOOKMARK_ALL] = {"SELECT name, owner, rev FROM bookmark ORDER BY name", READ},
    [STMT_BOOKMARK_GET] = {"SELECT owner, rev FROM bookmark WHERE name = ?1", READ},
    [STMT_BOOKMARK_SET] = {"INSERT OR REPLACE INTO bookmark(name, owner, rev) VALUES(?1, ?2, ?3)", WRITE},
    [STMT_BOOKMARK_DELETE] = {"DELETE FROM bookmark WHERE name = ?1", WRITE},
    [STMT_BOOKMARK_LOWEST] = {"SELECT min(rev) FROM bookmark WHERE rev >= ?1", WRITE},
    [STMT_BOOKMARK_PASSED] = {"SELECT count(*) FROM bookmark WHERE rev >= ?1 AND rev < ?2", WRITE},

    [STMT_LEASE_GET] = {"SELECT " LEASE_COLUMNS " FROM lease WHERE id = ?1", READ},
    [STMT_LEASE_BY_NAME] = {"SELECT " LEASE_COLUMNS " FROM lease WHERE name = ?1", READ},
    [STMT_LEASE_LIST] = {"SELECT " LEASE_COLUMNS " FROM lease WHERE name > ?1 ORDER BY name", READ},
    [STMT_LEASE_SET] = {"INSERT OR REPLACE INTO lease(" LEASE_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6)", WRITE},
    [STMT_LEASE_DELETE] = {"DELETE FROM lease WHERE id = ?1", WRITE},
    [STMT_LEASE_COUNT] = {"SELECT count(*) FROM lease", WRITE},
    [STMT_LEASE_OWNERS] = {"SELECT owner, count(*) FROM lease GROUP BY owner", WRITE},
    [STMT_LEASE_FILES] = {"SELECT ino FROM node WHERE lease = ?1 AND ino > ?2 ORDER BY ino LIMIT ?3", READ},
    [STMT_LEASE_FILES_COUNT] = {"SELECT count(*) FROM node WHERE lease = ?1", READ},

    [STMT_LOCK_THING] = {"SELECT " LOCK_COLUMNS " FROM lock WHERE class = ?1 AND ino = ?2 AND name = ?3 ORDER BY id", READ},
    [STMT_LOCK_LAST] = {"SELECT max(id) FROM lock", WRITE},
    [STMT_LOCK_COUNT] = {"SELECT count(*), count(*) FILTER (WHERE token > 0) FROM lock", WRITE},
    [STMT_LOCK_OWNERS] = {"SELECT uid, count(*) FROM lock GROUP BY uid", WRITE},
    [STMT_LOCK_INSERT] = {"INSERT INTO lock(" LOCK_COLUMNS ", class, ino, name) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, "
                          "?14, ?15, ?16)", WRITE},
    [STMT_LOCK_UPDATE] = {"UPDATE lock SET request = ?2, first = ?3, last = ?4, token = ?5, vhash = ?6 WHERE id = ?1", WRITE},
    [STMT_LOCK_VALUE_SET] = {"UPDATE lock SET value = ?2 WHERE id = ?1", WRITE},
    [STMT_LOCK_DELETE] = {"DELETE FROM lock WHERE id = ?1", WRITE},
    [STMT_LOCK_THINGS_OF] = {"SELECT DISTINCT class, ino, name FROM lock WHERE session = ?1 ORDER BY class, ino, name", WRITE},
    [STMT_LOCK_WAITS_OF] = {"SELECT id, ino FROM lock WHERE session = ?1 AND owner = ?2 AND token = 0 AND class = ?3 ORDER BY id", WRITE},
    /* The first holder of a named lock. */
    [STMT_LOCK_HOLDER] = {"SELECT " LOCK_COLUMNS ", value FROM lock WHERE class = 1 AND ino = 0 AND name = ?1 AND token > 0 ORDER BY id LIMIT 1", READ},
    [STMT_LOCK_WAITING] = {"SELECT count(*) FROM lock WHERE class = 1 AND ino = 0 AND name = ?1 AND token = 0", READ},
    [STMT_LOCK_TOKEN] = {"SELECT 1 FROM lock WHERE class = 1 AND ino = 0 AND name = ?1 AND token = ?2", WRITE},
    [STMT_LOCK_HOLDS] = {"SELECT 1 FROM lock WHERE class = ?1 AND ino = ?2 AND name = x'' AND session = ?3 AND owner = ?4 AND token <> 0 LIMIT 1", WRITE},
    [STMT_LOCK_NAMES] = {"SELECT DISTINCT name FROM lock WHERE class = 1 AND ino = 0 AND name > ?1 ORDER BY name", READ},
    [STMT_LOCK_OF] = {"SELECT " LOCK_COLUMNS ", class, ino, name FROM lock WHERE session = ?1 ORDER BY id", READ},
    [STMT_LOCK_ALL] = {"SELECT " LOCK_COLUMNS ", class, ino, name FROM lock ORDER BY id", READ},

    /* The leader's clock may stand still: then the newest revision counts. */
    [STMT_TIME_SET] = {"INSERT INTO time(t, rev) VALUES(?1, ?2) ON CONFLICT(t) DO UPDATE SET rev = ?2", WRITE},
    [STMT_TIME_NEWEST] = {"SELECT max(t), max(rev) FROM time", WRITE},
    [STMT_TIME_REV_AT] = {"SELECT rev FROM time WHERE t <= ?1 ORDER BY t DESC LIMIT 1", READ},
    /* The time of the newest row among the ?1 oldest. */
    [STMT_TIME_OLDEST] = {"SELECT max(t), max(rev) FROM (SELECT t, rev FROM time ORDER BY t LIMIT ?1)", WRITE},
    [STMT_TIME_PRUNE] = {"DELETE FROM time WHERE t < ?1", WRITE},
    /* rev grows with t. */
    [STMT_TIME_PRUNE_TO] = {"DELETE FROM time WHERE t < (SELECT max(t) FROM (SELECT t, rev FROM time ORDER BY t LIMIT ?2) WHERE rev <= ?1)", WRITE},
};
