/* README: the control tree on one screen. */
#include <string.h>

#include "fs/control/tree.h"

static const char text[] =
    "This is the control tree of quorumfs. Reading changes nothing. See quorumfs(5).\n"
    "\n"
    "  status       facts about this member, `name: value` lines (status.json: the same as JSON)\n"
    "  health       `ok`, or a line for each thing that is wrong\n"
    "  metrics      counters and durations in Prometheus' text format\n"
    "  revision     the current revision of the tree; hash: `REVISION HASH` of this member's state, the same on all members\n"
    "  leader       the id of the member that leads; root may write another one:  echo 2 > leader\n"
    "  members/N/   a member: address, role, state, applied, lag; root may write role, and rmdir removes the member\n"
    "  config/NAME  a setting; root may write those of the cluster:  echo 4G > config/quota\n"
    "  locks/NAME   exec 9> locks/NAME waits until it is held; what is written is its value; cat: who leads; exec 9>&-: resigns\n"
    "  local/       the tree as this member has it, read-only, without asking anybody\n"
    "  at/REV/      the whole tree as of a revision, read-only; at/2026-11-22T10:00:00Z and at/head-1 lead to one\n"
    "  history/PATH/  each retained version of that name: REV, REV.deleted, whatever is there now; a directory lists names it has or had\n"
    "  watch/PATH/.events      each change of PATH and below, as it happens, a line: REVISION EVENT PATH; PATH may be anything\n"
    "  since/REV/PATH/.events  the same from a revision on; resume with the last one you have handled\n"
    "  snapshot.db  a copy of the whole at one revision: cp it; quorumfs init DIR --from COPY begins with it; sqlite3 opens COPY\n"
    "  txn/NAME/    a transaction: mkdir begins it; change its tree/, which is private; echo > commit: all in one revision or nothing;\n"
    "               status says which; `exists PATH`, `version PATH = N` and others in require; rmdir abandons it\n"
    "  leases/NAME/ mkdir grants a lease (60 s; ttl); touch, or an open `alive`, renews it; what is put below keys/ goes with it\n"
    "  compact      the revision up to which history is forgotten; root may write a later one\n"
    "  bookmarks/NAME/revision  holds that back for a slow reader: mkdir bookmarks/NAME, then write where you are\n"
    "\n"
    "A write is one or more whole lines, each a command; write(2) itself says whether it took effect.\n"
    "About a file:  getfattr --only-values -n user.quorum FILE\n";

int control__read_readme(struct fs *fs, const char *child, struct buf *out)
{
    (void)fs, (void)child;
    return buf_append(out, text, strlen(text));
}
