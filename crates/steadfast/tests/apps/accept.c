/* Preloaded into a worker: each 20th accept(2) of a process fails, with the next of the numbers in ACCEPT_ERRNOS
 * (separated by spaces), and writes that number as a line to ACCEPT_LOG. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* All processes together go through the list: the log's length tells how far they are. */
static int next_errno(void) {
    struct stat log;
    int wanted[16], count = 0;
    const char *path = getenv("ACCEPT_LOG");
    char *at = getenv("ACCEPT_ERRNOS"), line[16];
    while (at && *at && count < 16) {
        wanted[count++] = (int)strtol(at, &at, 10);
        while (*at == ' ') at++;
    }
    int fd = path ? open(path, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
    if (count == 0 || fd < 0 || fstat(fd, &log) != 0) abort();
    int error = wanted[log.st_size / 4 % count];
    int length = snprintf(line, sizeof line, "%3d\n", error);
    if (write(fd, line, length) != length) abort();
    close(fd);
    return error;
}

int accept(int listener, struct sockaddr *address, socklen_t *length) {
    static int (*real)(int, struct sockaddr *, socklen_t *);
    static int calls;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "accept");
    if (++calls % 20) return real(listener, address, length);
    errno = next_errno();
    return -1;
}
