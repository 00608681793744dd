-- The tables of a store. "replicated": the same on every member after the same log entries, and covered by the state hash unless
-- it follows from what is. "local": this member's own bookkeeping; may differ between members and is never hashed.
--
-- A seq is revision << 20 | position within the revision. An inode number is n * 4 + kind (0 file, 1 directory, 2 symlink).
-- All times are nanoseconds since 1970; all names, targets and contents are BLOBs: bytes, never text.

-- One row; written once in each SQLite transaction.
CREATE TABLE meta(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  format INTEGER NOT NULL,        -- local: layout of this file; a program refuses a number above the one it knows
  cluster_id BLOB NOT NULL,       -- replicated: 16 random bytes, the same in every log entry
  epoch INTEGER NOT NULL,         -- local: pairs this database with its raft directory
  applied INTEGER NOT NULL,       -- local: index of the last log entry that is in this database
  term INTEGER NOT NULL,          -- local: its term
  crc INTEGER NOT NULL,           -- local: CRC32C of its payload, 0 when it had none
  rev INTEGER NOT NULL,           -- replicated: newest revision
  time INTEGER NOT NULL,          -- replicated: the leader's wall clock at the newest entry, made never to go back
  compacted INTEGER NOT NULL,     -- replicated: reads below this revision are refused
  next_ino INTEGER NOT NULL,      -- replicated: first n that no session has reserved
  next_member INTEGER NOT NULL,   -- replicated: above the id of every member that there ever was
  live_bytes INTEGER NOT NULL,    -- replicated: what quota limits: 64 + name + content + xattrs of each live entry
  n_files INTEGER NOT NULL,       -- replicated: live regular files
  n_dirs INTEGER NOT NULL,        -- replicated: live directories, the root among them
  n_symlinks INTEGER NOT NULL,    -- replicated: live symbolic links
  hist_total INTEGER NOT NULL,    -- replicated: bytes of all versions that were ever superseded
  hist_base INTEGER NOT NULL,     -- replicated: hist_total as it was at revision `compacted`
  state_hash INTEGER NOT NULL,    -- replicated: sum of the row hashes, modulo 2^64
  compact_from INTEGER NOT NULL,  -- local: revision up to which superseded versions have been deleted
  compact_to INTEGER NOT NULL,    -- local: target of the deletion under way; compact_from when there is none
  compact_pos INTEGER NOT NULL    -- local: next seq that the deletion under way looks at
) STRICT;

-- Current state, one row an inode. A deleted inode keeps its row, with parent and name NULL, until compaction has passed its end.
CREATE TABLE node(
  ino INTEGER PRIMARY KEY,        -- replicated
  parent INTEGER,                 -- replicated: inode of the directory; 0 for the root, NULL when deleted
  name BLOB,                      -- replicated: name in it; empty for the root, NULL when deleted
  born INTEGER NOT NULL,          -- replicated: revision at which this name was bound to this inode
  mode INTEGER NOT NULL,          -- replicated: permission bits, 07777
  uid INTEGER NOT NULL,           -- replicated
  gid INTEGER NOT NULL,           -- replicated
  mtime INTEGER NOT NULL,         -- replicated
  ctime INTEGER NOT NULL,         -- replicated
  size INTEGER NOT NULL,          -- replicated: bytes of content or of a symlink's target
  create_rev INTEGER NOT NULL,    -- replicated: revision that made it
  version INTEGER NOT NULL,       -- replicated: commits since then, 1 at creation
  nlink INTEGER NOT NULL,         -- replicated: 1, for a directory 2 + its subdirectories, 0 when deleted
  entries INTEGER NOT NULL,       -- replicated: revision at which an entry of this directory last came, went or changed its name; else 0
  lease INTEGER,                  -- replicated: lease it is attached to; NULL: none
  seq INTEGER NOT NULL,           -- replicated: its newest row in ver
  vseq INTEGER NOT NULL,          -- replicated: seq of the version that wrote its content; names the content
  chash INTEGER NOT NULL,         -- replicated: XXH3 of the content
  ord INTEGER NOT NULL,           -- local: how many rows of ver it has ever had
  jump INTEGER NOT NULL,          -- local: jump pointer of its newest row in ver
  jver INTEGER NOT NULL,          -- local: ordinal of the row that jump points to
  jj INTEGER NOT NULL,            -- local: jump pointer of that row
  jjver INTEGER NOT NULL,         -- local: ordinal of the row that jj points to
  xattr BLOB                      -- replicated: encoded extended attributes; NULL: none
) STRICT;
CREATE UNIQUE INDEX node_name ON node(parent, name); -- the NULLs of deleted inodes do not collide
CREATE INDEX node_lease ON node(lease, ino) WHERE lease IS NOT NULL;

