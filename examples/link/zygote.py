#!/usr/bin/env python3
"""A zygote and its workers in plain Python: everything that docs/link.md says, and a FastCGI responder to see it work.

    steadfast run --listen http://127.0.0.1:8080 --workers 4 --launch zygote --verify 'GET /' \
        --user www-data -- /usr/bin/python3 examples/link/zygote.py
"""
import json
import os
import signal
import socket
import struct
import sys
import threading


# --- the link: this part is what any language needs ----------------------------------------------------------------

class Link:
    def __init__(self, sock):
        self.socket, self.file = sock, sock.makefile("rb")

    def say(self, **message):
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self):
        """The next message; None when the supervisor has gone."""
        line = self.file.readline()
        return json.loads(line) if line.endswith(b"\n") else None


def zygote(link):
    """Forks a worker for each order. Comes back only in the workers, with their own links."""
    link.say(type="ready")
    while (order := link.hear()) is not None and order["type"] != "quit":
        if order["type"] != "fork":
            continue
        done, told = os.pipe()
        middle = os.fork()
        if middle == 0:
            if os.fork() == 0:                  # the worker; its parent is the supervisor as soon as the middle is gone
                os.close(done)
                own = become_worker(link, order)
                os.write(told, b"%d" % os.getpid())
                os.close(told)
                return own
            os._exit(0)
        os.close(told)
        pid = os.read(done, 20)                 # empty when there is no worker, or it could not do its part
        os.close(done)
        os.waitpid(middle, 0)
        if pid:
            link.say(type="forked", slot=order["slot"], pid=int(pid))
        else:
            link.say(type="fork-failed", slot=order["slot"], message="the worker died while it opened its doors")
    sys.exit(0)


def become_worker(link, order):
    os.setpgid(0, 0)
    os.dup2(os.open(order["stdout"], os.O_WRONLY), 1)
    os.dup2(os.open(order["stderr"], os.O_WRONLY), 2)
    link.socket.close()
    own = socket.socket(socket.AF_UNIX)
    own.connect(order["link"])
    if "path" in order:                         # queue mode; in direct mode fd 0 is the pool's own socket
        os.umask(0o117)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(order["path"])
        listener.listen(8)
        os.dup2(listener.detach(), 0)
    os.environ["STEADFAST_ROLE"] = "worker"
    return Link(own)


# --- an application --------------------------------------------------------------------------------------------------

def application(params):
    if params.get("REQUEST_URI", "").endswith("/crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return b"Content-Type: text/plain\r\n\r\nhello from %d\n" % os.getpid()


# --- FastCGI 1.0, as little as answers one request at a time ---------------------------------------------------------

def records(stream):
    while head := stream.read(8):
        _, kind, request, length, padding = struct.unpack(">BBHHBx", head)
        yield kind, request, stream.read(length)
        stream.read(padding)


def pairs(data):
    at, found = 0, {}

    def size():
        nonlocal at
        short = data[at] < 128
        at += 1 if short else 4
        return data[at - 1] if short else struct.unpack(">I", data[at - 4:at])[0] & 0x7fffffff

    while at < len(data):
        name, value = size(), size()
        found[data[at:at + name].decode("latin-1")] = data[at + name:at + name + value].decode("latin-1")
        at += name + value
    return found


def serve(connection):
    params, keep, stream = b"", False, connection.makefile("rb")
    for kind, request, body in records(stream):
        if kind == 1:                                       # BEGIN_REQUEST
            params, keep = b"", body[2] & 1
        elif kind == 4:                                     # PARAMS
            params += body
        elif kind == 5 and not body:                        # the end of STDIN
            answer = application(pairs(params))
            record = struct.pack(">BBHHBx", 1, 6, request, len(answer), 0) + answer
            connection.sendall(record + struct.pack(">BBHHBxIB3x", 1, 3, request, 8, 0, 0, 0))
            if not keep:
                return


def main():
    link = Link(socket.socket(fileno=int(os.environ["STEADFAST_LINK"])))
    role = os.environ.get("STEADFAST_ROLE", "worker")
    link.say(type="hello", version=1, pid=os.getpid(), role=role)
    # … here the application is loaded, once …
    if role == "zygote":
        link = zygote(link)
        link.say(type="hello", version=1, pid=os.getpid(), role="worker")
    # Nobody sends a forked worker a signal when the supervisor dies, but its link ends. A worker may have threads.
    busy = threading.Lock()
    threading.Thread(target=leave_with, args=(link, busy), daemon=True).start()
    listener = socket.socket(fileno=0)
    link.say(type="ready")
    while True:
        connection, _ = listener.accept()
        with busy:
            serve(connection)
        connection.close()


def leave_with(link, busy):
    while (message := link.hear()) is not None and message["type"] not in ("drain", "quit"):
        pass
    busy.acquire()                              # whatever is in hand is finished first
    os._exit(0)


main()
