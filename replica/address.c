#include "replica/address.h"

#include <ctype.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "store/base/err.h"

int address_parse(const char *text, struct address *out)
{
    const char *colon = strrchr(text, ':'), *from = text;
    size_t len = colon ? (size_t)(colon - text) : 0;
    char *end;
    unsigned long port;

    if (len == 0 || !isdigit((unsigned char)colon[1]) || strlen(colon + 1) > 5)
        return QE_INVAL;
    port = strtoul(colon + 1, &end, 10);
    if (*end || port > UINT16_MAX)
        return QE_INVAL;
    if (*text == '[') {
        if (colon[-1] != ']' || len < 3)
            return QE_INVAL;
        from++;
        len -= 2;
    } else if (memchr(text, ':', len)) {
        return QE_INVAL; /* IPv6 without brackets */
    }
    if (len >= sizeof out->host || memchr(from, '/', len) || memchr(from, ' ', len))
        return QE_INVAL;
    memcpy(out->host, from, len);
    out->host[len] = '\0';
    snprintf(out->port, sizeof out->port, "%hu", (unsigned short)port);
    return 0;
}

bool address_literal(const struct address *a, struct sockaddr_storage *out)
{
    int port = atoi(a->port);

    memset(out, 0, sizeof *out);
    return uv_ip4_addr(a->host, port, (struct sockaddr_in *)out) == 0 || uv_ip6_addr(a->host, port, (struct sockaddr_in6 *)out) == 0;
}

/* The IPv4 address in one, also where it is written as IPv6. False: there is none. */
static bool as_ip4(const struct sockaddr *sa, uint32_t *out)
{
    if (sa->sa_family == AF_INET) {
        *out = ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr);
        return true;
    }
    if (sa->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)sa)->sin6_addr)) {
        memcpy(out, ((const struct sockaddr_in6 *)sa)->sin6_addr.s6_addr + 12, sizeof *out);
        *out = ntohl(*out);
        return true;
    }
    return false;
}

bool address_is_loopback(const struct sockaddr *sa)
{
    uint32_t ip;

    if (as_ip4(sa, &ip))
        return ip >> 24 == 127;
    return sa->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

bool address_is_any(const struct sockaddr *sa)
{
    uint32_t ip;

    if (as_ip4(sa, &ip))
        return ip == 0;
    return sa->sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

void address_text(const struct sockaddr *sa, char *out, size_t size)
{
    char ip[INET6_ADDRSTRLEN] = "?";

    if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;

        uv_ip6_name(in6, ip, sizeof ip);
        snprintf(out, size, "[%s]:%u", ip, ntohs(in6->sin6_port));
    } else if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)sa;

        uv_ip4_name(in, ip, sizeof ip);
        snprintf(out, size, "%s:%u", ip, ntohs(in->sin_port));
    } else {
        snprintf(out, size, "?");
    }
}
