/* For LD_PRELOAD: shifts the wall clock of a process and its children by CLOCK_SHIFT seconds, with fractions.

   The monotonic clock stays real. Debian's libfaketime 0.9.10 cannot do this for Python 3.11: without the monotonic
   clock its time.sleep fails, with it Event.wait never returns. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000L

double clock_shift; /* set by clocks.py before each test */

__attribute__((constructor)) static void read_shift(void) {
    const char *seconds = getenv("CLOCK_SHIFT");
    clock_shift = seconds ? atof(seconds) : 0;
}

static void move(struct timespec *at, double seconds) {
    long whole = (long)seconds, nanoseconds = at->tv_nsec + (long)((seconds - (double)whole) * SECOND);
    at->tv_sec += whole + nanoseconds / SECOND;
    at->tv_nsec = nanoseconds % SECOND;
    if (at->tv_nsec < 0) at->tv_sec -= 1, at->tv_nsec += SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) move(at, clock_shift);
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

/* multiprocessing passes a wall-clock time, which the kernel compares with its unshifted clock. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    int (*wait)(sem_t *, const struct timespec *);
    struct timespec real = *until;
    *(void **)&wait = dlsym(RTLD_NEXT, "sem_timedwait");
    move(&real, -clock_shift);
    return wait(semaphore, &real);
}
