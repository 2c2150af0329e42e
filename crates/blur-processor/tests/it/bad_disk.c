/* Loaded before the C library: the file of inode BAD_INODE cannot be read from BAD_FROM to BAD_TO, by the calls that
 * BAD_CALL names ("pread", or both). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fails(int fd, off64_t at, size_t length) {
    const char *inode = getenv("BAD_INODE");
    struct stat64 found;
    if (!inode || fstat64(fd, &found) || found.st_ino != strtoull(inode, NULL, 10)) {
        return 0;
    }
    return at + (off64_t)length > atoll(getenv("BAD_FROM")) && at < atoll(getenv("BAD_TO"));
}

ssize_t read(int fd, void *into, size_t length) {
    static ssize_t (*next)(int, void *, size_t);
    if (!next) {
        next = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    }
    if (strcmp(getenv("BAD_CALL"), "pread") && fails(fd, lseek64(fd, 0, SEEK_CUR), length)) {
        errno = EIO;
        return -1;
    }
    return next(fd, into, length);
}

ssize_t pread64(int fd, void *into, size_t length, off64_t at) {
    static ssize_t (*next)(int, void *, size_t, off64_t);
    if (!next) {
        next = (ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    }
    if (fails(fd, at, length)) {
        errno = EIO;
        return -1;
    }
    return next(fd, into, length, at);
}
