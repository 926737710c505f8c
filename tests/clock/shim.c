/* Preloaded, shifts the clocks of a program by the seconds in $CLOCK_FILE: that on the wall, the one
 * that stands while the machine sleeps, and the one that runs on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
	static int (*real)(clockid_t, struct timespec *);
	long shifts[3] = { 0, 0, 0 };
	const char *name = getenv("CLOCK_FILE");
	char text[64] = "";
	int result, file;

	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	result = real(clock, time);
	file = name ? open(name, O_RDONLY) : -1;
	if (file < 0)
		return result;
	if (read(file, text, sizeof(text) - 1) > 0)
		sscanf(text, "%ld %ld %ld", &shifts[0], &shifts[1], &shifts[2]);
	close(file);
	if (clock == CLOCK_REALTIME)
		time->tv_sec += shifts[0];
	else if (clock == CLOCK_MONOTONIC)
		time->tv_sec += shifts[1];
	else if (clock == CLOCK_BOOTTIME)
		time->tv_sec += shifts[2];
	return result;
}
