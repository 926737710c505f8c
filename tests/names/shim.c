/* Preloaded, resolves the name "moving.test" to the address that stands in $NAMES_FILE. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	static resolver *real;
	char address[64] = "";
	FILE *file;

	if (!real)
		real = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
	if (node && strcmp(node, "moving.test") == 0) {
		file = fopen(getenv("NAMES_FILE"), "r");
		if (!file || fscanf(file, "%63s", address) != 1)
			address[0] = 0;
		if (file)
			fclose(file);
		if (!address[0])
			return EAI_NONAME;
		node = address;
	}
	return real(node, service, hints, found);
}
