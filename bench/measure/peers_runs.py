"""The measurements of bench/peers: each takes kinds of managers, starts them, and gives figures."""

import os
import pathlib
import signal
import statistics
import time

from . import peers, processes, visitors, ways

WORKERS = 4
STEADY_WORKERS = 8
LEAST, MOST = 2, 20
LONG = "/?delay=0.5"  # of growth
RELOAD_VISITORS, RELOAD_PATH = 8, "/?delay=0.05"
REPLACED_WITHIN = 10  # seconds; later is never


class Plan:
    """How long everything takes, in seconds, and how often it is done."""

    def __init__(self, quick):
        self.crash = 5 if quick else 30
        self.kills = 3 if quick else 10
        self.grow = 8 if quick else 20
        self.shrink = 10 if quick else 25
        self.reloads = 1 if quick else 3
        self.reload_every = 4
        self.rounds = 1 if quick else 5
        self.round = 1 if quick else 3
        self.idle = 10
        self.runs = 1 if quick else 3


def crash(kind, plan):
    """A program that exits 3 as it starts, for a while."""
    with peers.running([kind], WORKERS, WORKERS, broken=True) as ((peer,), _):
        began = time.monotonic()
        exited = processes.wait_until(peer.has_exited, plan.crash)
        ran = time.monotonic() - began
        own, reaped = processes.cpu(peer.pid)
        state = f"gone after {ran:.2g} s, {processes.describe_exit(peer.pid)}" if exited else "runs"
        return {"starts": peer.starts(), "lines": peer.lines(), "cpu": own, "cpu_children": reaped, "state": state}


def kill(kind, plan):
    """A worker of four is killed with -9, the oldest first; ms until another one waits where its brothers wait."""
    with peers.running([kind], WORKERS, WORKERS, before=False) as ((peer,), _):
        took, killed = [], 0
        order = sorted(peer.workers())
        for _ in range(plan.kills):
            settled = processes.wait_until(lambda: len(peers.waiting(peer.workers())) == WORKERS, REPLACED_WITHIN)
            before = peer.workers()
            order = [pid for pid in order if pid in before] + sorted(before - set(order))
            # Who has not replaced the last one will not replace the next one either.
            if not settled or peer.has_exited() or not order:
                break
            killed += 1
            came = replaced(peer, order.pop(0), before)
            if came is not None:
                took.append(came)
            # One each second and a bit, so that nobody takes it for a crash loop of this second.
            time.sleep(1.2)
        return {"kills": plan.kills, "killed": killed, "replaced": len(took),
                "ms": statistics.median(took) if took else None, "max_ms": max(took, default=None)}  # fmt: skip


def replaced(peer, victim, before):
    calls = set(peers.waiting(before).values())
    at = time.monotonic_ns()
    os.kill(victim, signal.SIGKILL)
    while time.monotonic_ns() - at < REPLACED_WITHIN * 10**9:
        if any(call in calls for call in peers.waiting(peer.workers() - before).values()):
            return (time.monotonic_ns() - at) / 1e6
        if peer.has_exited():
            return None
        time.sleep(0.0002)
    return None


def growth(kind, plan):
    """20 visitors with requests of half a second come at once, and leave; two with short ones stay while it shrinks."""
    with peers.running([kind], LEAST, MOST) as ((peer,), nginx):
        port = nginx.ports[peer.name]
        first = visitors.ask(port, "/")
        if first.outcome != "ok":
            raise RuntimeError(f"{peer.name} answers {first.outcome}")
        before = len(peer.workers())
        many = visitors.Visitors(port, LONG, MOST)
        time.sleep(plan.grow)
        requests = many.leave()
        grown = len(peer.workers())
        curve = visitors.served_at_once(requests, many.began)
        few = visitors.Visitors(port, "/?delay=0.02", 2)
        smallest, deadline = grown, time.monotonic() + plan.shrink
        while (left := deadline - time.monotonic()) > 0:
            smallest = min(smallest, len(peer.workers()))
            time.sleep(min(0.1, left))
        late = few.leave()
        return {
            "before": before,
            "grown": grown,
            "all_serve_after": next((at for at, number in curve if number >= MOST), None),
            "most_at_once": max(number for _, number in curve),
            "curve": curve,
            "sent": len(requests),
            "outcomes": visitors.outcomes(requests),
            "shrunk_to": smallest,
            "shrink_sent": len(late),
            "shrink_lost": len(late) - visitors.outcomes(late).get("ok", 0),
            "shrink_outcomes": visitors.outcomes(late),
        }


