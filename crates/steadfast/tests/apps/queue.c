/* The worker of the queue's tests, on libfcgi. queue.pl and queue.php do the same by the same paths.
 *
 * The path is REQUEST_URI's, because every web server sends it alike. Answers carry `X-Worker: PID`.
 *
 *   /hello  /count             hello
 *   /echo                      what it was asked: method, params, then length and CRC-32 of the body
 *   /big?bytes=N[&length=1]    N bytes of lines that say where they stand, with a Content-Length if wanted; none of
 *                              them for HEAD, which the other paths do not know
 *   /header?back=N             length and CRC-32 of the request's X-Large; N bytes of X-Large come back
 *   /sleep?ms=N  /leak?mb=N  /stderr?text=T  /crash[?signal=N]
 *   /exit?code=N               (not in PHP)
 *   /crash?say=TEXT            says so on stderr, the process's own, and crashes (in C only)
 *   /half?bytes=N              promises N bytes, sends half of them and is gone by SIGKILL
 *   /early?bytes=N[&read=1]    answers N bytes before it reads the body, which it reads then, or not at all
 *   /raw                       the body is the whole answer, head included, as it is (not in PHP)
 *
 * With COUNT_LOG in its environment each request appends "ID METHOD URI" to that file before it does anything.
 */
#include <fcgiapp.h>
#include <stdint.h>

#include "common.h"

enum { BLOCK = 65536, LINE = 64 };

static char block[BLOCK];

static uint32_t crc32_of(uint32_t crc, const char *bytes, size_t length) {
    static uint32_t table[256];
    for (uint32_t byte = 0; !table[255] && byte < 256; byte++) {
        uint32_t rest = byte;
        for (int bit = 0; bit < 8; bit++) rest = rest & 1 ? 0xedb88320u ^ rest >> 1 : rest >> 1;
        table[byte] = rest;
    }
    crc = ~crc;
    for (size_t at = 0; at < length; at++) crc = table[(crc ^ (unsigned char)bytes[at]) & 0xff] ^ crc >> 8;
    return ~crc;
}

static const char *param(FCGX_Request *request, const char *name) {
    const char *value = FCGX_GetParam(name, request->envp);
    return value ? value : "";
}

/* A value of the query, as it stands there; empty when it does not. */
static const char *query(FCGX_Request *request, const char *name) {
    static char value[1024];
    size_t length = strlen(name);
    for (const char *at = param(request, "QUERY_STRING"); *at; at += strcspn(at, "&"), at += *at == '&') {
        if (strncmp(at, name, length) != 0 || at[length] != '=') continue;
        snprintf(value, sizeof value, "%.*s", (int)strcspn(at + length + 1, "&"), at + length + 1);
        return value;
    }
    return "";
}

static long long number(FCGX_Request *request, const char *name) { return atoll(query(request, name)); }

static void count_request(FCGX_Request *request) {
    const char *path = getenv("COUNT_LOG");
    static char line[8192];
    if (!path || !*path) return;
    int length = snprintf(line, sizeof line, "%s %s %s\n", param(request, "HTTP_X_REQUEST_ID"),
                          param(request, "REQUEST_METHOD"), param(request, "REQUEST_URI"));
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, line, length) != length) fail(path);
    close(fd);
}

/* The head, with more lines of it that end in CRLF. */
static void begin(FCGX_Request *request, const char *more) {
    FCGX_FPrintF(request->out, "Content-Type: text/plain\r\nX-Worker: %d\r\n%s\r\n", getpid(), more);
}

static void say_sum(FCGX_Request *request, const char *what, unsigned long long length, uint32_t crc) {
    char line[128];
    snprintf(line, sizeof line, "%s %llu %08x\n", what, length, crc);
    FCGX_PutS(line, request->out);
}

static void read_body(FCGX_Request *request) {
    unsigned long long length = 0;
    uint32_t crc = 0;
    for (int got; (got = FCGX_GetStr(block, sizeof block, request->in)) > 0; length += got)
        crc = crc32_of(crc, block, got);
    say_sum(request, "body", length, crc);
}

static void echo(FCGX_Request *request) {
    static const char *const names[] = {
        "REQUEST_METHOD", "REQUEST_URI", "QUERY_STRING", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_X_TEST",
        "HTTP_X_REQUEST_ID", "REMOTE_ADDR", "HTTP_PROXY", "HTTP_COOKIE"};
    begin(request, "");
    for (size_t at = 0; at < sizeof names / sizeof *names; at++)
        FCGX_FPrintF(request->out, "%s=%s\n", names[at], param(request, names[at]));
    read_body(request);
}

