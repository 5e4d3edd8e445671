"""The three measurements, each of one manager in a scene of its own."""

import contextlib
import os
import signal
import socket
import statistics
import tempfile
import time

from . import fastcgi, managers, processes

WORKERS = 4
RATE = 50  # requests a second
KILL_EVERY = 1.2  # seconds
REPLACED_WITHIN = 10  # seconds; later is never


class Plan:
    """How long everything takes."""

    def __init__(self, quick):
        self.crash = 10 if quick else 60
        self.mended = 30 if quick else 70
        self.kills = 5 if quick else 50


@contextlib.contextmanager
def running(kind, fault):
    with tempfile.TemporaryDirectory(prefix="crash-loop-") as directory:
        scene = managers.Scene(directory)
        scene.compile()
        manager = kind(scene)
        try:
            manager.start(fault)
            yield manager
        finally:
            if manager.pid:
                manager.stop()


def figures(manager):
    """What has been started, written and burnt so far, and in what state that left it."""
    own, reaped = processes.cpu(manager.pid)
    result = {"starts": manager.starts(), "lines": manager.lines(), "cpu": own, "cpu_children": reaped}
    return result | {"state": manager.state(), "facts": manager.facts()}


def crash_at_start(kind, plan):
    """A program that exits 3 at once; at last it is mended, and nobody tells the manager."""
    began = time.monotonic()
    with running(kind, managers.AT_START) as manager:
        exited = processes.wait_until(manager.has_exited, plan.crash)
        ran = time.monotonic() - began
        result = figures(manager)
        result["state"] += f" after {ran:.2f} s" if exited else ""
        manager.mend()
        result["serves_after"] = fastcgi.wait_answer(
            manager.scene.socket, manager.scene.script, plan.mended, manager.has_exited
        )
        result["mended_waited"] = plan.mended
        return result


def wait_serving(manager):
    """All four workers stand in accept."""
    if not processes.wait_until(lambda: len(processes.accepting(manager.pid)) == WORKERS, 15):
        raise RuntimeError(f"{manager.name} does not start: {manager.scene.output.read_text()}")


def crash_on_request(kind, plan):
    """Every worker dies on its first request; requests keep coming."""
    with running(kind, managers.AT_REQUEST) as manager:
        wait_serving(manager)
        outcomes, result = fastcgi.load(
            manager.scene.socket, manager.scene.script, RATE, plan.crash, lambda: figures(manager)
        )
        result["sent"] = sum(outcomes.values())
        result["failed"] = result["sent"] - outcomes["ok"]
        result["outcomes"] = dict(outcomes.most_common())
        return result


def kill_one(manager, victim):
    """Kills it and waits for the worker in its place: (ns until its program runs, ns until it is in accept, whether
    the others lived on), or None when nobody came."""
    before = processes.accepting(manager.pid)
    others = before - {victim}
    at = time.monotonic_ns()
    os.kill(victim, signal.SIGKILL)
    deadline = at + REPLACED_WITHIN * 10**9
    while time.monotonic_ns() < deadline:
        came = processes.accepting(manager.pid) - before
        if came:
            in_accept = time.monotonic_ns() - at
            runs = [when - at for when, pid in manager.scene.starts() if pid in came]
            return min(runs, default=None), in_accept, others <= processes.accepting(manager.pid)
        if manager.has_exited():
            return None
        time.sleep(0.0002)
    return None


def kill_workers(kind, plan):
    """One worker of four is killed, again and again, the oldest first; at last all four at once."""
    with running(kind, managers.NEVER) as manager:
        wait_serving(manager)
        order = sorted(processes.accepting(manager.pid))
        runs, accepts, touched, killed = [], [], 0, 0
        for _ in range(plan.kills):
            next_kill = time.monotonic() + KILL_EVERY
            alive = processes.accepting(manager.pid)
            order = [pid for pid in order if pid in alive] + sorted(alive - set(order))
            if not order:
                break
            killed += 1
            came = kill_one(manager, order.pop(0))
            if came:
                accepts.append(came[1])
                touched += not came[2]
                if came[0] is not None:
                    runs.append(came[0])
            time.sleep(max(0, next_kill - time.monotonic()))
        return {
            "kills": plan.kills,
            "killed": killed,
            "replaced": len(accepts),
            "others_touched": touched,
            "runs_ms": milliseconds(runs),
            "accept_ms": milliseconds(accepts),
            "state": manager.state(),
            "facts": manager.facts(),
            **kill_all(manager),
        }


def kill_all(manager):
    """All workers at one moment: seconds until four others stand in accept."""
    before = processes.accepting(manager.pid)
    began = time.monotonic()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    back = bool(before) and processes.wait_until(
        lambda: len(processes.accepting(manager.pid) - before) == WORKERS, REPLACED_WITHIN, 0.0005
    )
    took = time.monotonic() - began
    return {"all_back_after": took if back else None, "all_state": manager.state(), "all_facts": manager.facts()}


def milliseconds(nanoseconds):
    if not nanoseconds:
        return None
    return {"median": statistics.median(nanoseconds) / 1e6, "max": max(nanoseconds) / 1e6}


def bare_start(plan):
    """The same C program started by ourselves, without a manager: what the machine takes at this load."""
    with tempfile.TemporaryDirectory(prefix="crash-loop-") as directory:
        scene = managers.Scene(directory)
        scene.compile()
        program, took = scene.program(managers.NEVER), []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(scene.socket))
            listener.listen()
            for started in range(1, plan.kills + 1):
                at = time.monotonic_ns()
                pid = os.posix_spawn(
                    program[0],
                    program,
                    scene.environment,
                    file_actions=[(os.POSIX_SPAWN_DUP2, listener.fileno(), 0)],
                )
                runs = processes.wait_until(lambda: len(scene.starts()) == started, REPLACED_WITHIN, 0.001)
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                if not runs:
                    raise RuntimeError("the C program does not start")
                took.append(scene.starts()[-1][0] - at)
        return milliseconds(took)


def reset_by_hand(plan):
    """steadfast only: the program is mended and the operator says so; seconds until a request is answered."""
    del plan
    with running(managers.Steadfast, managers.AT_START) as manager:
        opened = processes.wait_until(
            lambda: manager.pool()[1].get("breaker", {}).get("state") == "open", 30, every=0.1
        )
        if not opened:
            raise RuntimeError(f"the breaker does not open: {manager.state()}")
        manager.mend()
        said = manager.verb("breaker", "site", "reset")
        if said.returncode != 0:
            raise RuntimeError(f"`breaker site reset` exits {said.returncode}: {said.stderr}")
        return {"serves_after": fastcgi.wait_answer(manager.scene.socket, manager.scene.script, 70)}


MEASUREMENTS = {"start": crash_at_start, "request": crash_on_request, "kill": kill_workers}
