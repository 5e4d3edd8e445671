"""What is measured of the front: the ways in turn, latency at half load, system calls, and memory."""

import contextlib
import os
import re
import resource
import signal
import socket
import statistics
import subprocess
import tempfile
import time

from . import fastcgi, processes, ways

HELD = 10_000  # idle connections of each kind
KEEP = 1  # FCGI_KEEP_CONN


class Plan:
    """How often and how long."""

    def __init__(self, quick):
        self.rounds = 2 if quick else 5
        self.seconds = 1 if quick else 3
        self.trace_seconds = 2 if quick else 4
        self.held = 2_000 if quick else HELD


@contextlib.contextmanager
def site():
    with tempfile.TemporaryDirectory(prefix="bench-front-") as directory:
        running = ways.Site(directory)
        try:
            running.start()
            yield running
        finally:
            running.stop()


def one_way(running, way, seconds):
    """So many seconds of one way by wrk, and the CPU microseconds of each request there."""
    before = running.cpu(way)
    result = ways.wrk(running.url(way), seconds)
    after = running.cpu(way)
    result["cpu_us"] = {who: (after[who] - before[who]) * 1e6 / max(result["requests"], 1) for who in before}
    return result


def half_load(running, seconds, most):
    """C libfcgi directly and behind the front, kept connections, requests at fixed times: half of what `most` can."""
    direct, front = f"unix:{running.directory}/c.sock", f"unix:{running.directory}/front-c.sock"
    rate = most / 2
    # A libfcgi worker is its connection's own while that is kept, so the direct way has one connection for each.
    found = {
        "rate": rate,
        "direct": ways.bench(direct, seconds, ways.WORKERS, rate),
        "front": ways.bench(front, seconds, 32, rate),
    }
    for key, percentile in (("p50_added_us", "p50"), ("p99_added_us", "p99")):
        found[key] = 1000 * (found["front"]["latency_ms"][percentile] - found["direct"]["latency_ms"][percentile])
    return found


def alone(running, seconds, pool):
    """The front without a web server: 32 kept connections at full load. Its CPU of each request, in microseconds."""
    address = f"unix:{running.directory}/front-{pool}.sock"
    before = processes.cpu(running.front)[0]
    said = ways.bench(address, seconds, 32, warm=False)
    used = processes.cpu(running.front)[0] - before
    requests = said["requests"]
    return {"rps": said["rps"], "failed": requests["failed"], "cpu_us": used * 1e6 / max(requests["total"], 1)}


