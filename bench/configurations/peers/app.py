"""The application for gunicorn; loaded by each worker."""

import os
import pathlib
import re
import sys
import time

DIRECTORY = pathlib.Path("@DIR@")

with open(DIRECTORY / "starts", "a") as log:
    log.write(f"{time.monotonic_ns()} {os.getpid()}\n")
if (DIRECTORY / "broken").exists():
    print("worker: cannot load: no such module", file=sys.stderr, flush=True)
    sys.exit(3)


def application(environ, start_response):
    began = time.monotonic_ns()
    if delay := re.search(r"delay=([0-9.]+)", environ.get("QUERY_STRING", "")):
        time.sleep(float(delay[1]))
    body = f"ok {os.getpid()} {began} {time.monotonic_ns()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
