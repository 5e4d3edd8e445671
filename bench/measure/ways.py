"""The ways from a load client to a worker that are compared: what is started for them, and what each one costs there."""

import json
import os
import pathlib
import shlex
import shutil
import socket
import struct
import subprocess

from . import fastcgi, processes

BENCH = pathlib.Path(__file__).resolve().parent.parent
PEERS = BENCH / "configurations" / "front"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", BENCH.parent / "target"))
# Absolute: peers have directories of their own.
STEADFAST = str(pathlib.Path(os.environ.get("STEADFAST", TARGET / "release/steadfast")).resolve())
RUST_WORKER = os.environ.get("RUST_WORKER", str(TARGET / "release/examples/hello"))
CLIENT_CPU, SERVER_CPU = 0, 1
USER = "www-data"
WORKERS = 2
KEPT = 32  # connections that nginx keeps
PARAMS = 25
FILES = 20_000  # open at a time, for the connections that are only held

NEEDS = {
    "nginx": "nginx",
    "wrk": "wrk",
    "spawn-fcgi": "spawn-fcgi",
    "multiwatch": "multiwatch",
    "php-cgi": "php-cgi",
    "strace": "strace",
    "cc": "gcc libfcgi-dev",
}

# Visitors' headers: with nginx's fastcgi_params and SCRIPT_FILENAME they make 25 params.
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7",
    "Accept-Encoding": "gzip, deflate",
}
# What `steadfast bench` must add to its own 21.
MORE_PARAMS = {
    "SCRIPT_FILENAME": "/srv/site/hello",
    "DOCUMENT_ROOT": "/usr/share/nginx/html",
    "HTTP_ACCEPT_LANGUAGE": HEADERS["Accept-Language"],
    "HTTP_ACCEPT_ENCODING": HEADERS["Accept-Encoding"],
    "HTTP_ACCEPT": HEADERS["Accept"],
    "HTTP_USER_AGENT": HEADERS["User-Agent"],
}


class Way:
    """One way: who stands before the workers, and where the client asks."""

    def __init__(self, name, socket_name=None, *, keeps=False, http=None):
        self.name = name
        self.socket = socket_name  # where nginx goes to; None: without nginx
        self.keeps = keeps  # nginx keeps its connections
        self.http = http  # without nginx: the pool whose http:// listener is asked
        self.port = free_port() if socket_name else None

    @property
    def uses_front(self):
        return self.keeps or self.http is not None


def ways(kinds):
    """{key: way}, those that are compared with each other side by side, so that they are measured in the same seconds."""
    found = {
        "c today": Way("nginx → C libfcgi", "c.sock"),
        "c front": Way("nginx, kept → front → C libfcgi", "front-c.sock", keeps=True),
        "rust front": Way("nginx, kept → front → our Rust worker", "front-rust.sock", keeps=True),
        "http c": Way("http:// → front → C libfcgi", http="c"),
        "http rust": Way("http:// → front → our Rust worker", http="rust"),
        "rust today": Way("nginx → our Rust worker", "rust.sock"),
        "perl today": Way("nginx → Perl FCGI.pm", "perl.sock"),
        "perl front": Way("nginx, kept → front → Perl FCGI.pm", "front-perl.sock", keeps=True),
        "php today": Way("nginx → php-cgi", "php.sock"),
        "php front": Way("nginx, kept → front → php-cgi", "front-php.sock", keeps=True),
        "phplong today": Way("nginx → php-cgi, 20,000 requests a life", "phplong.sock"),
        "phplong front": Way("nginx, kept → front → php-cgi, 20,000 requests a life", "front-phplong.sock", keeps=True),
        "php-fpm": Way("nginx → php-fpm", "php-fpm.sock"),
        "uwsgi": Way("nginx → uWSGI's FastCGI socket (Perl)", "uwsgi.sock"),
    }
    return {key: way for key, way in found.items() if key not in LATER or key in kinds}


LATER = {"php-fpm", "uwsgi"}


def optional():
    """The peers that are there."""
    found = set()
    if php_fpm():
        found.add("php-fpm")
    if shutil.which("uwsgi") and list(pathlib.Path("/usr/lib/uwsgi/plugins").glob("psgi_plugin.so")):
        found.add("uwsgi")
    return found


