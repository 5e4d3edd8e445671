/* A FastCGI worker on libfcgi that misbehaves when it is told to.
 *
 * Arguments say how it starts, the path of a request says what that request does. With START_LOG in its environment
 * each start appends "CLOCK_MONOTONIC-nanoseconds PID" to that file, before anything else.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common.h"

extern char **environ;

/* What the arguments asked for. */
static struct {
    int crash_first_request, exit_first_request; /* -1: no */
    int exit0_after;                             /* requests; 0: never */
    int threads;
    int default_term;
} asked = {.exit_first_request = -1};

static volatile int served;

static void copy_file(FCGX_Stream *out, const char *path) {
    char block[4096];
    ssize_t length;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        FCGX_FPrintF(out, "%s: %s\n", path, strerror(errno));
        return;
    }
    while ((length = read(fd, block, sizeof block)) > 0) FCGX_PutStr(block, length, out);
    close(fd);
}

static void list_fds(FCGX_Stream *out) {
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        char link[64], target[4096];
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(directory)) continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, target, sizeof target - 1);
        if (length < 0) continue;
        target[length] = 0;
        FCGX_FPrintF(out, "%d %s\n", fd, target);
    }
    if (directory) closedir(directory);
}

/* A process of its own session whose parent has gone: what a careless application leaves behind. */
static void fork_daemon(void) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        setsid();
        if (fork() != 0) _exit(0);
        const char *path = getenv("DAEMON_PIDFILE");
        if (path) {
            FILE *file = fopen(path, "w");
            if (file) {
                fprintf(file, "%d\n", getpid());
                fclose(file);
            }
        }
        for (;;) pause();
    }
}

/* Children in the worker's own group that never leave by themselves. */
static void fork_children(int count) {
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0) return;
        if (child == 0) {
            signal(SIGTERM, SIG_IGN);
            for (;;) pause();
        }
    }
}

/* Lines on a descriptor; count 0 means for ever. */
static void flood(int fd, long count) {
    char line[64];
    for (long i = 0; count == 0 || i < count; i++) {
        int length = snprintf(line, sizeof line, "flood line %ld\n", i);
        if (write(fd, line, length) < 0 && errno != EAGAIN && errno != EINTR) return;
    }
}

/* One line of so many megabytes, without its end. */
static void endless_line(int fd, int megabytes) {
    char block[65536];
    memset(block, 'x', sizeof block);
    for (int i = 0; i < megabytes * 16; i++)
        if (write(fd, block, sizeof block) < 0) return;
}

static void binary(int fd) {
    static const char text[] = "before\033[31mred\033[0m\0nul\r\x01\xff\xfe bad utf-8\nPRIORITY=0\n<0>looks urgent\n";
    if (write(fd, text, sizeof text - 1) < 0) return;
}

/* Takes stack until there is none: the hand that writes beyond its guard page is ended by SIGSEGV. */
__attribute__((noinline)) static int recurse(volatile int *depth) {
    volatile char frame[4096];
    frame[0] = (char)++*depth;
    return *depth < 0 ? 0 : recurse(depth) + frame[0];
}

/* Asks the database on a unix socket for a byte, and waits as long as it takes. */
static void ask_database(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char byte;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path ? path : "");
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && read(fd, &byte, 1) < 0) perror("read");
    close(fd);
}

/* Dies of so many requests in a hundred as the file CHANCE in its environment says now, if there is one. */
static void take_chance(void) {
    static unsigned seed;
    const char *path = getenv("CHANCE");
    FILE *file = path ? fopen(path, "r") : NULL;
    int percent = 0;
    if (!file) return;
    if (fscanf(file, "%d", &percent) != 1) percent = 0;
    fclose(file);
    if (!seed) seed = (unsigned)getpid();
    if (rand_r(&seed) % 100 < percent) die_by(SIGSEGV);
}

