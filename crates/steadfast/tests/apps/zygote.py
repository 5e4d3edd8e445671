#!/usr/bin/python3
"""An application that is loaded by a zygote (or started as a worker) and misbehaves as the file that MODE names says.

That file is JSON. It is read once, when the application is loaded, so forked workers go by what their zygote has read.
A zygote that gets SIGUSR1 reads it again and does what stands under "now"; what it has done it writes to the file DONE.

While it loads: "raise" (text), "hang", "die" (code, after "raise" as text of stderr), "connect" ([host, port]), "thread" (its name), "fds" (how many),
"write" (a file that is kept open to be written).
As a zygote: "babble" (lines said after ready), "answer" ("none", "hang up", "twice", "elsewhere": the pid that stands in the file
PID), "answer_after" (seconds), "stranger" (another process connects the worker's link), "early" (its workers crash
before they have told it of themselves), "refuse" (it says fork-failed).
As a worker: "worker" ("exit", "crash", "hang", "die" 10 ms after its ready, "late" 100), "percent" (of them, by their pids).
Now: "leak" (MiB), "orphan" (a process that outlives the zygote, its pid in the file PID), "worker", "answer", … as above, for what is forked from then on.

START_LOG gets "CLOCK_MONOTONIC-nanoseconds PID" of each worker, LOAD_LOG of each time that the application is loaded.
Paths: /crash, else `ok PID`; the header X-Release says what stands in RELEASE.
"""
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import threading
import time

RELEASE = "1"
kept = []                                       # what stays open, or stays in memory


def read_mode():
    with open(os.environ["MODE"]) as file:
        return json.loads(file.read() or "{}")


def note(name, text):
    if path := os.environ.get(name):
        with open(path, "a") as file:
            file.write(text + "\n")


def note_start(name):
    note(name, "%d %d" % (time.clock_gettime_ns(time.CLOCK_MONOTONIC), os.getpid()))


mode = read_mode()


# --- the link --------------------------------------------------------------------------------------------------------

class Link:
    def __init__(self, sock):
        self.socket, self.file = sock, sock.makefile("rb")

    def say(self, **message):
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self):
        line = self.file.readline()
        return json.loads(line) if line.endswith(b"\n") else None


def change(*_):
    """SIGUSR1 to a zygote."""
    now = read_mode().get("now", {})
    mode.update(now)
    if leak := now.get("leak"):
        # Touched page by page: reserved memory is no memory.
        kept.append(bytearray(os.urandom(4096)) * (leak * 256))
    if now.get("orphan"):
        leave_orphan()
    note("DONE", json.dumps(now))


def leave_orphan():
    middle = os.fork()
    if middle == 0:
        if pid := os.fork():
            note("PID", str(pid))
            os._exit(0)
        os.setsid()
        os.closerange(3, 64)
        signal.pause()
        os._exit(0)
    os.waitpid(middle, 0)


def zygote(link):
    signal.signal(signal.SIGUSR1, change)
    link.say(type="ready")
    for line in mode.get("babble", []):
        link.socket.sendall(line.encode() + b"\n")
    while (order := link.hear()) is not None and order["type"] != "quit":
        if order["type"] == "fork":
            note_start("ORDER_LOG")
            if own := obey(link, order):
                return own
    sys.exit(0)


def obey(link, order):
    slot, answer = order["slot"], mode.get("answer")
    if mode.get("refuse"):
        link.say(type="fork-failed", slot=slot, message="fork: Resource temporarily unavailable", errno=11)
        return None
    if answer == "none":
        return None
    if answer == "hang up":
        link.socket.shutdown(socket.SHUT_RDWR)
        time.sleep(3600)
    if answer == "elsewhere":
        with open(os.environ["PID"]) as file:
            link.say(type="forked", slot=slot, pid=int(file.read()))
        return None
    done, told = os.pipe()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os.close(done)
            own = become_worker(link, order)
            os.write(told, b"%d" % os.getpid())
            os.close(told)
            return own
        os._exit(0)
    os.close(told)
    pid = os.read(done, 20)
    os.close(done)
    os.waitpid(middle, 0)
    if wait := mode.get("answer_after"):
        time.sleep(wait)
    if not pid:
        link.say(type="fork-failed", slot=slot, message="the worker died while it opened its doors")
        return None
    for _ in range(2 if answer == "twice" else 1):
        link.say(type="forked", slot=slot, pid=int(pid))
    return None