def php_fpm():
    return next((str(path) for path in sorted(pathlib.Path("/usr/sbin").glob("php-fpm[0-9]*"))), None)


def missing():
    found = [f"{command} (apt-get install {package})" for command, package in NEEDS.items() if not shutil.which(command)]
    if subprocess.run(["perl", "-MFCGI", "-e1"], capture_output=True, check=False).returncode:
        found.append("FCGI.pm (apt-get install libfcgi-perl)")
    found += [f"{path} (cargo build --release, see bench/README.md)" for path in (STEADFAST, RUST_WORKER)
              if not os.path.exists(path)]  # fmt: skip
    if os.cpu_count() < 2:
        found.append("a second CPU")
    if os.geteuid():
        found.append("root: workers, nginx and the front have users of their own")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pinned(cpu, *command):
    return ["taskset", "-c", str(cpu), *map(str, command)]


class Site:
    """Everything that is measured, started in one temporary directory, all of it on one CPU."""

    POOLS = ["c", "rust", "perl", "php", "phplong"]

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.chmod(0o777)
        self.peers = optional()
        self.ways = ways(self.peers)
        self.ports = {pool: free_port() for pool in self.POOLS}
        self.started = []  # pids
        self.today = {}  # pool: pid of its manager as people run it
        self.supervisor = self.front = self.nginx = None

    # Start and end

    def start(self):
        for name in ("hello.pl", "hello.php", "hello.psgi"):
            shutil.copy(PEERS / name, self.directory)
        subprocess.run(["cc", "-O2", "-o", self.directory / "hello-c", PEERS / "hello.c", "-lfcgi"], check=True)
        shutil.copy(RUST_WORKER, self.directory / "hello-rust")
        for pool in self.POOLS:
            self.today[pool] = self.spawn(f"today-{pool}", *self.as_today(pool), environment=self.environment(pool))
        self.supervisor, self.front = self.steadfast("steadfast", self.POOLS, self.ports)
        if "php-fpm" in self.peers:
            config = self.fill("php-fpm.conf")
            self.today["php-fpm"] = self.spawn("php-fpm", php_fpm(), "--nodaemonize", "--fpm-config", config)
        if "uwsgi" in self.peers:
            self.today["uwsgi"] = self.spawn(
                "uwsgi", "uwsgi", "--plugin", "psgi", "--fastcgi-socket", self.directory / "uwsgi.sock",
                "--chmod-socket=666", "--psgi", self.directory / "hello.psgi", "--master", "--processes", WORKERS,
                "--disable-logging", "--uid", USER, "--gid", USER, "--die-on-term",
            )  # fmt: skip
        sockets = [self.directory / way.socket for way in self.ways.values() if way.socket]
        if not processes.wait_until(lambda: all(path.exists() for path in sockets), 10):
            raise RuntimeError(f"no socket: {[path.name for path in sockets if not path.exists()]}: {self.output()}")
        self.start_nginx()

    def as_today(self, pool):
        """As people run it: a listening socket, and two processes that share it."""
        run = ["spawn-fcgi", "-n", "-s", self.directory / f"{pool}.sock", "-M", "0666", "-u", USER, "-g", USER]
        if pool in ("php", "phplong"):
            return [*run, "-C", WORKERS, "--", *self.program(pool)]
        return [*run, "--", shutil.which("multiwatch"), "-f", WORKERS, "--", *self.program(pool)]

    def program(self, pool):
        return {
            "c": [str(self.directory / "hello-c")],
            "rust": [str(self.directory / "hello-rust")],
            "perl": ["/usr/bin/perl", str(self.directory / "hello.pl")],
        }.get(pool, [shutil.which("php-cgi")])

    def environment(self, pool):
        return {"PHP_FCGI_MAX_REQUESTS": "20000"} if pool == "phplong" else {}

    def steadfast(self, name, pools, ports):
        """The pids of a supervisor and of its front; all workers of all pools are idle."""
        directory = self.directory / name
        directory.mkdir()
        directory.chmod(0o755)
        text = [(PEERS / "steadfast.toml").read_text().replace("@DIR@", str(directory))]
        for pool in pools:
            listen = [f"unix:{self.directory}/{self.prefix(name)}{pool}.sock", f"http://127.0.0.1:{ports[pool]}"]
            text.append(
                f"[pool.{pool}]\n"
                f"command = {json.dumps(self.program(pool))}\n"
                f'user = "{USER}"\n'
                f"listen = {json.dumps(listen)}\n"
                f'socket = {{ mode = "0666" }}\n'
                f"workers = {WORKERS}\n"
            )
            if environment := self.environment(pool):
                pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in environment.items())
                text.append(f"environment = {{ {pairs} }}\n")
        config = directory / "steadfast.toml"
        config.write_text("\n".join(text).replace("@POOLS@", ""))
        pid = self.spawn(name, STEADFAST, "run", "-c", config)
        if not processes.wait_until(lambda: self.idle(name) == [WORKERS] * len(pools), 30, 0.05):
            raise RuntimeError(f"steadfast does not serve: {self.output(name)}")
        return pid, self.status(name)["front"]["pid"]

    def prefix(self, name):
        return "front-" if name == "steadfast" else f"{name}-"

    def status(self, name):
        control = self.directory / name / "run/control.sock"
        said = subprocess.run(
            [STEADFAST, "status", "--json", "--control", control], capture_output=True, text=True, timeout=10, check=False
        )
        return json.loads(said.stdout) if said.stdout else {}

    def idle(self, name):
        return [pool["workers"]["idle"] for pool in self.status(name).get("pools", [])]

    def start_nginx(self):
        servers = []
        for number, way in enumerate(way for way in self.ways.values() if way.socket):
            keepalive = f"keepalive {KEPT};" if way.keeps else ""
            keep = "fastcgi_keep_conn on;" if way.keeps else ""
            servers.append(
                f"    upstream way{number} {{ server unix:{self.directory}/{way.socket}; {keepalive} }}\n"
                f"    server {{\n        listen 127.0.0.1:{way.port} backlog=1024;\n        location / {{\n"
                f"            fastcgi_pass way{number}; {keep}\n            include /etc/nginx/fastcgi_params;\n"
                f"            fastcgi_param SCRIPT_FILENAME {self.directory}/hello.php;\n        }}\n    }}"
            )
        config = self.fill("nginx.conf", SERVERS="\n".join(servers))
        master = self.spawn("nginx", "nginx", "-e", self.directory / "nginx-error.log", "-c", config)
        if not processes.wait_until(lambda: processes.children(master), 10):
            raise RuntimeError(f"nginx does not start: {self.output()}")
        (self.nginx,) = processes.children(master)

    def fill(self, name, **values):
        text = (PEERS / name).read_text().replace("@DIR@", str(self.directory))
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        path = self.directory / name
        path.write_text(text)
        return path

    def spawn(self, name, *command, environment=None):
        clean = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})}
        with open(self.directory / f"{name}.log", "ab") as output:
            process = subprocess.Popen(
                pinned(SERVER_CPU, *command), env=clean, cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        process.returncode = 0  # reaped by processes.stop()
        self.started.append(process.pid)
        return process.pid

    def output(self, name="*"):
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in
                         sorted(self.directory.glob(f"{name}.log")))  # fmt: skip

    def stop(self):
        # nginx first: the others then have no clients. What is left behind at the end is ended by stop() itself.
        *others, last = self.started[::-1] or [None]
        for pid in others:
            processes.end(pid)
        if last:
            processes.stop(last)

    # What it costs

    def cpu(self, way):
        """CPU seconds so far: of nginx, of the front, and of the workers with whoever manages them."""
        front = processes.cpu(self.front)[0] if way.uses_front else 0.0
        if way.uses_front:
            workers = processes.tree_cpu(self.supervisor) - front
        else:
            workers = processes.tree_cpu(self.today[way.socket.removesuffix(".sock")])
        return {"nginx": processes.cpu(self.nginx)[0] if way.socket else 0.0, "front": front, "workers": workers}

    def url(self, way):
        return f"http://127.0.0.1:{way.port or self.ports[way.http]}/hello"

    def count_params(self):
        """How many params nginx sends: it is asked to send one request to us."""
        path = self.directory / "count.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen()
            port = free_port()
            config = self.directory / "count.conf"
            text = (self.directory / "nginx.conf").read_text()
            head, _, _ = text.partition("    upstream")
            config.write_text(
                head.replace("nginx.pid", "count.pid")
                + f"    server {{ listen 127.0.0.1:{port}; location / {{ fastcgi_pass unix:{path};\n"
                f"        include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME {self.directory}/hello.php; }} }} }}\n"
            )
            nginx = self.spawn("count", "nginx", "-e", self.directory / "nginx-error.log", "-c", config)
            processes.wait_until(lambda: processes.children(nginx), 10)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(http_request("127.0.0.1"))
                listener.settimeout(10)
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(10)
                    return len(read_params(connection))


