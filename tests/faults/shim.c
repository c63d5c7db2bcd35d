/* Preloaded before libc: one call on a file below FAULT_BELOW fails, and the clock is set back.
 *
 * FAULT_CALL      which of the process's calls fails, from 1; 0 or unset: none, they are counted
 * FAULT_ERRNO     with which error
 * FAULT_CLOCK_AT  from which second of CLOCK_MONOTONIC on the time of day is set back; 0: always
 * FAULT_CLOCK_BY  by how many seconds; 0 or unset: never
 *
 * fault_arm() reads these again, and from then on the calls of this process alone are counted.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static char below[PATH_MAX];
static long failing, count;
static int with_errno;
static pid_t armed;
static double clock_at, clock_by;

static const char *setting(const char *name) {
  const char *value = getenv(name);
  return value ? value : "0";
}

__attribute__((constructor)) void fault_arm(void) {
  const char *folder = getenv("FAULT_BELOW");
  snprintf(below, sizeof below, "%s", folder ? folder : "");
  failing = atol(setting("FAULT_CALL"));
  with_errno = atoi(setting("FAULT_ERRNO"));
  clock_at = atof(setting("FAULT_CLOCK_AT"));
  clock_by = atof(setting("FAULT_CLOCK_BY"));
  count = 0;
  armed = getpid();
}

long fault_count(void) { return count; }

/* Whether this call, on a file below the folder, is the one that fails. */
static int fails(const char *path) {
  if (!below[0] || !path || getpid() != armed) return 0;
  char whole[2 * PATH_MAX];
  if (path[0] != '/') {
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here)) return 0;
    snprintf(whole, sizeof whole, "%s/%s", here, path);
    path = whole;
  }
  if (strncmp(path, below, strlen(below))) return 0;
  if (__sync_add_and_fetch(&count, 1) != failing) return 0;
  errno = with_errno;
  return 1;
}

static int fails_at(int file) {
  if (!below[0] || getpid() != armed) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0 || path[0] != '/') return 0; /* a pipe or the like */
  path[length] = 0;
  return fails(path);
}

#define REAL(name, ...) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

static mode_t mode_of(int flags, va_list rest) {
  return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                    \
  int name(const char *path, int flags, ...) {        \
    va_list rest;                                     \
    va_start(rest, flags);                            \
    mode_t mode = mode_of(flags, rest);               \
    va_end(rest);                                     \
    return fails(path) ? -1 : REAL(name, path, flags, mode); \
  }
#define OPENAT(name)                                  \
  int name(int at, const char *path, int flags, ...) { \
    va_list rest;                                     \
    va_start(rest, flags);                            \
    mode_t mode = mode_of(flags, rest);               \
    va_end(rest);                                     \
    return fails(path) ? -1 : REAL(name, at, path, flags, mode); \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int file, void *data, size_t size) {
  return fails_at(file) ? -1 : REAL(read, file, data, size);
}
ssize_t write(int file, const void *data, size_t size) {
  return fails_at(file) ? -1 : REAL(write, file, data, size);
}
int fsync(int file) { return fails_at(file) ? -1 : REAL(fsync, file); }
int rename(const char *old, const char *new) { return fails(new) ? -1 : REAL(rename, old, new); }
int mkdir(const char *path, mode_t mode) { return fails(path) ? -1 : REAL(mkdir, path, mode); }
int unlink(const char *path) { return fails(path) ? -1 : REAL(unlink, path); }
int rmdir(const char *path) { return fails(path) ? -1 : REAL(rmdir, path); }
DIR *opendir(const char *path) { return fails(path) ? NULL : REAL(opendir, path); }

int clock_gettime(clockid_t which, struct timespec *now) {
  int answer = syscall(SYS_clock_gettime, which, now);
  if (!answer && which == CLOCK_REALTIME && clock_by) {
    struct timespec ticks;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ticks);
    if (ticks.tv_sec + 1e-9 * ticks.tv_nsec >= clock_at) now->tv_sec -= (time_t)clock_by;
  }
  return answer;
}
time_t time(time_t *where) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (where) *where = now.tv_sec;
  return now.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}