def become_worker(link, order):
    os.setpgid(0, 0)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    if mode.get("early"):
        os.kill(os.getpid(), signal.SIGSEGV)
    os.dup2(os.open(order["stdout"], os.O_WRONLY), 1)
    os.dup2(os.open(order["stderr"], os.O_WRONLY), 2)
    link.socket.close()
    if mode.get("stranger"):
        if os.fork() == 0:
            socket.socket(socket.AF_UNIX).connect(order["link"])
            os._exit(0)
        os.wait()
    own = socket.socket(socket.AF_UNIX)
    own.connect(order["link"])
    if "path" in order:
        os.umask(0o117)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(order["path"])
        listener.listen(8)
        os.dup2(listener.detach(), 0)
    os.environ["STEADFAST_ROLE"] = "worker"
    return Link(own)


# --- FastCGI 1.0, as little as answers one request at a time ---------------------------------------------------------

def application(params):
    if "/crash" in params:
        os.kill(os.getpid(), signal.SIGSEGV)
    return b"Content-Type: text/plain\r\nX-Release: %s\r\n\r\nok %d\n" % (RELEASE.encode(), os.getpid())


def serve(connection):
    params, keep, stream = b"", False, connection.makefile("rb")
    while head := stream.read(8):
        _, kind, request, length, padding = struct.unpack(">BBHHBx", head)
        body = stream.read(length)
        stream.read(padding)
        if kind == 1:                                       # BEGIN_REQUEST
            params, keep = b"", body[2] & 1
        elif kind == 4:                                     # PARAMS
            params += body
        elif kind == 5 and not body:                        # the end of STDIN
            answer = application(params.decode("latin-1"))
            record = struct.pack(">BBHHBx", 1, 6, request, len(answer), 0) + answer
            connection.sendall(record + struct.pack(">BBHHBxIB3x", 1, 3, request, 8, 0, 0, 0))
            if not keep:
                return


def load():
    note_start("LOAD_LOG")
    if "die" in mode:
        sys.stderr.write(mode.get("raise", "") + "\n")
        sys.exit(mode["die"])
    if "raise" in mode:
        raise RuntimeError(mode["raise"])
    if mode.get("hang"):
        time.sleep(100000)
    if "connect" in mode:
        kept.append(socket.create_connection(tuple(mode["connect"])))
    if "thread" in mode:
        is_named = threading.Event()

        def stay():
            with open("/proc/thread-self/comm", "w") as file:
                file.write(mode["thread"])
            is_named.set()
            time.sleep(100000)

        threading.Thread(target=stay, daemon=True).start()
        is_named.wait()
    if "write" in mode:
        kept.append(open(mode["write"], "w"))
    kept.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(mode.get("fds", 0)))


def misbehave(link):
    """What a worker does in place of its work, or right after it has said that it is ready."""
    what = mode.get("worker")
    if what is None or os.getpid() * 7919 % 100 >= mode.get("percent", 100):
        return
    if what == "exit":
        sys.stderr.write("zygote.py: no database\n")
        sys.stderr.flush()
        os._exit(3)
    elif what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "hang":
        time.sleep(100000)
    elif what in ("die", "late"):
        link.say(type="ready")
        time.sleep(0.01 if what == "die" else 0.1)
        os._exit(4)


def main():
    link = Link(socket.socket(fileno=int(os.environ["STEADFAST_LINK"])))
    role = os.environ.get("STEADFAST_ROLE", "worker")
    link.say(type="hello", version=1, pid=os.getpid(), role=role)
    load()
    if role == "zygote":
        link = zygote(link)
        link.say(type="hello", version=1, pid=os.getpid(), role="worker")
    note_start("START_LOG")
    misbehave(link)
    # Nobody sends a forked worker a signal when the supervisor dies, but its link ends: let the kernel tell.
    signal.signal(signal.SIGIO, lambda *_: link.hear() is None and os._exit(0))
    fcntl.fcntl(link.socket, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(link.socket, fcntl.F_SETFL, fcntl.fcntl(link.socket, fcntl.F_GETFL) | os.O_ASYNC)
    listener = socket.socket(fileno=0)
    link.say(type="ready")
    while True:
        connection, _ = listener.accept()
        serve(connection)
        connection.close()


main()
