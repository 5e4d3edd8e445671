"""The peers that bench/peers measures: how each is configured, started, reloaded, and asked who its workers are."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from . import processes, ways

PEERS = ways.BENCH / "configurations" / "peers"
USER = "www-data"
NEEDS = ("nginx-light", "wrk", "libfcgi-perl")


class Peer:
    """One manager with between `least` and `most` workers, in a directory of its own."""

    name = ""
    command_path = ""  # of the program that must be there
    packages = ()
    files = ()  # of the configurations, filled in
    logs = ("output.log",)
    road = "fastcgi"  # by which nginx reaches it
    drops_user = True
    grows = False
    reloads = ""  # how, for people; empty: it has no reload
    crashes = True  # its program can fail as it starts

    def __init__(self, directory, least, most, on_cpu=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(0o777)
        self.least, self.most, self.on_cpu = least, most, on_cpu
        self.socket = self.directory / "site.sock"
        self.starts_file = self.directory / "starts"
        self.pid = None
        self.helpers = set()  # children that are no workers

    @classmethod
    def missing(cls):
        return not os.path.exists(cls.command_path)

    def command(self):
        raise NotImplementedError

    def values(self):
        return {"DIR": self.directory, "SOCKET": self.socket, "USER": USER, "MIN": self.least, "MAX": self.most}

    def fill(self, name):
        text = (PEERS / name).read_text()
        for key, value in self.values().items():
            text = text.replace(f"@{key}@", str(value))
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, broken=False):
        self.starts_file.touch()
        self.starts_file.chmod(0o666)
        for name in self.files:
            self.fill(name)
        if broken:
            (self.directory / "broken").touch()
        command = [str(word) for word in self.command()]
        if self.on_cpu is not None:
            command = ways.pinned(self.on_cpu, *command)
        change = {} if self.drops_user else {"user": USER, "group": USER, "extra_groups": []}
        with open(self.directory / "output.log", "ab") as output:
            process = subprocess.Popen(
                command, env={"PATH": os.environ["PATH"], "LANG": "C"}, cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True, **change,
            )  # fmt: skip
        process.returncode = 0  # reaped by processes.end()
        self.pid = process.pid

    def wait_ready(self):
        """All workers that it starts with wait for a request."""
        ready = processes.wait_until(lambda: self.has_exited() or len(waiting(self.workers())) >= self.least, 20)
        if not ready or self.has_exited():
            raise RuntimeError(f"{self.name} does not start: {self.output()[-1500:]}")
        if not processes.wait_until(self.socket.exists, 5):
            raise RuntimeError(f"{self.name} has no socket: {self.output()[-1500:]}")
        self.socket.chmod(0o666)

    def output(self):
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log")))

    def has_exited(self):
        return processes.has_exited(self.pid)

    def managers(self):
        """The processes that manage, with a word for each."""
        return {"manager": self.pid}

    def workers(self):
        return processes.children(self.pid) - self.helpers

    def lines(self):
        files = {path for name in self.logs for path in self.directory.glob(name)}
        return sum(path.read_bytes().count(b"\n") for path in files)

    def starts(self):
        return self.starts_file.read_bytes().count(b"\n")

    def reload(self):
        """As its manual advises."""
        os.kill(self.pid, signal.SIGHUP)

    def verb(self, *command):
        said = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)
        if said.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit code {said.returncode}: {said.stdout}{said.stderr}")
        return said.stdout

    def location(self):
        """nginx's lines on the way to it."""
        return (
            f"include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME {self.directory}/app.cgi; "
            f"fastcgi_pass unix:{self.socket};"
        )

    def before(self):
        """What nginx needs outside of the server block."""
        return ""