-- Append-only: history and event feed in one. A row is the state of an inode from its revision on, until the inode's next row.
CREATE TABLE ver(
  seq INTEGER PRIMARY KEY,        -- replicated: revision << 20 | position
  ino INTEGER NOT NULL,           -- replicated
  op INTEGER NOT NULL,            -- replicated: enum store_event_op, what happened
  prev INTEGER NOT NULL,          -- replicated: the inode's row before; 0: none; may have been compacted
  jump INTEGER NOT NULL,          -- local: an older row of the inode, far back (skew-binary list); 0: none
  jver INTEGER NOT NULL,          -- local: ordinal of that row
  parent INTEGER NOT NULL,        -- replicated: binding from this revision on; of a deletion: the binding that ended
  name BLOB NOT NULL,             -- replicated
  old_parent INTEGER,             -- replicated: rename: the binding that ended; else NULL
  old_name BLOB,                  -- replicated
  mode INTEGER NOT NULL,          -- replicated, as in node from here on
  uid INTEGER NOT NULL,
  gid INTEGER NOT NULL,
  mtime INTEGER NOT NULL,
  ctime INTEGER NOT NULL,
  size INTEGER NOT NULL,
  create_rev INTEGER NOT NULL,
  version INTEGER NOT NULL,
  lease INTEGER,
  vseq INTEGER NOT NULL,          -- replicated: content is in big(vid = vseq) when size > 4096, else in `value` of this very row
  chash INTEGER NOT NULL,         -- replicated: XXH3 of the content; a reader compares
  hist INTEGER NOT NULL,          -- replicated: meta.hist_total after this row; finds what a compaction frees
  w_member INTEGER NOT NULL,      -- replicated: who made the last commit: member,
  w_uid INTEGER NOT NULL,         --   user,
  w_pid INTEGER NOT NULL,         --   process
  w_comm BLOB NOT NULL,           --   and its command name
  cause TEXT,                     -- replicated: why, when it was not a plain call; NULL: it was
  xattr BLOB,                     -- replicated, as in node
  value BLOB                      -- replicated: content up to 4096 bytes; last, so that attributes are read without it
) STRICT;

-- Contents above 4096 bytes: attribute changes and renames share them instead of copying.
CREATE TABLE big(
  vid INTEGER PRIMARY KEY,        -- replicated: seq of the version that wrote it
  data BLOB NOT NULL              -- replicated
) STRICT;

-- Bindings that ended, written by deletion and rename: what an old revision's directory lists besides node.
CREATE TABLE name_h(
  parent INTEGER NOT NULL,        -- replicated
  name BLOB NOT NULL,             -- replicated
  from_rev INTEGER NOT NULL,      -- replicated: bound from this revision
  to_rev INTEGER NOT NULL,        -- replicated: up to, but not in, this one
  ino INTEGER NOT NULL,           -- replicated
  PRIMARY KEY(parent, name, from_rev)
) STRICT, WITHOUT ROWID;

-- Which revision was the newest at a time; a row at most each 100 ms of the leader's clock.
CREATE TABLE time(
  t INTEGER PRIMARY KEY,          -- replicated: meta.time
  rev INTEGER NOT NULL            -- replicated: meta.rev after that entry
) STRICT;

-- Who may propose commands. The newest kept result tells the last sequence number and what was acknowledged.
CREATE TABLE session(
  id INTEGER PRIMARY KEY,         -- replicated: index of the entry that made it
  member INTEGER NOT NULL,        -- replicated: whose; a member has one
  nonce INTEGER NOT NULL          -- replicated: of the command that made it, which may come again; grows from one to the next
) STRICT;

-- Results that their session has not acknowledged: the answers to repeated commands.
CREATE TABLE result(
  session INTEGER NOT NULL,       -- replicated
  seq INTEGER NOT NULL,           -- replicated: the command's number in the session
  acked INTEGER NOT NULL,         -- replicated: the session's results up to here are no longer kept
  err INTEGER NOT NULL,           -- replicated: 0 or a user's error code
  rev INTEGER NOT NULL,           -- replicated
  ino INTEGER NOT NULL,           -- replicated
  PRIMARY KEY(session, seq)
) STRICT, WITHOUT ROWID;

-- Parts of transactions that are larger than a log entry may be, until the command that makes them take effect; a session has one.
CREATE TABLE stage(
  session INTEGER NOT NULL,       -- replicated: whose
  part INTEGER NOT NULL,          -- replicated: 0, 1, ...
  id INTEGER NOT NULL,            -- replicated: which transaction; the same in all parts
  hash INTEGER NOT NULL,          -- replicated: XXH3 of data
  data BLOB NOT NULL,             -- replicated: an encoded command
  PRIMARY KEY(session, part)
) STRICT, WITHOUT ROWID;

-- Cluster settings, canonical text. All of them have a row.
CREATE TABLE setting(
  name TEXT PRIMARY KEY,          -- replicated
  value TEXT NOT NULL             -- replicated
) STRICT, WITHOUT ROWID;

-- The members of the cluster. Which of them vote at the moment is raft's business; here is what they are to be.
CREATE TABLE member(
  id INTEGER PRIMARY KEY,         -- replicated: raft's number of the member; never given to another one
  address TEXT NOT NULL,          -- replicated: host:port at which the others reach it; empty: it has no network
  role INTEGER NOT NULL,          -- replicated: enum store_member_role: what it is to be
  nonce INTEGER NOT NULL          -- replicated: chosen by who asked for it, so that asking twice adds one; 0: there from the start
) STRICT;

