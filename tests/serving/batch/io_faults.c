/* Preloaded, it lets a call that changes a file fail: the FAULT_AT-th one to a path with FAULT_PATH
 * in it. FAULT_KIND: once; stay (all later ones fail, too); short (half is written, then as stay).
 * With FAULT_LOG the number of such calls is written there at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int calls;

static int number(const char *name) {
  const char *value = getenv(name);
  return value ? atoi(value) : 0;
}

static int concerns(int fd) {
  char link[64], path[4096];
  const char *wanted = getenv("FAULT_PATH");
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0 || !wanted) return 0;
  path[size] = 0;
  const char *slash = strrchr(path, '/');
  return strstr(slash ? slash : path, wanted) != NULL;
}

/* 0: go on; 1: fail; 2: write half. */
static int verdict(int fd) {
  if (!concerns(fd)) return 0;
  int now = atomic_fetch_add(&calls, 1) + 1, at = number("FAULT_AT");
  const char *kind = getenv("FAULT_KIND");
  if (!at || !kind || now < at) return 0;
  if (now == at) return strcmp(kind, "short") ? 1 : 2;
  return strcmp(kind, "once") ? 1 : 0;
}

static int failed(void) {
  errno = number("FAULT_ERRNO");
  return -1;
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, #name))

#define PWRITE(name, offset_type)                                                                \
  ssize_t name(int fd, const void *data, size_t size, offset_type offset) {                      \
    int v = verdict(fd);                                                                         \
    if (v == 1 || (v == 2 && size < 2)) return failed();                                         \
    return REAL(name, ssize_t(*)(int, const void *, size_t, offset_type))(                       \
        fd, data, v == 2 ? size / 2 : size, offset);                                             \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t size) {
  int v = verdict(fd);
  if (v == 1 || (v == 2 && size < 2)) return failed();
  return REAL(write, ssize_t(*)(int, const void *, size_t))(fd, data, v == 2 ? size / 2 : size);
}

#define SYNC(name) \
  int name(int fd) { return verdict(fd) ? failed() : REAL(name, int (*)(int))(fd); }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name, offset_type)                                                       \
  int name(int fd, offset_type size) {                                                    \
    return verdict(fd) ? failed() : REAL(name, int (*)(int, offset_type))(fd, size);      \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

__attribute__((destructor)) static void report(void) {
  const char *path = getenv("FAULT_LOG");
  FILE *file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  fprintf(file, "%d", atomic_load(&calls));
  fclose(file);
}