/* The request. Gives 0 when the answer is complete. */
static void handle(FCGX_Request *request) {
    const char *path = FCGX_GetParam("SCRIPT_NAME", request->envp);
    const char *query = FCGX_GetParam("QUERY_STRING", request->envp);
    if (!path) path = "/";
    if (!query) query = "";
    FCGX_Stream *out = request->out;
#define IS(name) (strcmp(path, name) == 0)

    take_chance();
    if (IS("/segv")) die_by(SIGSEGV);
    if (IS("/recurse")) {
        int depth = 0;
        no_core();
        FCGX_FPrintF(out, "Content-Type: text/plain\r\n\r\n%d\n", recurse(&depth));
    }
    if (IS("/db")) ask_database(getenv("DATABASE"));
    if (IS("/close-range")) for (int fd = 3; fd < 64; fd++) close(fd);
    if (IS("/abort")) die_by(SIGABRT);
    if (IS("/kill")) die_by(SIGKILL);
    if (IS("/exit")) _exit(atoi(query) & 255);
    if (IS("/hang")) for (;;) {}
    if (IS("/sleep")) sleep_for(atof(query));
    if (IS("/leak")) {
        size_t size = (size_t)atoi(query) << 20;
        char *memory = malloc(size ? size : 1);
        if (memory) memset(memory, 1, size);
    }
    if (IS("/daemon")) fork_daemon();
    if (IS("/bomb")) fork_children(atoi(query));
    if (IS("/term-parent")) kill(getppid(), SIGTERM);
    if (IS("/flood")) flood(2, atol(query));
    if (IS("/endless-line")) endless_line(2, atoi(query));
    if (IS("/binary")) binary(2);
    if (IS("/stderr")) dprintf(2, "%s\n", query);
    if (IS("/stdout")) dprintf(1, "%s\n", query);
    if (IS("/close-listener")) close(0);
    if (IS("/shutdown-listener")) shutdown(0, SHUT_RDWR);
    if (IS("/half")) {
        FCGX_FPrintF(out, "Content-Type: text/plain\r\n\r\nhalf");
        FCGX_FFlush(out);
        die_by(SIGKILL);
    }

    FCGX_FPrintF(out, "Content-Type: text/plain\r\n\r\n");
    if (IS("/env")) {
        for (char **each = environ; *each; each++) FCGX_FPrintF(out, "%s\n", *each);
    } else if (IS("/params")) {
        for (char **each = request->envp; *each; each++) FCGX_FPrintF(out, "%s\n", *each);
    } else if (IS("/fds")) {
        list_fds(out);
    } else if (IS("/io")) {
        copy_file(out, "/proc/self/io");
    } else if (IS("/status")) {
        copy_file(out, "/proc/self/status");
    } else if (IS("/limits")) {
        copy_file(out, "/proc/self/limits");
    } else if (IS("/cwd")) {
        char directory[4096];
        FCGX_FPrintF(out, "%s\n", getcwd(directory, sizeof directory) ? directory : "?");
    } else if (IS("/umask")) {
        FCGX_FPrintF(out, "%04o\n", umask(0022));
    } else if (IS("/body")) {
        for (long left = atol(query); left > 0; left--) FCGX_PutChar('b', out);
    } else if (IS("/echo")) {
        int character;
        while ((character = FCGX_GetChar(request->in)) >= 0) FCGX_PutChar(character, out);
    } else {
        FCGX_FPrintF(out, "ok %d\n", getpid());
    }
}

static void *serve(void *unused) {
    FCGX_Request request;
    if (FCGX_InitRequest(&request, 0, 0) != 0) fail("FCGX_InitRequest");
    while (FCGX_Accept_r(&request) == 0) {
        if (asked.crash_first_request) die_by(SIGSEGV);
        if (asked.exit_first_request >= 0) _exit(asked.exit_first_request);
        handle(&request);
        FCGX_Finish_r(&request);
        if (__sync_add_and_fetch(&served, 1) == asked.exit0_after) exit(0);
    }
    return unused;
}

static void on_term(int unused) {
    (void)unused;
    FCGX_ShutdownPending();
}

static void set_handler(int signal_number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler};
    sigaction(signal_number, &action, NULL);
}

static const char *value(char ***arguments) {
    char *next = *++*arguments;
    if (!next) {
        fprintf(stderr, "worker: %s needs a value\n", (*arguments)[-1]);
        exit(112);
    }
    return next;
}

static void exit_with(int code, const char *message) {
    fprintf(stderr, "%s\n", message);
    fflush(stderr);
    exit(code);
}

/* A file that holds an exit code makes the start fail with it: a release that can be mended on disk. */
static void exit_while(const char *path, const char *message) {
    FILE *file = fopen(path, "r");
    int code = 1;
    if (!file) return;
    if (fscanf(file, "%d", &code) != 1) code = 1;
    fclose(file);
    exit_with(code, message);
}

int main(int count, char **arguments) {
    const char *message = "worker: cannot load: no such module";
    (void)count;
    log_start();
    FCGX_Init();
    for (char **at = arguments + 1; *at; at++) {
        const char *name = *at;
#define OPTION(text) (strcmp(name, text) == 0)
        if (OPTION("--message")) message = value(&at);
        else if (OPTION("--exit-at-start")) exit_with(atoi(value(&at)), message);
        else if (OPTION("--exit-while")) exit_while(value(&at), message);
        else if (OPTION("--die-at-start")) die_by(atoi(value(&at)));
        else if (OPTION("--hang-at-start")) for (;;) pause();
        else if (OPTION("--slow-start")) sleep_for(atof(value(&at)));
        else if (OPTION("--crash-first-request")) asked.crash_first_request = 1;
        else if (OPTION("--exit-first-request")) asked.exit_first_request = atoi(value(&at)) & 255;
        else if (OPTION("--exit0-after")) asked.exit0_after = atoi(value(&at));
        else if (OPTION("--ignore-term")) set_handler(SIGTERM, SIG_IGN);
        else if (OPTION("--handle-term")) set_handler(SIGTERM, on_term);
        else if (OPTION("--default-term")) set_handler(SIGTERM, SIG_DFL);
        else if (OPTION("--term-parent")) kill(getppid(), SIGTERM);
        else if (OPTION("--stderr-flood")) flood(2, atol(value(&at)));
        else if (OPTION("--stdout-flood")) flood(1, atol(value(&at)));
        else if (OPTION("--stderr-endless-line")) endless_line(2, atoi(value(&at)));
        else if (OPTION("--stderr-binary")) binary(2);
        else if (OPTION("--fork-daemon")) fork_daemon();
        else if (OPTION("--bomb")) fork_children(atoi(value(&at)));
        else if (OPTION("--close-listener")) close(0);
        else if (OPTION("--shutdown-listener")) shutdown(0, SHUT_RDWR);
        else if (OPTION("--threads")) asked.threads = atoi(value(&at));
        else {
            fprintf(stderr, "worker: unknown option %s\n", name);
            return 112;
        }
    }
    for (int i = 1; i < asked.threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, NULL) != 0) fail("pthread_create");
    }
    serve(NULL);
    return 0;
}
