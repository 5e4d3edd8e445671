"""The workers that are measured: how each is built and started, and what it costs."""

import os
import pathlib
import shutil
import socket
import subprocess

from . import processes, ways

BENCH = pathlib.Path(__file__).resolve().parent.parent
PEERS = BENCH / "configurations" / "worker"
COUNT = 2  # processes of each
BACKLOG = 1024

OURS, BASE = "steadfast", "libfcgi"
NAMES = {
    OURS: "steadfast-worker (Rust)",
    BASE: "libfcgi (C)",
    "tokio": "tokio-fastcgi (Rust)",
    "perl": "FCGI.pm (Perl)",
    "php": "php-fpm",
    "go": "net/http/fcgi (Go)",
}
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"}


def build(directory, only, say):
    """({peer: command}, what is missing without which nothing can be compared). Other peers are left out, with a word."""
    found, missing = {}, []
    for tool, package in (("cc", "gcc libfcgi-dev"), ("nginx", "nginx"), ("strace", "strace"), ("taskset", "util-linux")):
        if not shutil.which(tool):
            missing.append(f"{tool} (apt-get install {package})")
    if os.cpu_count() < 2:
        missing.append("a second CPU")
    if missing:
        return found, missing
    directory.chmod(0o755)
    ours = ["cargo", "build", "--release", "--locked", "-p", "steadfast", "--bin", "steadfast"]
    example = ["cargo", "build", "--release", "--locked", "-p", "steadfast-worker", "--example", "measured"]
    target = str(ways.TARGET / "peers")
    plans = {
        OURS: [ours, example],
        BASE: [["cc", "-O2", "-o", directory / "measured-c", PEERS / "measured.c", "-lfcgi"]],
        "tokio": [["cargo", "build", "--release", "--locked", "--manifest-path", PEERS / "tokio/Cargo.toml", "--target-dir", target]],
        "perl": [["perl", "-MFCGI", "-e1"]],
        "php": [],
        "go": [["go", "build", "-o", directory / "measured-go", PEERS / "measured.go"]],
    }
    commands = {
        OURS: [ways.TARGET / "release/examples/measured"],
        BASE: [directory / "measured-c"],
        "tokio": [f"{target}/release/measured-tokio"],
        "perl": ["/usr/bin/perl", PEERS / "measured.pl"],
        "php": [ways.php_fpm(), "--nodaemonize"],
        "go": [directory / "measured-go"],
    }
    for peer, steps in plans.items():
        if peer not in (OURS, BASE) and only and peer not in only:
            continue
        say(f"building {NAMES[peer]}")
        environment = {**os.environ, "GOCACHE": str(directory / "go-cache"), "GO111MODULE": "off"}
        good = peer != "php" or bool(ways.php_fpm())
        for step in steps:
            try:
                good = good and not subprocess.run(step, cwd=BENCH.parent, env=environment, stdout=2, check=False).returncode
            except FileNotFoundError:
                good = False
        if good:
            found[peer] = [str(word) for word in commands[peer]]
        elif peer in (OURS, BASE):
            missing.append(NAMES[peer])
        else:
            say(f"{NAMES[peer]} is left out: it is not installed, or cannot be built")
    return found, missing


def cpu(pid):
    """Seconds that all threads of a process have run, to the nanosecond; by /proc/PID/stat, in ticks, where the kernel has no
    schedstat. A tick is as long as thousands of requests: too long for a round."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return 0.0
    told = [processes.read(f"/proc/{pid}/task/{thread}/schedstat").split() for thread in threads]
    return sum(int(fields[0]) for fields in told if fields) / 1e9 if any(told) else processes.cpu(pid)[0]


class Worker:
    """Two processes of one peer on one listening unix socket, all on the second CPU."""

    def __init__(self, peer, command, directory, place):
        self.peer = peer
        self.socket = directory / f"{peer}-{place}.sock"
        self.log = directory / f"{peer}-{place}.log"
        if peer == "php":
            config = directory / f"php-fpm-{place}.conf"
            text = (BENCH / "configurations/front/php-fpm.conf").read_text().replace("@DIR@", str(directory))
            config.write_text(text.replace("php-fpm.sock", self.socket.name))
            command = [*command, "--fpm-config", str(config)]
            if os.geteuid() == 0:
                command = [*command, "--allow-to-run-as-root"]
            self.managers = [self.spawn(command, subprocess.DEVNULL, directory)]
            if not processes.wait_until(lambda: self.socket.exists() and len(self.pids()) == COUNT, 10):
                raise RuntimeError(f"php-fpm does not start: {self.log.read_text()}")
            return
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.socket))
            self.socket.chmod(0o666)
            listener.listen(BACKLOG)
            self.managers = [self.spawn(command, listener, directory) for _ in range(COUNT)]

    def spawn(self, command, stdin, directory):
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                ways.pinned(ways.SERVER_CPU, *command), env=ENVIRONMENT, cwd=directory, stdin=stdin, stdout=log, stderr=log
            )
        process.returncode = 0  # reaped by processes.end()
        return process.pid

    def pids(self):
        return sorted(processes.children(self.managers[0])) if self.peer == "php" else self.managers

    def cpu(self):
        """Seconds that its processes have run so far."""
        return sum(cpu(pid) for pid in self.pids())

    def end(self):
        for pid in self.managers:
            processes.end(pid)
