"""The tables of what workers cost, and the goals that ours must hold."""

import statistics

from . import report, worker_runs, workers

# (way, load, at most so many times the CPU time of libfcgi)
GOALS = [
    ("closed", "hello", 0.6),
    ("kept", "hello", 0.85),
    *((way, load, 1.0) for way in ("closed", "kept") for load in ("64 KiB", "10 MiB", "POST 1 MiB")),
]
CALLS = {"closed": 4, "kept": 2}
# What the start and end of a client's two connections add to the calls of 2,000 requests.
CALLS_SLACK = 0.02

NOTES = """\
Each cell: requests/s; latency at p50/p99; CPU time of the worker's processes for each request (user and system, \
`/proc/PID/task/*/schedstat`); in brackets that time as a ratio to libfcgi's, the median of the rounds' ratios. Client on CPU 0, two \
processes of each worker on CPU 1 (nginx there, too). Kept connections are two; where they are closed, 32 clients ask for \
the greeting and two for the rest. Ratios are comparable between runs, requests/s are this machine's on that day."""


def middle(results, key):
    return statistics.median(result[key] for result in results)


def ratio(data, way, load, peer, key):
    """The median over the rounds of what was measured within seconds of each other, to libfcgi."""
    rounds = zip(data["ways"][way][load][peer], data["ways"][way][load][workers.BASE])
    return statistics.median(one[key] / max(base[key], 1e-9) for one, base in rounds)


def goals(data):
    """(what, measured, goal, held)"""
    found = []
    for way, load, most in GOALS:
        if way in data["ways"]:
            value = ratio(data, way, load, workers.OURS, "cpu_us")
            found.append((f"CPU, {load}, {worker_runs.WAYS[way]}", f"{value:.2f} × libfcgi", f"≤ {most}", value <= most))
    for way in ("closed", "kept"):
        value = ratio(data, way, "hello", workers.OURS, "rps")
        found.append((f"requests/s, hello, {worker_runs.WAYS[way]}", f"{value:.2f} × libfcgi", "≥ 1", value >= 1))
    for way, most in CALLS.items():
        value = data["calls"][way][workers.OURS]["total"]
        found.append((f"system calls, hello, {worker_runs.WAYS[way]}", f"{value:.2f}", f"≤ {most}", value <= most + CALLS_SLACK))
    return found


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def time(value):
    return f"{value:,.0f} µs" if value < 10_000 else f"{value / 1000:,.0f} ms"


def cell(data, way, load, peer):
    results = data["ways"][way][load][peer]
    cpu = f"{number(middle(results, 'cpu_us'))} µs ({ratio(data, way, load, peer, 'cpu_us'):.2f})"
    latency = f"{time(middle(results, 'p50_us'))} / {time(middle(results, 'p99_us'))}"
    return f"{number(middle(results, 'rps'))}/s; {latency}; {cpu}"


def way_table(data, way):
    rows = []
    for peer in data["peers"]:
        row = [workers.NAMES[peer], *(cell(data, way, load, peer) for load in worker_runs.LOADS)]
        if "nginx" in way:
            row.append(f"{number(middle(data['ways'][way]['hello'][peer], 'nginx_us'))} µs")
        rows.append(row)
    columns = ["worker", *worker_runs.LOADS, *(["nginx's CPU, hello"] if "nginx" in way else [])]
    return f"### {worker_runs.WAYS[way].capitalize()}\n\n" + report.table(columns, rows)


def calls_table(data):
    rows = []
    for peer in data["peers"]:
        row = [workers.NAMES[peer]]
        for way in CALLS:
            traced = data["calls"][way][peer]
            calls = sorted(traced["calls"].items(), key=lambda item: -item[1])
            row.append(f"{traced['total']:.2f}: " + ", ".join(f"{name} {count:.2f}" for name, count in calls if count >= 0.01))
        rows.append(row)
    return "### System calls for each greeting\n\n" + report.table(["worker", *(worker_runs.WAYS[way] for way in CALLS)], rows)


def summary(data):
    """The table of the README: the greeting on all ways, then CPU time of the larger ones."""
    rows = []
    for peer in data["peers"]:
        row = [f"**{workers.NAMES[peer]}**" if peer == workers.OURS else workers.NAMES[peer]]
        for way in data["ways"]:
            results = data["ways"][way]["hello"][peer]
            row.append(f"{number(middle(results, 'rps'))}; {number(middle(results, 'cpu_us'))} µs ({ratio(data, way, 'hello', peer, 'cpu_us'):.2f})")
        row += [f"{ratio(data, 'kept', load, peer, 'cpu_us'):.2f}" for load in list(worker_runs.LOADS)[1:]]
        row.append(" / ".join(f"{data['calls'][way][peer]['total']:.0f}" for way in CALLS))
        rows.append(row)
    columns = ["worker", *data["ways"], *list(worker_runs.LOADS)[1:], "system calls"]
    return report.table(columns, rows)


def document(data):
    about = data["about"]
    heading = (
        "## What a worker costs\n\n"
        f"{about['at']}, medians of {data['rounds']} interleaved rounds of {data['seconds']} s; checkout {about['checkout']}; "
        f"Linux {about['kernel']}, {about['cpus']} CPUs, load {about['load_before']} before, {about['load_foreign']:.2f} CPUs "
        f"taken by others meanwhile; {about['peers']}."
    )
    rows = [[what, measured, goal, "yes" if held else "**no**"] for what, measured, goal, held in goals(data)]
    parts = [heading, NOTES, "### Goals\n\n" + report.table(["what", "measured", "goal", "held"], rows)]
    parts += ["### In short\n\n" + summary(data)] if "nginx kept" in data["ways"] else []
    parts += [way_table(data, way) for way in data["ways"]] + [calls_table(data)]
    return "\n\n".join(parts) + "\n"
