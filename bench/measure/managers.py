"""The managers that are compared: how each is configured, started, asked for its state, and what it left in its logs."""

import json
import os
import pathlib
import shlex
import subprocess

from . import processes

BENCH = pathlib.Path(__file__).resolve().parent.parent
PEERS = BENCH / "configurations"
APPS = BENCH.parent / "crates/steadfast/tests/apps"
USER = "nobody"
EXIT_CODE = 3  # of the program that is broken
# What the program does in each measurement.
AT_START, AT_REQUEST, NEVER = "crash at start", "crash on the first request", "worker killed"


class Scene:
    """A temporary directory with the programs, the start log and the file that breaks them."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.chmod(0o755)
        self.socket = self.directory / "site.sock"
        self.broken = self.directory / "broken"
        self.start_log = self.directory / "starts"
        self.start_log.touch()
        self.start_log.chmod(0o666)
        self.script = self.directory / "release" / "app.php"
        self.output = self.directory / "output.log"
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "START_LOG": str(self.start_log),
            "BROKEN": str(self.broken),
        }

    def compile(self):
        for name, options in (("worker", ["-pthread", "-lfcgi"]), ("worker-quiet", ["-static"])):
            subprocess.run(
                ["cc", "-O2", "-o", self.directory / name, APPS / f"{name}.c", *options], check=True
            )

    def break_program(self):
        self.broken.write_text(f"{EXIT_CODE}\n")

    def mend_program(self):
        self.broken.unlink()

    def program(self, fault):
        """The command of a worker that is executed."""
        if fault == NEVER:
            return [str(self.directory / "worker-quiet")]
        worker = [str(self.directory / "worker")]
        return worker + (["--exit-while", str(self.broken)] if fault == AT_START else ["--crash-first-request"])

    def configure(self, name, fault):
        """Fills in a file of bench/configurations. Only root may name a user; lines that do are left out otherwise."""
        command = self.program(fault)
        values = {
            "DIR": str(self.directory),
            "SOCKET": str(self.socket),
            "START_LOG": str(self.start_log),
            "USER": USER,
            "COMMAND": shlex.join(command),
            "COMMAND_LIST": ", ".join(json.dumps(word) for word in command),
        }
        lines = (PEERS / name).read_text().splitlines(keepends=True)
        text = "".join(line for line in lines if is_root() or "@USER@" not in line)
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        path = self.directory / name
        path.write_text(text)
        return path

    def lines(self, *names):
        """Lines in the files that match; all that anybody wrote to the logs."""
        files = {path for name in names for path in self.directory.glob(name)}
        return sum(count(path, b"\n") for path in files)

    def starts(self):
        """(monotonic ns, pid) of each start, as the workers themselves wrote it."""
        return [tuple(map(int, line.split())) for line in self.start_log.read_text().splitlines()]


def is_root():
    return os.geteuid() == 0


def count(path, what):
    with open(path, "rb") as file:
        return sum(line.count(what) for line in file)


class Manager:
    """One manager in one scene."""

    name = ""
    needs = {}  # path: Debian package
    logs = ("output.log",)
    executes = True  # its workers are executed; otherwise they are forked
    drops_user = True  # it changes to the user itself

    def __init__(self, scene):
        self.scene = scene
        self.pid = None

    @classmethod
    def missing(cls):
        return [f"apt-get install {package}" for path, package in cls.needs.items() if not os.path.exists(path)]

    def command(self, fault):
        raise NotImplementedError

    def start(self, fault):
        """Starts it; with a fault at the start, the program is broken already."""
        if fault == AT_START:
            self.scene.break_program()
        self.spawn(fault)

    def spawn(self, fault):
        environment = dict(self.scene.environment, **({"CRASH": "1"} if fault == AT_REQUEST else {}))
        change = {"user": USER, "group": "nogroup", "extra_groups": []} if is_root() and not self.drops_user else {}
        with open(self.scene.output, "ab") as output:
            process = subprocess.Popen(
                self.command(fault),
                env=environment,
                cwd=self.scene.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **change,
            )
        # The zombie is read before it is reaped: processes.stop() does both, not subprocess.
        process.returncode = 0
        self.pid = process.pid

    def mend(self):
        self.scene.mend_program()

    def starts(self):
        return count(self.scene.start_log, b"\n")

    def lines(self):
        return self.scene.lines(*self.logs)

    def has_exited(self):
        return processes.has_exited(self.pid)

    def own_state(self):
        """Its own word for its state, where it has one."""
        return ""

    def facts(self):
        """The same for programs, where a limit is held against it."""
        return {}

    def state(self):
        if self.has_exited():
            return f"gone, {processes.describe_exit(self.pid)}"
        return self.own_state() or f"runs, {len(processes.accepting(self.pid))} workers in accept"

    def stop(self):
        processes.stop(self.pid)


class Steadfast(Manager):
    name = "steadfast"
    binary = os.environ.get("STEADFAST", str(BENCH.parent / "target/release/steadfast"))

    @classmethod
    def missing(cls):
        return [] if os.path.exists(cls.binary) else [f"{cls.binary} (cargo build --release -p steadfast)"]

    def command(self, fault):
        return [self.binary, "run", "-c", str(self.scene.configure("steadfast.toml", fault))]

    def verb(self, *words):
        control = str(self.scene.directory / "run/control.sock")
        return subprocess.run(
            [self.binary, *words, "--control", control], capture_output=True, text=True, timeout=10, check=False
        )

    def pool(self):
        said = self.verb("status", "--json")
        try:
            return said.returncode, json.loads(said.stdout)["pools"][0]
        except (ValueError, LookupError):
            return said.returncode, {}

    def facts(self):
        code, pool = self.pool()
        breaker = pool.get("breaker", {})
        return {"code": code, "pool": pool.get("state"), "breaker": breaker.get("state"), "reason": breaker.get("reason")}

    def own_state(self):
        facts = self.facts()
        reason = f" ({facts['reason']})" if facts["reason"] else ""
        return f"{facts['pool']}, breaker {facts['breaker']}{reason}, `status` exits {facts['code']}"


class ProcManager(Manager):
    name = "FCGI::ProcManager"
    executes = False
    drops_user = False

    @classmethod
    def missing(cls):
        found = subprocess.run(["perl", "-MFCGI", "-MFCGI::ProcManager", "-e1"], capture_output=True, check=False)
        return [] if found.returncode == 0 else ["apt-get install libfcgi-procmanager-perl libfcgi-perl"]

    def command(self, fault):
        program = self.scene.directory / "procmanager.pl"
        program.write_text((PEERS / "procmanager.pl").read_text())
        self.scene.directory.chmod(0o777)  # the manager itself makes the socket, as the user
        return ["perl", str(program), str(self.scene.socket)]


class PhpFpm(Manager):
    name = "php-fpm"
    logs = ("output.log", "php-fpm.log")
    executes = False

    @classmethod
    def binary(cls):
        return next((str(path) for path in sorted(pathlib.Path("/usr/sbin").glob("php-fpm[0-9]*"))), None)

    @classmethod
    def missing(cls):
        return [] if cls.binary() else ["apt-get install php-fpm"]

    def command(self, fault):
        release = self.scene.directory / "release"
        release.mkdir()
        self.scene.script.write_text((PEERS / "app.php").read_text())
        if fault == AT_REQUEST:
            (release / "crash").touch()
        return [self.binary(), "--nodaemonize", "--fpm-config", str(self.scene.configure("php-fpm.conf", fault))]

    def start(self, fault):
        """It refuses to start without its directory: that is taken away while it runs, and the children are killed."""
        self.spawn(fault)
        if fault != AT_START:
            return
        if not processes.wait_until(lambda: len(processes.accepting(self.pid)) == 4, 10):
            raise RuntimeError(f"php-fpm does not start: {self.scene.output.read_text()}")
        self.scene.script.parent.rename(self.scene.directory / "away")
        for child in processes.accepting(self.pid):
            os.kill(child, 9)

    def mend(self):
        (self.scene.directory / "away").rename(self.scene.script.parent)

    def starts(self):
        # The first four are not logged. They count where they are part of the crash, not while its directory was there.
        first = 0 if (self.scene.directory / "away").exists() else 4
        return first + count(self.scene.directory / "php-fpm.log", b" started\n")


class Multiwatch(Manager):
    name = "multiwatch"
    needs = {"/usr/bin/multiwatch": "multiwatch", "/usr/bin/spawn-fcgi": "spawn-fcgi"}

    def command(self, fault):
        user = ["-u", USER] if is_root() else []
        return [
            "spawn-fcgi", "-n", "-s", str(self.scene.socket), *user,
            "--", "/usr/bin/multiwatch", "-f", "4", "--", *self.scene.program(fault),
        ]  # fmt: skip


class Supervisor(Manager):
    name = "supervisor"
    needs = {"/usr/bin/supervisord": "supervisor"}
    # supervisord -n repeats its log on stdout: counted once. site_*: what the workers wrote.
    logs = ("supervisord.log*", "site_*.log*")

    def command(self, fault):
        return ["/usr/bin/supervisord", "-n", "-c", str(self.scene.configure("supervisor.conf", fault))]

    def own_state(self):
        said = subprocess.run(
            ["/usr/bin/supervisorctl", "-c", str(self.scene.directory / "supervisor.conf"), "status"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        words = [line.split()[1] for line in said.stdout.splitlines() if len(line.split()) > 1]
        return "runs, " + ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))


ALL = [Steadfast, ProcManager, PhpFpm, Multiwatch, Supervisor]
