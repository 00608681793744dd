/* address: HOST:PORT, where HOST is a name, an IPv4 address, or an IPv6 address in brackets. */
#ifndef QFS_REPLICA_ADDRESS_H
#define QFS_REPLICA_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct address {
    char host[256]; /* without brackets */
    char port[6];
};

int address_parse(const char *text, struct address *out); /* QE_INVAL */
/* If HOST is written in digits: the address itself, without asking anybody. */
bool address_literal(const struct address *a, struct sockaddr_storage *out);
bool address_is_loopback(const struct sockaddr *sa);
bool address_is_any(const struct sockaddr *sa);  /* 0.0.0.0, [::]: good for listening only */
void address_text(const struct sockaddr *sa, char *out, size_t size); /* as it is parsed */

#endif
