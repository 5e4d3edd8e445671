/* What bench/worker measures, on libfcgi as most C programs use it: one request after the other, on descriptor 0. */
#include <fcgiapp.h>
#include <stdio.h>
#include <string.h>

#define GREETING "Hello from steadfast, one and all\n"

static char large[10 << 20];
static char buffer[64 << 10];

int main(void) {
    FCGX_Request request;
    memset(large, 'x', sizeof large);
    FCGX_Init();
    FCGX_InitRequest(&request, 0, 0);
    while (FCGX_Accept_r(&request) == 0) {
        const char *path = FCGX_GetParam("REQUEST_URI", request.envp);
        const char *body = GREETING;
        char text[32];
        int length = sizeof GREETING - 1;
        if (path && !strcmp(path, "/64k")) {
            body = large;
            length = 64 << 10;
        } else if (path && !strcmp(path, "/10m")) {
            body = large;
            length = sizeof large;
        } else if (path && !strcmp(path, "/upload")) {
            int got, all = 0;
            while ((got = FCGX_GetStr(buffer, sizeof buffer, request.in)) > 0)
                all += got;
            length = sprintf(text, "%d\n", all);
            body = text;
        }
        FCGX_FPrintF(request.out, "Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n", length);
        FCGX_PutStr(body, length, request.out);
    }
    return 0;
}