def reload(kind, plan):
    """Visitors ask without a pause while the manager reloads as its manual advises."""
    with peers.running([kind], WORKERS, WORKERS) as ((peer,), nginx):
        port = nginx.ports[peer.name]
        renewed, workers = 0, peer.workers()
        asking = visitors.Visitors(port, RELOAD_PATH, RELOAD_VISITORS)
        time.sleep(1)
        for _ in range(plan.reloads):
            until = time.monotonic() + plan.reload_every
            peer.reload()
            time.sleep(max(0, until - time.monotonic()))
            now = peer.workers()
            renewed += bool(now) and not now & workers
            workers = now
        requests = asking.leave()
        good = sorted(request.back for request in requests if request.outcome == "ok")
        gaps = [later - earlier for earlier, later in zip(good, good[1:])]
        return {
            "reloads": plan.reloads,
            "renewed": renewed,
            "sent": len(requests),
            "lost": len(requests) - len(good),
            "outcomes": visitors.outcomes(requests),
            "longest_silence_ms": max(gaps, default=0) / 1e6,
            "slowest_ms": max((request.back - request.sent for request in requests if request.outcome == "ok"), default=0) / 1e6,
        }


def switches(pid):
    """Context switches of all threads so far: how often it was woken, mostly."""
    total = 0
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for line in processes.read(thread / "status").splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def memory(pid):
    """RSS and PSS in KiB."""
    found = {}
    for line in processes.read(f"/proc/{pid}/smaps_rollup").splitlines():
        name, _, value = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name.lower()] = int(value.split()[0])
    return found


def steady(kinds, plan, say):
    """All at once, eight workers each, all but one idle: memory, idle wake-ups, then rounds of load, all in turn."""
    result = {kind.name: {"rps": [], "p50_us": [], "added_us": [], "errors": 0} for kind in kinds}
    bare = {"rps": [], "p50_us": []}
    with peers.running(kinds, STEADY_WORKERS, STEADY_WORKERS, on_cpu=ways.SERVER_CPU) as (started, nginx):
        ports = {peer.name: nginx.ports[peer.name] for peer in started}
        for peer in started:
            # Each worker has most likely answered once, so that what is loaded late is loaded.
            answers = [visitors.ask(ports[peer.name], "/") for _ in range(3 * STEADY_WORKERS)]
            if bad := {answer.outcome for answer in answers} - {"ok"}:
                raise RuntimeError(f"{peer.name} answers {', '.join(bad)}: {peer.output()[-1000:]}")
        # Once: whoever is asked for them wakes up.
        managers = {peer.name: peer.managers() for peer in started}
        time.sleep(2)
        before = {name: {word: switches(pid) for word, pid in pids.items()} for name, pids in managers.items()}
        began = time.monotonic()
        time.sleep(plan.idle)
        for peer in started:
            seconds = time.monotonic() - began
            measured = result[peer.name]
            measured["switches"] = {
                word: round((switches(pid) - before[peer.name][word]) * 10 / seconds, 1)
                for word, pid in managers[peer.name].items()
            }
            measured["memory_kib"] = {word: memory(pid) for word, pid in managers[peer.name].items()}
            measured["workers"] = len(peer.workers())
        for number in range(plan.rounds):
            say(f"round {number + 1} of {plan.rounds}")
            one = ways.wrk(f"http://127.0.0.1:{nginx.bare}/", plan.round, 1)
            bare["p50_us"].append(one["p50_us"])
            bare["rps"].append(ways.wrk(f"http://127.0.0.1:{nginx.bare}/", plan.round, STEADY_WORKERS)["rps"])
            order = started[number % len(started) :] + started[: number % len(started)]
            for peer in order:
                url, measured = f"http://127.0.0.1:{ports[peer.name]}/", result[peer.name]
                many, alone = ways.wrk(url, plan.round, STEADY_WORKERS), ways.wrk(url, plan.round, 1)
                measured["rps"].append(many["rps"])
                measured["p50_us"].append(alone["p50_us"])
                measured["added_us"].append(round(alone["p50_us"] - one["p50_us"], 1))
                measured["errors"] += many["errors"] + alone["errors"]
    return result, bare
