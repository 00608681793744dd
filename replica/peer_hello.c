/* The handshake: who may speak with whom. The caller says who it is (Hello), the other side who it is and whether it wants to hear
 * from that (Welcome). Both check the other. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "replica/address.h"
#include "replica/peer_internal.h"
#include "store/base/err.h"
#include "store/base/log.h"

/* Where others reach us: what we advertise, or listen on, unless that is "all addresses". */
static void own_address(struct peers *p, char out[PEER_ADDRESS_SIZE])
{
    struct sockaddr_storage sa;
    struct address a;

    snprintf(out, PEER_ADDRESS_SIZE, "%s", p->advertise[0] ? p->advertise : p->listen);
    if (!p->advertise[0] && address_parse(p->listen, &a) == 0 && address_literal(&a, &sa) && address_is_any((struct sockaddr *)&sa) &&
        p->hooks.address(p->hooks.data, p->config.member_id, out, PEER_ADDRESS_SIZE) != PEER_MEMBER)
        *out = '\0';
}

void peer__hello(struct peers *p, uint32_t to, Qfs__Hello *out, char address[PEER_ADDRESS_SIZE])
{
    qfs__hello__init(out);
    own_address(p, address);
    out->version = PEER_VERSION;
    out->raft = PEER_RAFT;
    out->cluster_id = (ProtobufCBinaryData){sizeof p->config.cluster_id, p->config.cluster_id};
    out->from = p->config.member_id;
    out->to = to;
    out->incarnation = p->config.incarnation;
    out->run = p->config.run;
    out->address = address;
}

void peer__welcome(struct peers *p, enum peer_refusal refusal, const char *text, Qfs__Welcome *out)
{
    qfs__welcome__init(out);
    out->refusal = refusal;
    out->text = (char *)(uintptr_t)text;
    out->version = PEER_VERSION;
    out->raft = PEER_RAFT;
    out->cluster_id = (ProtobufCBinaryData){sizeof p->config.cluster_id, p->config.cluster_id};
    out->member = p->config.member_id;
    out->incarnation = p->config.incarnation;
    out->run = p->config.run;
}

static bool our_cluster(const struct peers *p, const ProtobufCBinaryData *id)
{
    return id->len == sizeof p->config.cluster_id && memcmp(id->data, p->config.cluster_id, id->len) == 0;
}

/* A start that is older than one that was seen comes from a data directory that was put back; an equal one from another process, from a
 * directory that runs twice. Either may vote a second time, or have lost what it acknowledged. */
static bool is_outdated(struct peers *p, struct peer *peer, uint64_t incarnation, uint64_t run, char *text, size_t size)
{
    if (incarnation < peer->incarnation) {
        snprintf(text, size, "member %" PRIu32 " is at its start number %" PRIu64 ", but %" PRIu64 " was seen: its data directory is an old copy",
                 peer->id, incarnation, peer->incarnation);
        return true;
    }
    if (incarnation == peer->incarnation && run != peer->run && peer->run != 0) {
        snprintf(text, size, "member %" PRIu32 " runs twice: two processes are at its start number %" PRIu64, peer->id, incarnation);
        return true;
    }
    if (incarnation > peer->incarnation || peer->run == 0) {
        peer__gone(peer); /* the start before, if we knew one */
        peer->incarnation = incarnation;
        peer->run = run;
        if (p->hooks.saw && p->hooks.saw(p->hooks.data, peer->id, incarnation, run))
            log_warn("peer", "cannot note that member %" PRIu32 " was seen at its start number %" PRIu64, peer->id, incarnation);
    }
    return false;
}

static enum peer_refusal judge_versions(uint32_t version, uint32_t raft, char *text, size_t size)
{
    if (version != PEER_VERSION) {
        snprintf(text, size, "it speaks version %" PRIu32 " of the protocol of members, this one speaks %d", version, PEER_VERSION);
        return PEER_REFUSED_VERSION;
    }
    if (raft != PEER_RAFT) {
        snprintf(text, size, "it is built on libraft 0.%" PRIu32 ", this one on 0.%d: they do not mix", raft, PEER_RAFT);
        return PEER_REFUSED_RAFT;
    }
    return PEER_WELCOME;
}

static enum peer_refusal judge_guest(struct peers *p, const Qfs__Hello *hello, char *text, size_t size)
{
    if (hello->cluster_id.len > 0 && !our_cluster(p, &hello->cluster_id)) {
        snprintf(text, size, "it belongs to another cluster");
        return PEER_REFUSED_CLUSTER;
    }
    if (!p->hooks.guest || p->n_guests >= PEER_GUESTS_MAX) {
        snprintf(text, size, p->hooks.guest ? "too many guests" : "only members are let in");
        return p->hooks.guest ? PEER_REFUSED_FULL : PEER_REFUSED_GUESTS;
    }
    return PEER_WELCOME;
}

enum peer_refusal peer__judge_hello(struct peers *p, const Qfs__Hello *hello, char *text, size_t size)
{
    enum peer_refusal refusal = judge_versions(hello->version, hello->raft, text, size);
    char address[PEER_ADDRESS_SIZE];
    struct peer *peer;

    if (refusal)
        return refusal;
    if (hello->from == 0)
        return judge_guest(p, hello, text, size);
    if (!our_cluster(p, &hello->cluster_id)) {
        snprintf(text, size, "member %" PRIu32 " belongs to another cluster", hello->from);
        return PEER_REFUSED_CLUSTER;
    }
    if (hello->to != p->config.member_id) {
        snprintf(text, size, "member %" PRIu32 " looks for member %" PRIu32 ", this is member %" PRIu32, hello->from, hello->to,
                 p->config.member_id);
        return PEER_REFUSED_MEMBER;
    }
    if (hello->from == p->config.member_id) {
        snprintf(text, size, "member %" PRIu32 " runs twice: it met itself", hello->from);
        return PEER_REFUSED_INCARNATION;
    }
    if (p->hooks.address(p->hooks.data, hello->from, address, sizeof address) == PEER_REMOVED) {
        snprintf(text, size, "member %" PRIu32 " was removed from the cluster", hello->from);
        return PEER_REFUSED_REMOVED;
    }
    peer = peer__find(p, hello->from);
    if (!peer)
        peer = peer__add(p, hello->from);
    if (!peer) {
        snprintf(text, size, "too many members");
        return PEER_REFUSED_FULL;
    }
    return is_outdated(p, peer, hello->incarnation, hello->run, text, size) ? PEER_REFUSED_INCARNATION : PEER_WELCOME;
}

enum peer_refusal peer__judge_welcome(struct peer *peer, const Qfs__Welcome *w, char *text, size_t size)
{
    struct peers *p = peer->peers;
    enum peer_refusal refusal = judge_versions(w->version, w->raft, text, size);

    if (w->refusal) { /* its own words say more */
        snprintf(text, size, "%.*s", (int)size - 1, w->text);
        for (char *c = text; *c; c++)
            if ((unsigned char)*c < ' ' || *c == 127)
                *c = '?';
        return (enum peer_refusal)w->refusal;
    }
    if (refusal)
        return refusal;
    if (!our_cluster(p, &w->cluster_id)) {
        snprintf(text, size, "it belongs to another cluster");
        return PEER_REFUSED_CLUSTER;
    }
    if (w->member != peer->id) {
        snprintf(text, size, "member %" PRIu32 " answers there", w->member);
        return PEER_REFUSED_MEMBER;
    }
    return is_outdated(p, peer, w->incarnation, w->run, text, size) ? PEER_REFUSED_INCARNATION : PEER_WELCOME;
}