def system_calls(running, name, load):
    """strace of the front while `load` runs, which gives the number of requests. {call: so many for each request}."""
    output = running.directory / f"strace-{name}.txt"
    tracer = subprocess.Popen(
        ["strace", "-f", "-c", "-U", "name,calls,errors", "-o", output, "-p", str(running.front)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        # strace says so when it has attached.
        for line in tracer.stderr:
            if "attached" in line:
                break
        requests = load()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)
    calls = {}
    for line in output.read_text().splitlines():
        if (words := line.split()) and re.fullmatch(r"\d+", words[1] if len(words) > 1 else "") and words[0] != "total":
            calls[words[0]] = int(words[1]) / requests
    return {"requests": requests, "calls": calls, "total": sum(calls.values())}


def traced(running, plan):
    """System calls of the front at full load behind nginx, without nginx, and at a load where it sleeps between two."""
    address = f"unix:{running.directory}/front-c.sock"

    def direct(rate=None):
        return lambda: ways.bench(address, plan.trace_seconds, 32, rate, warm=False)["requests"]["total"]

    return {
        "behind nginx, 32 connections": system_calls(
            running, "nginx", lambda: ways.wrk(running.url(running.ways["c front"]), plan.trace_seconds)["requests"]
        ),
        "32 kept connections": system_calls(running, "full", direct()),
        "500 requests a second": system_calls(running, "low", direct(500)),
    }


# Memory


def rss(pid):
    """Resident KiB: all, and what is not a file's."""
    found = dict(line.split(":", 1) for line in processes.read(f"/proc/{pid}/status").splitlines() if ":" in line)
    return {"all": int(found["VmRSS"].split()[0]), "own": int(found["RssAnon"].split()[0])}


def open_fastcgi(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(path))
    return connection


def open_http(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def ask_fastcgi(connection, payload):
    """One kept request; the connection is idle afterwards."""
    connection.sendall(payload)
    data = b""
    while fastcgi.judge(data) in ("closed", "cut"):
        block = connection.recv(65536)
        if not block:
            raise RuntimeError(f"the front closed a kept connection after {data!r}")
        data += block
    if fastcgi.judge(data) != "ok":
        raise RuntimeError(f"the front answered {data!r}")


def ask_http(connection, payload):
    connection.sendall(payload)
    data = b""
    while b"one and all\n" not in data:
        block = connection.recv(65536)
        if not block:
            raise RuntimeError(f"the front closed a kept connection after {data!r}")
        data += block
    if not data.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the front answered {data!r}")


def is_open(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(10)


def kept_payload():
    """A FastCGI request with 25 params that asks for its connection to be kept."""
    params = {f"HTTP_X_{number}": "something of a usual length" for number in range(19)}
    params |= {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/hello", "REQUEST_URI": "/hello", "QUERY_STRING": ""}
    params |= {"SCRIPT_FILENAME": "/srv/site/hello", "SERVER_PROTOCOL": "HTTP/1.1"}
    content = b"".join(bytes([len(name), len(value)]) + name.encode() + value.encode() for name, value in params.items())
    begin = fastcgi.record(fastcgi.BEGIN, bytes([0, 1, KEEP, 0, 0, 0, 0, 0]))
    rest = fastcgi.record(fastcgi.PARAMS, content) + fastcgi.record(fastcgi.PARAMS) + fastcgi.record(fastcgi.STDIN)
    return begin + rest


def memory(running, plan):
    """A front of its own, with one pool: idle, then with connections of each kind held."""
    name, ports = "memory", {"c": ways.free_port()}
    _, front = running.steadfast(name, ["c"], ports)
    path = running.directory / "memory-c.sock"
    found = {"idle": rss(front), "held": plan.held}
    kinds = {
        "fastcgi": (lambda: open_fastcgi(path), ask_fastcgi, kept_payload()),
        "http": (lambda: open_http(ports["c"]), ask_http, ways.http_request("127.0.0.1")),
    }
    for kind, (connect, ask, payload) in kinds.items():
        before, held = rss(front), []
        try:
            for _ in range(plan.held):
                held.append(connect())
            # Whoever was accepted last is answered: then all have been accepted.
            ask(held[-1], payload)
            silent = rss(front)
            for connection in held[:-1]:
                ask(connection, payload)
            kept = rss(front)
            time.sleep(1)
            still = sum(map(is_open, held))
            ask(held[0], payload)
        finally:
            for connection in held:
                connection.close()
        ended = processes.wait_until(lambda: descriptors(front) < plan.held / 10, 20)
        found[kind] = {
            "silent_bytes": 1024 * (silent["all"] - before["all"]) / plan.held,
            "kept_bytes": 1024 * (kept["all"] - before["all"]) / plan.held,
            "still_open": still,
            "closed_with_clients": ended,
            "after": rss(front),
        }
    return found


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


# All


def measure(plan, say):
    with site() as running:
        params = running.count_params()
        if params != ways.PARAMS:
            raise RuntimeError(f"nginx sends {params} params, not {ways.PARAMS}: mend HEADERS in bench/measure/ways.py")
        say("memory")
        data = {"params": params, "memory": memory(running, plan)}
        data |= {"ways": {}, "names": {key: way.name for key, way in running.ways.items()}}
        data |= {"alone": {"c": [], "rust": []}, "half": []}
        for way in running.ways.values():
            ways.wrk(running.url(way), 1)  # warm
        for number in range(1, plan.rounds + 1):
            say(f"round {number} of {plan.rounds}")
            for key, way in running.ways.items():
                data["ways"].setdefault(key, []).append(one_way(running, way, plan.seconds))
            for pool, results in data["alone"].items():
                results.append(alone(running, plan.seconds, pool))
            most = statistics.median(result["rps"] for result in data["alone"]["c"])
            data["half"].append(half_load(running, plan.seconds, most))
        say("system calls")
        data["calls"] = traced(running, plan)
        status = running.status("steadfast")["pools"]
        data["pools"] = {pool["name"]: {"requests": pool["requests"], "breaker": pool["breaker"]["state"]} for pool in status}
        return data


def raise_files():
    """Open files for the connections that are held, here and in what is started here."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < ways.FILES:
        raise RuntimeError(f"only {hard:,} files may be open, and {ways.FILES:,} are needed: raise it by ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (ways.FILES, ways.FILES))


def foreign():
    """CPU seconds so far: (now, all that was used, what the host took, what we and all that we started used)."""
    fields = [int(field) / processes.TICKS for field in processes.read("/proc/stat").split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, irq, softirq, steal = fields
    return time.monotonic(), user + nice + system + irq + softirq, steal, processes.tree_cpu(os.getpid())


def foreign_share(before):
    """CPUs that others of this machine and its host took since then: what makes figures doubtful."""
    at, used, steal, ours = (now - then for now, then in zip(foreign(), before))
    return max(0.0, (used - ours + steal) / at)
