"""What /proc says about a manager and its workers, and the end of every process that was started here."""

import ctypes
import os
import pathlib
import platform
import signal
import time

TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36

# accept, accept4
ACCEPT = {"x86_64": {"43", "288"}, "aarch64": {"202", "242"}}.get(platform.machine(), set())


def adopt_orphans():
    """Children of managers that are gone become ours, so that none is forgotten."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def read(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def children(pid):
    """Direct children of all threads."""
    found = set()
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return found
    for thread in threads:
        found.update(int(child) for child in read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def in_accept(pid):
    """Whether its main thread waits in accept(2)."""
    return read(f"/proc/{pid}/syscall").partition(" ")[0] in ACCEPT


def accepting(manager):
    return {pid for pid in children(manager) if in_accept(pid)}


def cpu(pid):
    """CPU seconds of this process alone, and of its reaped children. A zombie still tells them."""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if not fields:
        return 0.0, 0.0
    own_user, own_system, reaped_user, reaped_system = (int(field) for field in fields[11:15])
    return (own_user + own_system) / TICKS, (reaped_user + reaped_system) / TICKS


def tree_cpu(pid):
    """CPU seconds of this process, of its reaped children and of all that live below it."""
    return sum(cpu(pid)) + sum(tree_cpu(child) for child in children(pid))


def has_exited(pid):
    """Whether our own child has ended; it is left unreaped, so that its figures can still be read."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def describe_exit(pid):
    result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if result.si_code == os.CLD_EXITED:
        return f"exit code {result.si_status}"
    return f"killed by {signal.Signals(result.si_status).name}"


def wait_until(condition, seconds, every=0.01):
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def stop(pid, seconds=15):
    """Ends it; at last ends what was left behind, all of them our own children by now."""
    end(pid, seconds)
    while left := children(os.getpid()):
        for orphan in left:
            os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)


def end(pid, seconds=15):
    """TERM, after a while KILL, then reaps."""
    if not has_exited(pid):
        os.kill(pid, signal.SIGTERM)
        if not wait_until(lambda: has_exited(pid), seconds):
            os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