def http_request(host):
    lines = [f"{name}: {value}" for name, value in HEADERS.items()]
    return ("GET /hello HTTP/1.1\r\nHost: " + "\r\n".join([host, *lines]) + "\r\n\r\n").encode()


def read_params(connection):
    """Names and values of one request, to its last PARAMS record."""
    data, stream = b"", b""
    while True:
        while len(data) >= 8:
            _, kind, _, length, padding = struct.unpack_from("!BBHHB", data)
            if len(data) < 8 + length + padding:
                break
            content, data = data[8 : 8 + length], data[8 + length + padding :]
            if kind == fastcgi.PARAMS and not length:
                return pairs(stream)
            stream += content if kind == fastcgi.PARAMS else b""
        block = connection.recv(65536)
        if not block:
            raise RuntimeError("nginx closed the connection within a request")
        data += block


def pairs(stream):
    found, at = {}, 0
    while at < len(stream):
        lengths = []
        for _ in range(2):
            length, size = stream[at], 1
            if length & 0x80:
                length, size = struct.unpack_from("!I", stream, at)[0] & 0x7FFFFFFF, 4
            lengths.append(length)
            at += size
        name, value = (stream[at : at + lengths[0]], stream[at + lengths[0] : at + sum(lengths)])
        found[name.decode()] = value.decode(errors="replace")
        at += sum(lengths)
    return found


