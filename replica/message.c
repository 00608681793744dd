/* message: what members say to each other beside libraft, handed to the file that understands it. Raft loop only. */
#include <string.h>

#include "replica/member.h"
#include "replica/peer.h"

int member_send(struct replica *r, uint32_t to, const Qfs__PeerMessage *m, const void *payload, size_t len)
{
    return r->network.peers ? peer_send(r->network.peers, to, m, payload, len) : QE_AGAIN;
}

void member_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len)
{
    if (forward_message(r, from, m, payload, len) || change_message(r, from, m) || standing_message(r, from, m) ||
        copy_message(r, &(struct copy_asker){.member = from}, m) || install_message(r, from, m, payload, len))
        return;
    if (!keepalive_message(r, from, m) && !rounds_message(r, from, m))
        barrier_message(r, from, m);
}
