/* What the test programs in C share: how they note their start, how they wait and how they die. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    fprintf(stderr, "worker: %s: %s\n", what, strerror(errno));
    exit(111);
}

static void log_start(void) {
    const char *path = getenv("START_LOG");
    if (!path || !*path) return;
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = snprintf(line, sizeof line, "%lld %d\n", now.tv_sec * 1000000000LL + now.tv_nsec, getpid());
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) fail(path);
    if (write(fd, line, length) != length) fail(path);
    close(fd);
}

static void sleep_for(double seconds) {
    struct timespec left = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) < 0 && errno == EINTR) {}
}

static void no_core(void) { prctl(PR_SET_DUMPABLE, 0); }

static void die_by(int signal_number) {
    no_core();
    signal(signal_number, SIG_DFL);
    sigset_t all;
    sigemptyset(&all);
    sigaddset(&all, signal_number);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    kill(getpid(), signal_number);
    for (;;) pause();
}