def wrk(url, seconds, connections=32):
    """What wrk on the client's CPU says of so many seconds."""
    headers = [word for name, value in HEADERS.items() for word in ("-H", f"{name}: {value}")]
    said = subprocess.run(
        pinned(CLIENT_CPU, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *headers, url),
        capture_output=True, text=True, timeout=seconds + 30, check=True,
    ).stdout  # fmt: skip
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    errors = 0
    if "Non-2xx" in lines:
        errors += int(lines["Non-2xx"][-1])
    if "Socket" in lines:
        errors += sum(int(word.rstrip(",")) for word in lines["Socket"] if word.rstrip(",").isdigit())
    total = next(int(words[0]) for words in lines.values() if words[1:3] == ["requests", "in"])
    return {
        "requests": total,
        "errors": errors,
        "rps": float(lines["Requests/sec:"][1]),
        "p50_us": microseconds(lines["50%"][1]),
        "p99_us": microseconds(lines["99%"][1]),
    }


def microseconds(text):
    for unit, factor in (("us", 1), ("ms", 1e3), ("s", 1e6)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def bench(address, seconds, connections, rate=None, warm=True):
    """What `steadfast bench` on the client's CPU says of kept FastCGI connections. Without `warm` all are counted."""
    command = [STEADFAST, "bench", address, "/hello", "--keep-alive", "-c", connections, "-d", f"{seconds}s", "--json"]
    command += ["--warmup", "300ms"] if warm else []
    command += ["--rate", f"{rate:.0f}"] if rate else []
    for name, value in MORE_PARAMS.items():
        command += ["--param", f"{name}={value}"]
    said = subprocess.run(pinned(CLIENT_CPU, *command), capture_output=True, text=True, timeout=seconds + 60, check=False)
    if not said.stdout:
        raise RuntimeError(f"{shlex.join(map(str, command))}: {said.stderr}")
    return json.loads(said.stdout)
