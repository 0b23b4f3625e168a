/* Moves the wall clock of the processes that load it, and no other clock: seconds to add stand in $CHAOS_CLOCK, a file
   of one native long that may be rewritten while they run. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static long offset_s(void) {
    static volatile long *at;
    if (!at) {
        const char *path = getenv("CHAOS_CLOCK");
        int handle = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *page = handle >= 0 ? mmap(0, sizeof(long), PROT_READ, MAP_SHARED, handle, 0) : MAP_FAILED;
        if (page == MAP_FAILED) return 0;
        at = page;
    }
    return *at;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(which, now);
    if (status == 0 && which == CLOCK_REALTIME) now->tv_sec += offset_s();
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    int status = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return status;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
