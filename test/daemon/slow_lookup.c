/* To be preloaded: a name server that never answers for names that begin with "slow". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int (*lookup)(const char *name, const char *service, const struct addrinfo *hints,
                      struct addrinfo **found);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    while (name && strncmp(name, "slow", 4) == 0)
        pause();
    return ((lookup)dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, found);
}