class Steadfast(Peer):
    name = "steadfast"
    command_path = ways.STEADFAST
    files = ("steadfast.toml", "worker.pl", "App.pm")
    grows = True
    reloads = "`steadfast reload --wait`"
    upstream = "steadfast"

    def command(self):
        return [ways.STEADFAST, "run", "-c", self.directory / self.files[0]]

    def control(self):
        return ["--control", self.directory / "run/control.sock"]

    def status(self):
        said = subprocess.run(
            [ways.STEADFAST, "status", "--json", *map(str, self.control())],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        return json.loads(said.stdout) if said.stdout else {}

    def wait_ready(self):
        # The front stands in no accept and is no worker: it is known by the supervisor's own word.
        if not processes.wait_until(lambda: self.has_exited() or self.front(), 20):
            raise RuntimeError(f"steadfast does not start: {self.output()[-1500:]}")
        self.helpers = {self.front()} if not self.has_exited() else set()
        super().wait_ready()

    def front(self):
        return (self.status().get("front") or {}).get("pid")

    def managers(self):
        return {"supervisor": self.pid, "front": self.front()}

    def reload(self):
        self.verb(ways.STEADFAST, "reload", "--wait", *self.control())

    def before(self):
        return f"upstream {self.upstream} {{ server unix:{self.socket}; keepalive 32; }}"

    def location(self):
        return super().location().replace(f"unix:{self.socket}", self.upstream) + " fastcgi_keep_conn on;"


class SteadfastZygote(Steadfast):
    name = "steadfast, zygote"
    files = ("zygote.toml", "zygote.pl", "App.pm")
    upstream = "steadfast-zygote"

    def command(self):
        # Not where it is: the checkout need not be readable for others.
        shutil.copytree(ways.BENCH.parent / "perl/lib", self.directory / "perl")
        return super().command()

    def preloaded(self):
        """{"zygote": pid, "spare": pid}, as far as they are there. A spare becomes a worker: then its name is another."""
        titles = {pid: processes.read(f"/proc/{pid}/cmdline").rstrip("\0 ") for pid in super().workers()}
        roles = {title.rpartition(" ")[2]: pid for pid, title in titles.items() if title.startswith("perl-fcgi-pm ")}
        return dict(sorted(roles.items(), reverse=True))

    def workers(self):
        return {pid for pid in super().workers() if processes.read(f"/proc/{pid}/cmdline").rstrip("\0 ") == "perl-fcgi"}

    def managers(self):
        return super().managers() | self.preloaded()


class ProcManager(Peer):
    name = "FCGI::ProcManager"
    command_path = "/usr/share/perl5/FCGI/ProcManager.pm"
    packages = ("libfcgi-procmanager-perl",)
    files = ("procmanager.pl", "App.pm")
    drops_user = False
    reloads = "HUP"

    def command(self):
        return ["/usr/bin/perl", self.directory / "procmanager.pl", self.socket, self.most]


class PhpFpm(Peer):
    name = "php-fpm"
    packages = ("php-fpm",)
    files = ("php-fpm.conf",)
    logs = ("output.log", "php-fpm.log")
    grows = True
    reloads = "USR2, with process_control_timeout"

    @classmethod
    def missing(cls):
        return ways.php_fpm() is None

    def values(self):
        return super().values() | {"PM": "static" if self.least == self.most else "dynamic"}

    def command(self):
        release = self.directory / "release"
        release.mkdir()
        shutil.copy(PEERS / "app.php", release)
        return [ways.php_fpm(), "--nodaemonize", "--fpm-config", self.directory / "php-fpm.conf"]

    def start(self, broken=False):
        """It runs no PHP at a start: its directory is taken away while it runs, and all children are killed once."""
        super().start()
        if broken:
            self.wait_ready()
            (self.directory / "release").rename(self.directory / "away")
            for child in self.workers():
                os.kill(child, signal.SIGKILL)

    def starts(self):
        return (self.directory / "php-fpm.log").read_bytes().count(b" started\n")

    def reload(self):
        os.kill(self.pid, signal.SIGUSR2)

    def location(self):
        return super().location().replace("app.cgi", "release/app.php")


class Uwsgi(Peer):
    name = "uWSGI"
    command_path = "/usr/lib/uwsgi/plugins/psgi_plugin.so"
    packages = ("uwsgi-core", "uwsgi-plugin-psgi")
    files = ("app.psgi", "App.pm")
    road = "uwsgi"
    grows = True
    reloads = "touch-reload, with lazy-apps"

    def command(self):
        (self.directory / "reload").touch()
        cheaper = ["--cheaper", self.least, "--cheaper-initial", self.least] if self.least < self.most else []
        return [
            "uwsgi", "--plugin", "psgi", "--socket", self.socket, "--chmod-socket=666",
            "--psgi", self.directory / "app.psgi", "--master", "--lazy-apps", "--processes", self.most, *cheaper,
            "--touch-reload", self.directory / "reload", "--disable-logging",
            "--uid", USER, "--gid", USER, "--die-on-term",
        ]  # fmt: skip

    def reload(self):
        os.utime(self.directory / "reload")

    def location(self):
        return f"include /etc/nginx/uwsgi_params; uwsgi_modifier1 5; uwsgi_pass unix:{self.socket};"


class Multiwatch(Peer):
    name = "multiwatch"
    command_path = "/usr/bin/multiwatch"
    packages = ("multiwatch", "spawn-fcgi")
    files = ("worker.pl", "App.pm")

    def command(self):
        return [
            "spawn-fcgi", "-n", "-s", self.socket, "-M", "0666", "-u", USER, "-g", USER,
            "--", "/usr/bin/multiwatch", "-f", self.most, "--", "/usr/bin/perl", self.directory / "worker.pl",
        ]  # fmt: skip


class Supervisor(Peer):
    name = "supervisor"
    command_path = "/usr/bin/supervisord"
    packages = ("supervisor",)
    files = ("supervisor.conf", "worker.pl", "App.pm")
    # supervisord -n repeats its log on stdout: counted once. site_*: what the workers wrote.
    logs = ("supervisord.log*", "site_*.log*")
    reloads = "`supervisorctl restart site:*`, it has no graceful one"

    def command(self):
        return [self.command_path, "-n", "-c", self.directory / "supervisor.conf"]

    def reload(self):
        self.verb("supervisorctl", "-c", self.directory / "supervisor.conf", "restart", "site:*")


class Starman(Peer):
    name = "Starman"
    command_path = "/usr/bin/starman"
    packages = ("starman",)
    files = ("app.psgi", "App.pm")
    road = "http"
    reloads = "HUP"

    def command(self):
        return [
            "starman", "--listen", self.socket, "--workers", self.most, "--user", USER, "--group", USER,
            self.directory / "app.psgi",
        ]  # fmt: skip

    def location(self):
        return f"proxy_pass http://unix:{self.socket};"


class Gunicorn(Peer):
    name = "gunicorn"
    command_path = "/usr/bin/gunicorn"
    packages = ("gunicorn",)
    files = ("app.py",)
    road = "http"
    reloads = "HUP"

    def command(self):
        return [
            "gunicorn", "--bind", f"unix:{self.socket}", "--workers", self.most, "--user", USER, "--group", USER,
            "--worker-tmp-dir", "/dev/shm", "app:application",
        ]  # fmt: skip

    def location(self):
        return f"proxy_pass http://unix:{self.socket};"


class Fcgiwrap(Peer):
    name = "fcgiwrap"
    command_path = "/usr/sbin/fcgiwrap"
    packages = ("fcgiwrap",)
    files = ("app.cgi", "App.pm")
    drops_user = False
    crashes = False

    def command(self):
        return [self.command_path, "-c", self.most, "-s", f"unix:{self.socket}"]


ALL = [Steadfast, SteadfastZygote, ProcManager, PhpFpm, Uwsgi, Multiwatch, Supervisor, Starman, Gunicorn, Fcgiwrap]


def waiting(pids):
    """{pid: the system call in which it sleeps}; who runs is not in it."""
    calls = {pid: processes.read(f"/proc/{pid}/syscall").partition(" ")[0].strip() for pid in pids}
    return {pid: call for pid, call in calls.items() if call.isdigit()}


class Nginx:
    """Before all peers that are given; each has a port. The first port answers by itself."""

    def __init__(self, directory, peers, on_cpu=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.directory.chmod(0o755)
        self.bare = ways.free_port()
        self.ports = {peer.name: ways.free_port() for peer in peers}
        servers = [server(self.bare, 'return 200 "ok\\n";')]
        for peer in peers:
            servers += [peer.before(), server(self.ports[peer.name], peer.location())]
        text = (PEERS / "nginx.conf").read_text().replace("@DIR@", str(self.directory))
        config = self.directory / "nginx.conf"
        config.write_text(text.replace("@SERVERS@", "\n".join(servers)))
        command = ["nginx", "-e", str(self.directory / "nginx-error.log"), "-c", str(config)]
        command = ways.pinned(on_cpu, *command) if on_cpu is not None else command
        with open(self.directory / "output.log", "ab") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        process.returncode = 0  # reaped by processes.end()
        self.pid = process.pid

    def wait_ready(self):
        if not processes.wait_until(lambda: processes.has_exited(self.pid) or processes.children(self.pid), 10):
            raise RuntimeError("nginx does not start")
        if processes.has_exited(self.pid):
            raise RuntimeError(f"nginx does not start: {(self.directory / 'output.log').read_text()}")


def server(port, location):
    return f"server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ {location} }} }}"


@contextlib.contextmanager
def running(kinds, least, most, *, on_cpu=None, broken=False, before=True):
    """Peers that wait for requests, and nginx before them; with `broken` they only have been started."""
    with tempfile.TemporaryDirectory(prefix="peers-") as directory:
        pathlib.Path(directory).chmod(0o755)
        nginx, peers = None, []
        try:
            for number, kind in enumerate(kinds):
                peer = kind(pathlib.Path(directory) / f"peer{number}", least, most, on_cpu)
                peers.append(peer)
                peer.start(broken)
                if not broken:
                    peer.wait_ready()
            if before and not broken:
                nginx = Nginx(pathlib.Path(directory) / "nginx", peers, on_cpu)
                nginx.wait_ready()
            yield peers, nginx
        finally:
            # nginx first: the others then have no clients. What is left behind at the end is ended by stop() itself.
            *others, last = [peer.pid for peer in [nginx, *peers] if peer and peer.pid] or [None]
            for pid in others:
                processes.end(pid)
            if last:
                processes.stop(last)
