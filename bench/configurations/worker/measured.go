// What bench/worker measures, on Go's net/http/fcgi as its documentation has it.
package main

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/fcgi"
	"strconv"
)

func main() {
	greeting := []byte("Hello from steadfast, one and all\n")
	large := bytes.Repeat([]byte("x"), 10<<20)
	answer := func(w http.ResponseWriter, r *http.Request) {
		body := greeting
		switch r.URL.Path {
		case "/64k":
			body = large[:64<<10]
		case "/10m":
			body = large
		case "/upload":
			all, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				panic(err)
			}
			body = []byte(strconv.FormatInt(all, 10) + "\n")
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}
	// No listener: descriptor 0.
	log.Fatal(fcgi.Serve(nil, http.HandlerFunc(answer)))
}
