/* The smallest FastCGI worker: no library, one blocking accept on descriptor 0, the same short answer to everybody.
 *
 * It is there to measure how soon a replacement runs: with START_LOG in its environment it appends
 * "CLOCK_MONOTONIC-nanoseconds PID" to that file as the first thing that it does.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BEGIN_REQUEST = 1, END_REQUEST = 3, STDIN = 5, STDOUT = 6, KEEP_CONN = 1 };

static void log_start(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const char *path = getenv("START_LOG");
    if (!path || !*path) return;
    char line[64];
    int length = snprintf(line, sizeof line, "%lld %d\n", now.tv_sec * 1000000000LL + now.tv_nsec, getpid());
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, line, length) != length) _exit(111);
    close(fd);
}

static int read_all(int fd, unsigned char *to, int length) {
    for (int done = 0; done < length;) {
        int got = read(fd, to + done, length - done);
        if (got <= 0) return 0;
        done += got;
    }
    return 1;
}

/* One whole answer in one write: STDOUT, its end, END_REQUEST with status 0. */
static int answer(int fd, const unsigned char *id) {
    unsigned char out[256];
    char body[128];
    int length = snprintf(body, sizeof body, "Content-Type: text/plain\r\n\r\nok %d\n", getpid());
    unsigned char head[8] = {1, STDOUT, id[0], id[1], 0, (unsigned char)length, 0, 0};
    unsigned char end[8] = {1, STDOUT, id[0], id[1], 0, 0, 0, 0};
    unsigned char last[16] = {1, END_REQUEST, id[0], id[1], 0, 8, 0, 0};
    int at = 0;
    memcpy(out + at, head, 8), at += 8;
    memcpy(out + at, body, length), at += length;
    memcpy(out + at, end, 8), at += 8;
    memcpy(out + at, last, 16), at += 16;
    return write(fd, out, at) == at;
}

static void serve(int fd) {
    static unsigned char content[65536 + 256];
    unsigned char head[8];
    int keep = 0;
    while (read_all(fd, head, 8)) {
        int length = head[4] << 8 | head[5];
        if (!read_all(fd, content, length + head[6])) return;
        if (head[1] == BEGIN_REQUEST) keep = content[2] & KEEP_CONN;
        /* An empty STDIN record ends the request. */
        if (head[1] == STDIN && length == 0 && (!answer(fd, head + 2) || !keep)) return;
    }
}

int main(void) {
    log_start();
    for (;;) {
        int fd = accept(0, NULL, NULL);
        if (fd < 0) return 1;
        serve(fd);
        close(fd);
    }
}
