/* A clock that jumps: preloaded, a process sees the time of day plus the seconds in the file LATER. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static long later(void) {
    static long *seconds;
    if (!seconds)
        seconds = mmap(0, sizeof *seconds, PROT_READ, MAP_SHARED, open(getenv("LATER"), O_RDONLY), 0);
    return *seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_BOOTTIME))
        now->tv_sec += later();
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
