/* Stands before the C library's calls that change files, and lets one of them go wrong.

   Loaded with LD_PRELOAD, so that HDF5's and torch's own writes are met as well as Python's. Calls
   on files under one folder are counted; what happens at the n-th is set by `arm`. The count lies
   in memory shared with the parent, which reads it after the child is dead. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { COUNT, ONCE, ON, SHORT, BEFORE, AFTER, CUT };

static struct { int calls; char name[32]; } *shared;
static char folder[PATH_MAX];
static size_t length;
static int at, how, value;

__attribute__((constructor)) static void start(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Watch a folder; at the n-th call do as `how` says, with an error's or a signal's number. */
void arm(const char *path, int n, int what, int number)
{
    snprintf(folder, sizeof folder, "%s", path);
    length = strlen(folder);
    at = n, how = what, value = number;
    shared->calls = 0;
    shared->name[0] = 0;
}

int calls(void) { return shared->calls; }
const char *called(void) { return shared->name; }

static int inside(const char *path)
{
    return length && path && (path[0] != '/' || !strncmp(path, folder, length));
}

static int ours(int fd)
{
    char link[64], path[PATH_MAX];
    int before = errno;
    ssize_t size = 0;
    if (length) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        size = readlink(link, path, sizeof path - 1);
    }
    errno = before;
    if (size <= 0)
        return 0;
    path[size] = 0;
    return path[0] == '/' && inside(path);
}

/* Count a call; return whether it is the one, and say which it was. */
static int met(const char *name)
{
    int n = __atomic_add_fetch(&shared->calls, 1, __ATOMIC_SEQ_CST);
    int now = at && (n == at || ((how == ON || how == SHORT) && n > at));
    if (n == at)
        snprintf(shared->name, sizeof shared->name, "%s", name);
    if (now && (how == BEFORE || (how == CUT && strstr(name, "write") == NULL)))
        kill(getpid(), value);
    return now;
}

static int fails(int now) { return now && (how == ONCE || how == ON); }

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* A call that gives -1 and sets errno. */
#define PLAIN(type, name, watched, parameters, ...) \
    type name parameters \
    { \
        static type(*real) parameters; \
        if (!real) \
            real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
        int now = watched && met(#name); \
        if (fails(now)) { \
            errno = value; \
            return -1; \
        } \
        type found = real(__VA_ARGS__); \
        if (now && how == AFTER) \
            kill(getpid(), value); \
        return found; \
    }

/* A write: it may be short, or cut by a signal. */
#define WRITE(name, parameters, size, ...) \
    ssize_t name parameters \
    { \
        static ssize_t(*real) parameters; \
        if (!real) \
            real = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #name); \
        int now = ours(fd) && met(#name); \
        if (fails(now)) { \
            errno = value; \
            return -1; \
        } \
        if (now && (how == SHORT || how == CUT) && size > 1) \
            size = (size + 1) / 2; \
        ssize_t found = real(__VA_ARGS__); \
        if (now && (how == AFTER || how == CUT)) \
            kill(getpid(), value); \
        return found; \
    }

WRITE(write, (int fd, const void *data, size_t size), size, fd, data, size)
WRITE(pwrite, (int fd, const void *data, size_t size, off_t place), size, fd, data, size, place)
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t place), size, fd, data, size, place)

PLAIN(int, fsync, ours(fd), (int fd), fd)
PLAIN(int, fdatasync, ours(fd), (int fd), fd)
PLAIN(int, ftruncate, ours(fd), (int fd, off_t size), fd, size)
PLAIN(int, ftruncate64, ours(fd), (int fd, off64_t size), fd, size)
PLAIN(int, link, inside(new), (const char *old, const char *new), old, new)
PLAIN(int, rename, inside(new), (const char *old, const char *new), old, new)
PLAIN(int, renameat, inside(new), (int from, const char *old, int to, const char *new),
      from, old, to, new)
PLAIN(int, mkdir, inside(path), (const char *path, mode_t mode), path, mode)

/* Removing frees space, so it fails on a broken disk only, and never on a full one. */
#define REMOVE(name, parameters, ...) \
    int name parameters \
    { \
        static int(*real) parameters; \
        if (!real) \
            real = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
        int now = inside(path) && met(#name); \
        if (now && how == ONCE) { \
            errno = value; \
            return -1; \
        } \
        int found = real(__VA_ARGS__); \
        if (now && how == AFTER) \
            kill(getpid(), value); \
        return found; \
    }

REMOVE(unlink, (const char *path), path)
REMOVE(unlinkat, (int place, const char *path, int flags), place, path, flags)

/* This one gives the error's number. */
#define ALLOCATE(name, kind) \
    int name(int fd, kind offset, kind size) \
    { \
        REAL(int, #name, int, kind, kind); \
        int now = ours(fd) && met(#name); \
        if (fails(now)) \
            return value; \
        int found = real(fd, offset, size); \
        if (now && how == AFTER) \
            kill(getpid(), value); \
        return found; \
    }

ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)

/* Opening counts where it makes a file. */
#define OPEN(name, head, ...) \
    int name head \
    { \
        static int(*real) head; \
        mode_t mode = 0; \
        if (!real) \
            real = (int(*) head)dlsym(RTLD_NEXT, #name); \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        int now = flags & O_CREAT && inside(path) && met(#name); \
        if (fails(now)) { \
            errno = value; \
            return -1; \
        } \
        int found = real(__VA_ARGS__, mode); \
        if (now && how == AFTER) \
            kill(getpid(), value); \
        return found; \
    }

OPEN(open, (const char *path, int flags, ...), path, flags)
OPEN(open64, (const char *path, int flags, ...), path, flags)
OPEN(openat, (int place, const char *path, int flags, ...), place, path, flags)
OPEN(openat64, (int place, const char *path, int flags, ...), place, path, flags)
