/* A FastCGI application on libfcgi: the whole of it. */
#include <fcgi_stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void) {
    while (FCGI_Accept() >= 0) {
        const char *uri = getenv("REQUEST_URI");
        printf("Content-Type: text/plain\r\n\r\nC, process %d: %s\n", getpid(), uri ? uri : "/");
    }
    return 0;
}
