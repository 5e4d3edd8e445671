/* Starts a program in a world where system calls misbehave: `faults [--trap-kill] [--fork-errno FILE | --accept-errno FILE] PROGRAM
 * [ARGUMENT …]`.
 *
 * --trap-kill: kill(2) with 0, 1 or -1 for a pid ends the caller with SIGSYS: no supervisor may ever say that.
 * --fork-errno FILE: while FILE holds a number above 0, the program's own fork and clone fail with that errno, and each
 * such failure appends its CLOCK_MONOTONIC nanoseconds to FILE.refused. What the program starts may fork as it likes.
 *
 * --accept-errno FILE: the same for accept4 that is to give a socket that never blocks (a front's, and no worker's), of
 * all that the program starts and not of itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "no seccomp filter for this architecture"
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
/* If the loaded word is `value`, the verdict is `action`. */
#define WHEN(value, action) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 1), BPF_STMT(BPF_RET | BPF_K, (action))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void fail(const char *what) {
    fprintf(stderr, "faults: %s: %s\n", what, strerror(errno));
    exit(111);
}

static int install(struct sock_filter *filter, unsigned short length, unsigned flags) {
    struct sock_fprog program = {length, filter};
    /* Who is not root may filter only himself and what can gain nothing by it. */
    if (geteuid() != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("no new privileges");
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void trap_kill(void) {
    struct sock_filter filter[] = {
        LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0), ALLOW,
        LOAD(nr),   BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kill, 1, 0),     ALLOW,
        LOAD(args[0]), /* the low half: pid_t has 32 bits, and both architectures begin with it */
        WHEN(0xffffffff, SECCOMP_RET_TRAP), WHEN(0, SECCOMP_RET_TRAP), WHEN(1, SECCOMP_RET_TRAP), ALLOW,
    };
    if (install(filter, sizeof filter / sizeof *filter, 0) < 0) fail("trap kill");
}

static int notify_accepts(void) {
    struct sock_filter filter[] = {
        LOAD(arch),    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),     ALLOW,
        LOAD(nr),      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_accept4, 1, 0),      ALLOW,
        LOAD(args[3]), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, SOCK_NONBLOCK, 1, 0),   ALLOW,
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    };
    int fd = install(filter, sizeof filter / sizeof *filter, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    if (fd < 0) fail("notify about accepts");
    return fd;
}

static int notify_forks(void) {
    struct sock_filter filter[] = {
        LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0), ALLOW, LOAD(nr),
        WHEN(SYS_clone, SECCOMP_RET_USER_NOTIF), WHEN(SYS_clone3, SECCOMP_RET_USER_NOTIF),
#ifdef SYS_fork
        WHEN(SYS_fork, SECCOMP_RET_USER_NOTIF), WHEN(SYS_vfork, SECCOMP_RET_USER_NOTIF),
#endif
        ALLOW,
    };
    int fd = install(filter, sizeof filter / sizeof *filter, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    if (fd < 0) fail("notify about forks");
    return fd;
}

/* The errno that forks fail with now, or 0. */
static int wanted(const char *path) {
    char text[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    return atoi(text);
}

static void note_refusal(const char *path) {
    char name[4096], line[32];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(name, sizeof name, "%s.refused", path);
    int length = snprintf(line, sizeof line, "%lld 0\n", now.tv_sec * 1000000000LL + now.tv_nsec);
    int fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0 && write(fd, line, length) == length) close(fd);
}

/* Answers for the kernel until nobody lives under the filter. */
static void decide(int listener, pid_t program, int is_own, const char *path) {
    for (;;) {
        struct pollfd event = {.fd = listener, .events = POLLIN};
        if (poll(&event, 1, -1) < 0 && errno == EINTR) continue;
        if (!(event.revents & POLLIN)) _exit(0);
        struct seccomp_notif call;
        memset(&call, 0, sizeof call);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) continue;
        struct seccomp_notif_resp answer = {.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        int error = ((pid_t)call.pid == program) == is_own ? wanted(path) : 0;
        if (error > 0) {
            note_refusal(path);
            answer.flags = 0;
            answer.error = -error;
        }
        /* Whoever asked may have been killed meanwhile. */
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

static int receive(int from) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(from, &message, 0) != 1) _exit(1);
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void send_fd(int to, int fd) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(to, &message, 0) != 1) fail("hand over the listener");
}

/* The one who decides is no child of the program, has none of its files open and does not stand in its directory. */
static void with_errno(const char *path, int is_fork) {
    int pair[2];
    pid_t program = getpid();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) fail("socketpair");
    pid_t between = fork();
    if (between < 0) fail("fork");
    if (between == 0) {
        if (fork() != 0) _exit(0);
        setsid();
        if (chdir("/") != 0) _exit(1);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; fd < 3; fd++) dup2(null, fd);
        close(pair[0]);
        decide(receive(pair[1]), program, is_fork, path);
    }
    waitpid(between, NULL, 0);
    int listener = is_fork ? notify_forks() : notify_accepts();
    send_fd(pair[0], listener);
    close(listener);
    close(pair[0]);
    close(pair[1]);
}

int main(int count, char **arguments) {
    int at = 1;
    for (; at < count && arguments[at][0] == '-'; at++) {
        if (strcmp(arguments[at], "--trap-kill") == 0) trap_kill();
        else if (strcmp(arguments[at], "--fork-errno") == 0 && at + 1 < count) with_errno(arguments[++at], 1);
        else if (strcmp(arguments[at], "--accept-errno") == 0 && at + 1 < count) with_errno(arguments[++at], 0);
        else {
            fprintf(stderr, "faults: unknown option %s\n", arguments[at]);
            return 112;
        }
    }
    if (at >= count) return 112;
    execvp(arguments[at], arguments + at);
    fail(arguments[at]);
}
