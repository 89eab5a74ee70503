/* Shifts the wall clock of a process by the seconds in a file, as if the machine's clock were set.

   Preloaded by LD_PRELOAD; FAULT_CLOCK names a file with one 64-bit integer, which may change while
   the process runs. The monotonic clock is not shifted. A wait until a wall-clock time is shifted
   back, so that it ends when the shifted clock shows that time. Times below 10^9 s are those of the
   monotonic clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MIN_WALL_TIME 1000000000L

static volatile int64_t no_shift = 0;
static volatile int64_t *shift = &no_shift;

__attribute__((constructor)) static void open_shift(void) {
  const char *path = getenv("FAULT_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (page != MAP_FAILED) shift = page;
}

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* The kernel's clock; the functions of libc would call the ones below. */
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*libc)(clockid_t, struct timespec *);
  if (!libc) libc = REAL(clock_gettime);
  int code = libc(clock, now);
  if (!code && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *shift;
  return code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *result) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (result) *result = now.tv_sec;
  return now.tv_sec;
}

static const struct timespec *shifted_back(const struct timespec *until, struct timespec *copy) {
  if (!until || until->tv_sec < MIN_WALL_TIME) return until;
  *copy = *until;
  copy->tv_sec -= *shift;
  return copy;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  static int (*libc)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  struct timespec copy;
  if (!libc) libc = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!libc) libc = REAL(pthread_cond_timedwait);
  return libc(cond, mutex, shifted_back(until, &copy));
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
  static int (*libc)(sem_t *, const struct timespec *);
  struct timespec copy;
  if (!libc) libc = REAL(sem_timedwait);
  return libc(semaphore, shifted_back(until, &copy));
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex,
                            const struct timespec *restrict until) {
  static int (*libc)(pthread_mutex_t *, const struct timespec *);
  struct timespec copy;
  if (!libc) libc = REAL(pthread_mutex_timedlock);
  return libc(mutex, shifted_back(until, &copy));
}

/* Abseil, which Ray uses, waits by the system call itself. */
long syscall(long number, ...) {
  static long (*libc)(long, ...);
  long a[6];
  struct timespec copy;
  va_list arguments;
  va_start(arguments, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
  va_end(arguments);
  if (!libc) libc = dlsym(RTLD_NEXT, "syscall");
  if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME))
    a[3] = (long)shifted_back((const struct timespec *)a[3], &copy);
  return libc(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
