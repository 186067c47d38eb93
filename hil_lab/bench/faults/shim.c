/* Preloaded into agents and searches: their wall clock can be made to jump, and what they synced is
 * written down. Monotonic clocks are left alone, as a jump leaves them.
 *
 * HIL_FAULT_CLOCKS is a file of 64-bit offsets in seconds, one for every process id;
 * HIL_FAULT_SYNCED, which a process may set for itself, a file that gets "inode size" lines. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SLOTS (1 << 22)

static const volatile int64_t *offsets;

__attribute__((constructor)) static void open_offsets(void) {
  const char *path = getenv("HIL_FAULT_CLOCKS");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *found = mmap(NULL, SLOTS * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (found != MAP_FAILED) offsets = found;
}

static int64_t jump(void) { return offsets ? offsets[syscall(SYS_getpid) % SLOTS] : 0; }

int clock_gettime(clockid_t which, struct timespec *now) {
  int failed = (int)syscall(SYS_clock_gettime, which, now);
  if (!failed && which == CLOCK_REALTIME) now->tv_sec += jump();
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec found;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *kept) {
  struct timespec found;
  if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
  if (kept) *kept = found.tv_sec;
  return found.tv_sec;
}

static void note(int synced) {
  const char *path = getenv("HIL_FAULT_SYNCED");
  struct stat about;
  int file = path && !fstat(synced, &about) ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
  if (file < 0) return;
  dprintf(file, "%lu %ld\n", (unsigned long)about.st_ino, (long)about.st_size);
  close(file);
}

int fsync(int file) {
  int failed = (int)syscall(SYS_fsync, file);
  if (!failed) note(file);
  return failed;
}

int fdatasync(int file) {
  int failed = (int)syscall(SYS_fdatasync, file);
  if (!failed) note(file);
  return failed;
}
