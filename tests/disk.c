/* Sees what processes do to the files below a folder, and can refuse it. See disk.py.

   It is preloaded, so all of this is done for every file of every process of a run. One lock is held
   over each operation and its record, so that the records are in the order of what they are of. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, CUT, SYNC, RENAME, REMOVE, MAKE };

struct record {
  uint32_t kind, path, data; /* the lengths of what follows */
  uint32_t unused;
  uint64_t number, offset; /* of the file */
};

static const char *root, *log_path;
static size_t root_length;
static volatile struct {
  uint64_t count, at; /* operations so far, and which one fails first; 0 for none */
  int32_t error, full; /* errno, and whether all that needs room fails from then on */
} *faults;
static int64_t jump; /* of the wall clock, in seconds */

#define REAL(name) ((typeof(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("DISK_FAULTS");
  root = getenv("DISK_ROOT");
  root_length = root ? strlen(root) : 0;
  log_path = getenv("DISK_LOG");
  jump = getenv("DISK_JUMP") ? atoll(getenv("DISK_JUMP")) : 0;
  if (path) {
    int file = REAL(open)(path, O_RDWR | O_CLOEXEC);
    faults = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REAL(close)(file);
  }
}

static int watched(const char *path) {
  return root && !strncmp(path, root, root_length) && path[root_length] == '/';
}

static int path_of(int file, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = 0;
  return length > 0 && (watched(path) || !strcmp(path, root ? root : ""));
}

static int path_at(int folder, const char *name, char *path) {
  int saved = errno;
  if (name[0] == '/')
    snprintf(path, PATH_MAX, "%s", name);
  else {
    char above[PATH_MAX] = "";
    if (folder == AT_FDCWD) {
      if (!getcwd(above, sizeof above)) above[0] = 0;
    } else if (root)
      path_of(folder, above);
    if (snprintf(path, PATH_MAX, "%s/%s", above, name) >= PATH_MAX) path[0] = 0;
  }
  errno = saved;
  return watched(path);
}

/* Hold the lock of all; -1 if nothing is recorded. */
static int hold(void) {
  if (!log_path) return -1;
  int file = REAL(open)(log_path, O_WRONLY | O_APPEND | O_CLOEXEC);
  flock(file, LOCK_EX);
  return file;
}

static void let_go(int file, int done, uint32_t kind, uint64_t number, uint64_t offset,
                   const char *path, const void *data, size_t length) {
  int saved = errno;
  if (file >= 0) {
    if (done) {
      struct record record = {kind, path ? strlen(path) : 0, length, 0, number, offset};
      struct iovec parts[] = {{&record, sizeof record}, {(void *)path, record.path},
                              {(void *)data, length}};
      if (writev(file, parts, 3) < 0) abort();
    }
    REAL(close)(file);
  }
  errno = saved;
}

static int refused(uint32_t kind) {
  if (!faults) return 0;
  uint64_t count = __atomic_add_fetch(&faults->count, 1, __ATOMIC_SEQ_CST);
  int room = kind == CREATE || kind == WRITE || kind == MAKE;
  if (!faults->at || count < faults->at) return 0;
  if (faults->full ? !room : count > faults->at) return 0;
  errno = faults->error;
  return 1;
}

static uint64_t number_of(int file) {
  struct stat found;
  return fstat(file, &found) ? 0 : found.st_ino;
}

static int opened(int folder, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  int changes = (flags & O_CREAT) || (flags & O_TRUNC);
  if ((flags & O_TMPFILE) == O_TMPFILE || !changes || !path_at(folder, name, path))
    return REAL(openat)(folder, name, flags, mode);
  if (refused(CREATE)) return -1;
  int lock = hold(), file = -1;
  if (flags & O_CREAT) {
    file = REAL(openat)(folder, name, flags | O_EXCL, mode);
    if (file >= 0) {
      let_go(lock, 1, CREATE, number_of(file), 0, path, NULL, 0);
      return file;
    }
    if (errno != EEXIST || (flags & O_EXCL)) goto failed;
  }
  file = REAL(openat)(folder, name, flags & ~O_CREAT, mode);
  if (file >= 0 && (flags & O_TRUNC)) {
    let_go(lock, 1, CUT, number_of(file), 0, NULL, NULL, 0);
    return file;
  }
failed:
  let_go(lock, 0, 0, 0, 0, NULL, NULL, 0);
  return file;
}

#define MODE(flags)                                       \
  mode_t mode = 0;                                        \
  if ((flags) & (O_CREAT | O_TMPFILE)) {                  \
    va_list rest;                                         \
    va_start(rest, flags);                                \
    mode = va_arg(rest, mode_t);                          \
    va_end(rest);                                         \
  }

