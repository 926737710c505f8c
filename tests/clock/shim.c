/* Preloaded, shifts the clocks of a program by the seconds in $CLOCK_FILE: that on the wall, the one
 * that stands while the machine sleeps, and the one that runs on. What tells one start of the machine
 * from another is read from $BOOT_FILE. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
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

int open64(const char *path, int flags, ...)
{
	static int (*real)(const char *, int, mode_t);
	const char *other = getenv("BOOT_FILE");
	mode_t mode;
	va_list rest;

	va_start(rest, flags);
	mode = va_arg(rest, mode_t);
	va_end(rest);
	if (!real)
		real = (int (*)(const char *, int, mode_t))dlsym(RTLD_NEXT, "open64");
	if (other && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
		path = other;
	return real(path, flags, mode);
}
