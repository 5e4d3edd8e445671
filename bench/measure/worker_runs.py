"""What is measured of the workers: each load on each way for all of them in turn, then their system calls."""

import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess

from . import processes, ways, workers

BODY = 1 << 20

# load: (path, is it a POST, clients when connections are closed). Kept connections are as many as workers: a worker
# without threads or a loop of events belongs to its connection while that is kept.
LOADS = {
    "hello": ("/hello", False, 32),
    "64 KiB": ("/64k", False, 2),
    "10 MiB": ("/10m", False, 2),
    "POST 1 MiB": ("/upload", True, 2),
}
WAYS = {
    "closed": "directly, a connection for each request",
    "kept": "directly, kept connections",
    "nginx closed": "through nginx, a connection for each request",
    "nginx kept": "through nginx, kept connections",
}


class Plan:
    """How often and how long."""

    def __init__(self, quick, direct, rounds):
        self.rounds = rounds or (2 if quick else 5)
        self.seconds = 0.4 if quick else 0.6
        self.ways = [way for way in WAYS if not (direct and "nginx" in way)]
        self.traced = 400 if quick else 2000


def free_ports(count):
    """So many at once, so that none comes twice."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Site:
    """All workers, and one nginx before them."""

    def __init__(self, directory, peers):
        self.directory = directory
        self.body = directory / "body"
        self.body.write_bytes(bytes(range(256)) * (BODY // 256))
        self.workers, self.nginx, self.master = {}, None, None
        places = [(peer, way) for peer in peers for way in WAYS if "nginx" in way]
        self.ports = dict(zip(places, free_ports(len(places))))
        # nginx's kept connections stay open between two rounds, and a worker that belongs to one serves nobody else: so
        # they have workers of their own.
        for peer, command in peers.items():
            for place in ("own", "nginx-kept"):
                self.workers[peer, place] = workers.Worker(peer, command, directory, place)

    def worker(self, peer, way):
        return self.workers[peer, "nginx-kept" if way == "nginx kept" else "own"]

    def start_nginx(self):
        """Bodies stay in its memory, on both sides: what is measured are not its temporary files."""
        servers = []
        for number, ((peer, way), port) in enumerate(self.ports.items()):
            is_kept = way == "nginx kept"
            servers.append(
                f"    upstream way{number} {{ server unix:{self.worker(peer, way).socket}; {'keepalive 2;' if is_kept else ''} }}\n"
                f"    server {{\n        listen 127.0.0.1:{port} backlog=1024;\n        client_max_body_size 2m;\n"
                "        client_body_buffer_size 2m;\n        location / {\n"
                f"            fastcgi_pass way{number}; {'fastcgi_keep_conn on;' if is_kept else ''}\n"
                "            fastcgi_max_temp_file_size 0;\n            include /etc/nginx/fastcgi_params;\n"
                f"            fastcgi_param SCRIPT_FILENAME {workers.PEERS}/measured.php;\n        }}\n    }}"
            )
        config = self.directory / "nginx.conf"
        text = (ways.PEERS / "nginx.conf").read_text().replace("@DIR@", str(self.directory))
        config.write_text(text.replace("@SERVERS@", "\n".join(servers)))
        log = open(self.directory / "nginx.log", "ab")  # noqa: SIM115
        process = subprocess.Popen(
            ways.pinned(ways.SERVER_CPU, "nginx", "-e", self.directory / "nginx-error.log", "-c", config),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        process.returncode = 0
        self.master = process.pid
        if not processes.wait_until(lambda: processes.children(self.master), 10):
            raise RuntimeError(f"nginx does not start: {(self.directory / 'nginx.log').read_text()}")
        (self.nginx,) = processes.children(self.master)

    def stop(self):
        if self.master:
            processes.end(self.master)
        for worker in self.workers.values():
            worker.end()

    def client(self, peer, load, way):
        """`steadfast bench` as the client of this load."""
        path, is_post, closed = LOADS[load]
        is_direct = "nginx" not in way
        address = f"unix:{self.worker(peer, way).socket}" if is_direct else f"http://127.0.0.1:{self.ports[peer, way]}"
        # Visitors keep their connections to nginx in both cases; what differs is what nginx does behind.
        kept = ["--keep-alive"] if way != "closed" else []
        count = workers.COUNT if way in ("kept", "nginx kept") else closed
        command = [ways.STEADFAST, "bench", address, path, "-c", count, "--json", *kept]
        if is_direct:
            params = {**ways.MORE_PARAMS, "SCRIPT_FILENAME": f"{workers.PEERS}/measured.php"}
            command += [word for name, value in params.items() for word in ("--param", f"{name}={value}")]
        else:
            command += [word for name, value in ways.HEADERS.items() for word in ("-H", f"{name}: {value}")]
        if is_post:
            command += ["--data", f"@{self.body}", "-H", "Content-Type: application/octet-stream"]
        return command

    def ask(self, command):
        said = subprocess.run(ways.pinned(ways.CLIENT_CPU, *command), capture_output=True, text=True, timeout=120, check=False)
        if not said.stdout:
            raise RuntimeError(f"{shlex.join(map(str, command))}: {said.stderr}")
        found = json.loads(said.stdout)
        if found["requests"]["failed"]:
            raise RuntimeError(f"{shlex.join(map(str, command))}: {said.stdout}")
        return found

    def measure(self, peer, load, way, seconds):
        worker, is_nginx = self.worker(peer, way), "nginx" in way
        before, front = worker.cpu(), workers.cpu(self.nginx) if is_nginx else 0.0
        said = self.ask([*self.client(peer, load, way), "-d", f"{round(seconds * 1000)}ms"])
        used, front = worker.cpu() - before, (workers.cpu(self.nginx) if is_nginx else 0.0) - front
        requests = max(said["requests"]["total"], 1)
        return {
            "rps": said["rps"],
            "requests": requests,
            "p50_us": 1000 * said["latency_ms"]["p50"],
            "p99_us": 1000 * said["latency_ms"]["p99"],
            "cpu_us": used * 1e6 / requests,
            "nginx_us": front * 1e6 / requests,
        }

    def system_calls(self, peer, load, way, requests):
        """strace of the worker: {call: so many for each request}."""
        output = self.directory / "strace.txt"
        attach = [word for pid in self.worker(peer, way).pids() for word in ("-p", str(pid))]
        tracer = subprocess.Popen(
            ["strace", "-f", "-c", "-U", "name,calls,errors", "-o", output, *attach], stderr=subprocess.PIPE, text=True
        )
        try:
            # strace says so when it has attached, for each thread of each process.
            missing = len(self.worker(peer, way).pids())
            while missing and (line := tracer.stderr.readline()):
                missing -= "attached" in line
            done = self.ask([*self.client(peer, load, way), "-n", requests])["requests"]["total"]
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate(timeout=20)
        calls = {}
        for line in output.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and re.fullmatch(r"\d+", words[1]) and words[0] != "total":
                calls[words[0]] = int(words[1]) / done
        return {"requests": done, "calls": calls, "total": sum(calls.values())}


def check(site):
    """Every worker answers the same to everything."""
    for (peer, _), worker in site.workers.items():
        for path, body, expected in (
            ("/hello", None, "Hello from steadfast, one and all\n"), ("/64k", None, "x" * (64 << 10)),
            ("/10m", None, "x" * (10 << 20)), ("/upload", site.body, f"{BODY}\n"),
        ):  # fmt: skip
            command = [ways.STEADFAST, "ping", f"unix:{worker.socket}", path, "--param", f"SCRIPT_FILENAME={workers.PEERS}/measured.php"]
            command += ["--data", f"@{body}", "-H", "Content-Type: application/octet-stream"] if body else []
            said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            if said.stdout != expected:
                raise RuntimeError(f"{peer} answers {path} with {said.stdout[:100]!r}… ({len(said.stdout)}): {said.stderr}")


def measure(directory, peers, plan, say):
    site = Site(directory, peers)
    try:
        check(site)
        if any("nginx" in way for way in plan.ways):
            site.start_nginx()
        data = {"peers": list(peers), "ways": {way: {load: {peer: [] for peer in peers} for load in LOADS} for way in plan.ways}}
        for number in range(1, plan.rounds + 1):
            for way in plan.ways:
                say(f"round {number} of {plan.rounds}: {WAYS[way]}")
                for load in LOADS:
                    for peer in peers:
                        data["ways"][way][load][peer].append(site.measure(peer, load, way, plan.seconds))
        say("system calls")
        data["calls"] = {
            way: {peer: site.system_calls(peer, "hello", way, plan.traced) for peer in peers} for way in ("closed", "kept")
        }
        return data
    finally:
        site.stop()