int open(const char *name, int flags, ...) {
  MODE(flags)
  return opened(AT_FDCWD, name, flags, mode);
}
int openat(int folder, const char *name, int flags, ...) {
  MODE(flags)
  return opened(folder, name, flags, mode);
}
int open64(const char *name, int flags, ...) {
  MODE(flags)
  return opened(AT_FDCWD, name, flags, mode);
}
int openat64(int folder, const char *name, int flags, ...) {
  MODE(flags)
  return opened(folder, name, flags, mode);
}

static ssize_t written(int file, const void *data, size_t length, off64_t offset) {
  char path[PATH_MAX];
  int saved = errno;
  if (!root || !path_of(file, path)) {
    errno = saved;
    return offset < 0 ? REAL(write)(file, data, length) : REAL(pwrite64)(file, data, length, offset);
  }
  if (refused(WRITE)) return -1;
  int lock = hold();
  ssize_t done;
  if (offset < 0) {
    done = REAL(write)(file, data, length);
    offset = done < 0 ? 0 : lseek(file, 0, SEEK_CUR) - done;
  } else
    done = REAL(pwrite64)(file, data, length, offset);
  let_go(lock, done >= 0, WRITE, number_of(file), offset, NULL, data, done < 0 ? 0 : done);
  return done;
}

ssize_t write(int file, const void *data, size_t length) { return written(file, data, length, -1); }
ssize_t pwrite(int file, const void *data, size_t length, off_t offset) {
  return written(file, data, length, offset);
}
ssize_t pwrite64(int file, const void *data, size_t length, off64_t offset) {
  return written(file, data, length, offset);
}

int ftruncate64(int file, off64_t length) {
  char path[PATH_MAX];
  if (!root || !path_of(file, path)) return REAL(ftruncate64)(file, length);
  if (refused(CUT)) return -1;
  int lock = hold(), result = REAL(ftruncate64)(file, length);
  let_go(lock, !result, CUT, number_of(file), length, NULL, NULL, 0);
  return result;
}
int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

static int synced(int file, int (*sync)(int)) {
  char path[PATH_MAX];
  if (!root || !path_of(file, path)) return sync(file);
  if (refused(SYNC)) return -1;
  int lock = hold(), result = sync(file);
  let_go(lock, !result, SYNC, number_of(file), 0, NULL, NULL, 0);
  return result;
}
int fsync(int file) { return synced(file, REAL(fsync)); }
int fdatasync(int file) { return synced(file, REAL(fdatasync)); }

int renameat(int from, const char *old, int into, const char *new) {
  char source[PATH_MAX], target[PATH_MAX];
  int ours = path_at(into, new, target);
  if (!path_at(from, old, source) || !ours) return REAL(renameat)(from, old, into, new);
  if (refused(RENAME)) return -1;
  int lock = hold(), result = REAL(renameat)(from, old, into, new);
  let_go(lock, !result, RENAME, 0, 0, source, target, strlen(target));
  return result;
}
int rename(const char *old, const char *new) { return renameat(AT_FDCWD, old, AT_FDCWD, new); }

int unlinkat(int folder, const char *name, int flags) {
  char path[PATH_MAX];
  if (!path_at(folder, name, path)) return REAL(unlinkat)(folder, name, flags);
  if (refused(REMOVE)) return -1;
  int lock = hold(), result = REAL(unlinkat)(folder, name, flags);
  let_go(lock, !result, REMOVE, 0, 0, path, NULL, 0);
  return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
  char path[PATH_MAX];
  if (!path_at(folder, name, path)) return REAL(mkdirat)(folder, name, mode);
  if (refused(MAKE)) return -1;
  int lock = hold(), result = REAL(mkdirat)(folder, name, mode);
  struct stat found = {0};
  if (!result) stat(path, &found);
  let_go(lock, !result, MAKE, found.st_ino, 0, path, NULL, 0);
  return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* The wall clock is ahead or behind by up to five jumps, another number of them every five looks. */
int clock_gettime(clockid_t which, struct timespec *found) {
  static int looks;
  static int (*asked)(clockid_t, struct timespec *);
  if (!asked) asked = REAL(clock_gettime);
  int result = asked(which, found);
  if (!result && jump && which == CLOCK_REALTIME) {
    int turn = __atomic_fetch_add(&looks, 1, __ATOMIC_RELAXED) / 5 % 11;
    found->tv_sec += jump * (turn * 7 % 11 - 5);
  }
  return result;
}