-- How far slow consumers of the history have come.
CREATE TABLE bookmark(
  name TEXT PRIMARY KEY,          -- replicated
  owner INTEGER NOT NULL,         -- replicated: uid
  rev INTEGER NOT NULL            -- replicated: a consumer has handled everything up to here
) STRICT, WITHOUT ROWID;

-- What files are attached to, and goes unless it is kept alive. Files say so in node.lease.
CREATE TABLE lease(
  id INTEGER PRIMARY KEY,         -- replicated: the revision that granted it; never given to another one
  name TEXT NOT NULL UNIQUE,      -- replicated
  owner INTEGER NOT NULL,         -- replicated: uid
  ttl INTEGER NOT NULL,           -- replicated: ns
  remaining INTEGER NOT NULL,     -- replicated: ns that were left when the lessor wrote it down; 0: the whole ttl; 1: its end has begun
  renewed INTEGER NOT NULL        -- replicated: index of the log entry that granted it or changed its ttl last
) STRICT;

-- Locks, held and waited for, in the order of arrival. A thing is (class, ino, name).
CREATE TABLE lock(
  id INTEGER PRIMARY KEY,         -- replicated: order of arrival
  class INTEGER NOT NULL,         -- replicated: enum store_lock_class
  ino INTEGER NOT NULL,           -- replicated: the inode; 0: a named lock
  name BLOB NOT NULL,             -- replicated: of a named lock; else empty
  session INTEGER NOT NULL,       -- replicated: who: the session,
  owner INTEGER NOT NULL,         -- replicated: an owner of locks in it,
  request INTEGER NOT NULL,       -- replicated: and what the session calls this one
  exclusive INTEGER NOT NULL,     -- replicated: 1, or 0: shared
  first INTEGER NOT NULL,         -- replicated: byte range, for all classes
  last INTEGER NOT NULL,          -- replicated: both included
  token INTEGER NOT NULL,         -- replicated: the revision at which it was won; 0: it waits
  member INTEGER NOT NULL,        -- replicated: for people: member,
  uid INTEGER NOT NULL,           -- replicated:   user,
  pid INTEGER NOT NULL,           -- replicated:   process
  comm BLOB NOT NULL,             -- replicated:   and its command name
  vhash INTEGER NOT NULL,         -- replicated: XXH3 of value
  value BLOB                      -- replicated: what the holder of a named lock proclaims; NULL: nothing
) STRICT;
CREATE INDEX lock_thing ON lock(class, ino, name, id);
CREATE INDEX lock_session ON lock(session, owner, id);

-- For people who open a copy (.quorum/snapshot.db) with sqlite3: documented in quorumfs(5). The store itself never uses them.

-- The tree as it is: one row a file, directory or symbolic link; content is a link's target.
CREATE VIEW files AS
  WITH RECURSIVE tree(ino, path) AS (
    SELECT 1, '' UNION ALL SELECT n.ino, t.path || '/' || CAST(n.name AS TEXT) FROM tree t JOIN node n ON n.parent = t.ino)
  SELECT iif(t.path = '', '/', t.path) AS path,
         CASE n.ino & 3 WHEN 0 THEN 'file' WHEN 1 THEN 'directory' ELSE 'symlink' END AS type,
         n.mode AS mode, n.uid AS uid, n.gid AS gid, n.mtime / 1e9 AS mtime, n.size AS size,
         n.seq >> 20 AS mod_revision, n.create_rev AS create_revision, n.version AS version,
         CASE WHEN n.ino & 3 = 1 THEN NULL WHEN n.size > 4096 THEN (SELECT data FROM big WHERE vid = n.vseq)
              ELSE coalesce((SELECT value FROM ver WHERE seq = n.seq), x'') END AS content,
         n.ino AS inode
  FROM tree t JOIN node n ON n.ino = t.ino;
-- What happened, as far as it is kept: one row a change, in order. `directory` is the inode of the directory that has (or had) the name.
CREATE VIEW history AS
  SELECT v.seq >> 20 AS revision,
         CASE v.op WHEN 1 THEN 'put' WHEN 2 THEN 'delete' WHEN 3 THEN 'mkdir' WHEN 4 THEN 'rmdir' WHEN 5 THEN 'symlink' WHEN 6 THEN 'rename'
              ELSE 'attrib' END AS event,
         v.parent AS directory, CAST(v.name AS TEXT) AS name, v.old_parent AS old_directory, CAST(v.old_name AS TEXT) AS old_name,
         v.ino AS inode, v.mode AS mode, v.uid AS uid, v.gid AS gid, v.mtime / 1e9 AS mtime, v.size AS size, v.version AS version,
         v.cause AS cause, v.w_member AS writer_member, v.w_uid AS writer_uid, v.w_pid AS writer_pid, CAST(v.w_comm AS TEXT) AS writer_command,
         CASE WHEN v.size > 4096 THEN (SELECT data FROM big WHERE vid = v.vseq) ELSE v.value END AS content
  FROM ver v ORDER BY v.seq;
