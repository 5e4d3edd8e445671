/* The hello that is measured, on libfcgi as most C programs use it: one request after the other, on descriptor 0. */
#include <fcgiapp.h>

#define BODY "Hello from steadfast, one and all\n"

int main(void) {
    FCGX_Request request;
    FCGX_Init();
    FCGX_InitRequest(&request, 0, 0);
    while (FCGX_Accept_r(&request) == 0)
        FCGX_FPrintF(request.out, "Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", (int)sizeof BODY - 1, BODY);
    return 0;
}