/* Lines of 64 bytes: 15 hexadecimal digits that say where the line begins, dots, a newline. */
static void say_lines(FCGX_Request *request, long long bytes) {
    for (long long done = 0; done < bytes;) {
        long long room = bytes - done < BLOCK ? bytes - done : BLOCK;
        memset(block, '.', sizeof block);
        for (int at = 0; at < room; at += LINE) {
            long long rest = done + at;
            for (int digit = 14; digit >= 0; digit--, rest >>= 4) block[at + digit] = "0123456789abcdef"[rest & 15];
            block[at + LINE - 1] = '\n';
        }
        if (FCGX_PutStr(block, (int)room, request->out) < 0) return;
        done += room;
    }
}

static void big(FCGX_Request *request) {
    char length[64] = "";
    if (number(request, "length")) snprintf(length, sizeof length, "Content-Length: %lld\r\n", number(request, "bytes"));
    begin(request, length);
    if (strcmp(param(request, "REQUEST_METHOD"), "HEAD") != 0) say_lines(request, number(request, "bytes"));
}

static void half(FCGX_Request *request) {
    char length[64];
    snprintf(length, sizeof length, "Content-Length: %lld\r\n", number(request, "bytes"));
    begin(request, length);
    say_lines(request, number(request, "bytes") / 2);
    FCGX_FFlush(request->out);
    die_by(SIGKILL);
}

static void header(FCGX_Request *request) {
    const char *large = param(request, "HTTP_X_LARGE");
    long long back = number(request, "back");
    FCGX_FPrintF(request->out, "X-Large: ");
    for (long long at = 0; at < back; at++) FCGX_PutChar('a' + at % 26, request->out);
    FCGX_FPrintF(request->out, "\r\n");
    begin(request, "");
    say_sum(request, "large", strlen(large), crc32_of(0, large, strlen(large)));
}

static void leak(FCGX_Request *request) {
    size_t size = (size_t)number(request, "mb") << 20;
    char *memory = malloc(size ? size : 1);
    if (memory) memset(memory, 1, size);
}

static void early(FCGX_Request *request) {
    begin(request, "");
    say_lines(request, number(request, "bytes"));
    FCGX_FFlush(request->out);
    if (number(request, "read")) read_body(request);
}

static void raw(FCGX_Request *request) {
    for (int got; (got = FCGX_GetStr(block, sizeof block, request->in)) > 0;) FCGX_PutStr(block, got, request->out);
}

static void handle(FCGX_Request *request) {
    const char *uri = param(request, "REQUEST_URI");
    size_t length = strcspn(uri, "?");
#define IS(name) (length == sizeof name - 1 && strncmp(uri, name, length) == 0)
    if (IS("/echo")) return echo(request);
    if (IS("/big")) return big(request);
    if (IS("/half")) return half(request);
    if (IS("/header")) return header(request);
    if (IS("/early")) return early(request);
    if (IS("/raw")) return raw(request);
    if (IS("/crash") && *query(request, "say")) dprintf(2, "%s\n", query(request, "say"));
    if (IS("/crash")) die_by(number(request, "signal") ? (int)number(request, "signal") : SIGSEGV);
    if (IS("/exit")) _exit((int)number(request, "code") & 255);
    if (IS("/sleep")) sleep_for(number(request, "ms") / 1000.0);
    if (IS("/leak")) leak(request);
    if (IS("/stderr")) FCGX_FPrintF(request->err, "%s\n", query(request, "text"));
    if (!IS("/hello") && !IS("/count") && !IS("/sleep") && !IS("/leak") && !IS("/stderr"))
        FCGX_FPrintF(request->out, "Status: 404 Not Found\r\n");
    begin(request, "");
    FCGX_FPrintF(request->out, "hello\n");
}

int main(void) {
    FCGX_Request request;
    log_start();
    FCGX_Init();
    if (FCGX_InitRequest(&request, 0, 0) != 0) fail("FCGX_InitRequest");
    while (FCGX_Accept_r(&request) == 0) {
        count_request(&request);
        handle(&request);
        FCGX_Finish_r(&request);
    }
    return 0;
}
