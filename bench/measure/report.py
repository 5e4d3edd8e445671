"""The tables, medians over the runs, and the limits that steadfast must hold."""

import statistics

from .processes import TICKS

LIMITS = {"starts": 25, "starts_request": 30, "lines": 30, "cpu": 0.3, "serves_after": 65, "reset": 1.0, "runs_ms": 5.0}


def median(results, *path):
    """Over the runs, of the value at this path; None when any run has none there."""
    values = []
    for result in results:
        for key in path:
            result = result.get(key) if result is not None else None
        if result is None:
            return None
        values.append(result)
    return statistics.median(values)


def number(value, digits=0):
    return "—" if value is None else f"{value:,.{digits}f}"


def compared(value, ours, digits=0):
    """The value, and how many times ours it is; at least, where ours is too small for the clock."""
    text = number(value, digits)
    if value is None or ours is None or value == ours:
        return text
    if ours == 0:
        return f"{text} (>×{value * TICKS:,.0f})"
    times = value / ours
    return f"{text} (×{times:,.0f})" if times >= 10 else f"{text} (×{times:.2g})"


def states(results, key="state"):
    return "<br>".join(dict.fromkeys(result[key].replace("|", "\\|") for result in results))


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def rows_of(data, key, row):
    """One row for each manager; who is missing has a row that says so."""
    ours = data.get("steadfast", {}).get(key)
    rows = []
    for name, measured in data.items():
        if "missing" in measured:
            rows.append([name, "missing: " + "; ".join(measured["missing"])])
        elif key in measured.get("failed", {}):
            rows.append([name, "could not be measured: " + " ".join(measured["failed"][key].split())[:200]])
        elif key in measured:
            rows.append([name, *row(measured[key], ours)])
    width = max(len(row) for row in rows)
    return [row + [""] * (width - len(row)) for row in rows]


def start_row(results, ours):
    def value(*path, digits=0):
        return compared(median(results, *path), median(ours, *path) if ours else None, digits)

    after = median(results, "serves_after")
    waited = results[0]["mended_waited"]
    gone = all(result["state"].startswith("gone") for result in results)
    again = f"after {after:.2f} s" if after is not None else "no: it is gone" if gone else f"not within {waited} s"
    return [value("starts"), value("lines"), value("cpu", digits=2), value("cpu_children", digits=2), states(results), again]


def request_row(results, ours):
    def value(*path, digits=0):
        return compared(median(results, *path), median(ours, *path) if ours else None, digits)

    outcomes = ", ".join(f"{count} {word}" for word, count in results[0]["outcomes"].items() if word != "ok")
    return [
        value("starts"),
        value("lines"),
        value("cpu", digits=2),
        value("cpu_children", digits=2),
        f"{number(median(results, 'failed'))} of {number(median(results, 'sent'))}: {outcomes}",
        states(results),
    ]


def kill_row(results, ours):
    def value(*path):
        return compared(median(results, *path), median(ours, *path) if ours else None, 2)

    back = median(results, "all_back_after")
    return [
        value("runs_ms", "median"),
        value("runs_ms", "max"),
        value("accept_ms", "median"),
        value("accept_ms", "max"),
        f"{number(median(results, 'replaced'))} of {number(median(results, 'killed'))}",
        number(median(results, "others_touched")),
        states(results),
        "no" if back is None else f"after {back * 1000:,.0f} ms",
    ]


def bare(starts):
    """The line below the last table."""
    medians, worst = [start["median"] for start in starts], max(start["max"] for start in starts)
    return (
        "The bare start of the same C program by this benchmark itself, without a manager: "
        f"{statistics.median(medians):,.2f} ms (median), {worst:,.2f} ms (max)."
    )


COST = ["manager", "starts", "log lines", "CPU s, manager", "CPU s, its children"]
START = [*COST, "state at the end", "serves again by itself"]
REQUEST = [*COST, "failed requests", "state at the end"]
KILL = ["manager", "program runs, median ms", "max", "in accept, median ms", "max", "replaced", "others touched"]
KILL += ["state at the end", "all four killed at once: back"]


def tables(data, starts, plan):
    return "\n\n".join(
        [
            f"### Crash at start: 4 workers exit 3 at once, for {plan.crash} s",
            table(START, rows_of(data, "start", start_row)),
            f"### Crash on the first request, 50 requests a second for {plan.crash} s",
            table(REQUEST, rows_of(data, "request", request_row)),
            f"### One worker of 4 killed with -9, {plan.kills} times, one each 1.2 s",
            table(KILL, rows_of(data, "kill", kill_row)),
            bare(starts),
        ]
    )


def told(reason):
    """The exit code and what the worker wrote last."""
    return "3" in reason and "no such module" in reason


def limits(measured):
    """What steadfast promises, held against every run: (what, measured, limit, held)."""
    found = []

    def at_most(what, values, limit, digits=2):
        values = list(values)
        worst = None if None in values else max(values)
        text = "never" if worst is None else f"{worst:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{worst:,}"
        found.append((what, text, f"≤ {limit:g}", worst is not None and worst <= limit))

    def always(what, values, limit):
        values = list(dict.fromkeys(values))
        found.append((what, ", ".join(map(str, values)), str(limit), values == [limit]))

    if start := measured.get("start"):
        at_most("crash at start: starts", [run["starts"] for run in start], LIMITS["starts"], 0)
        at_most("crash at start: log lines", [run["lines"] for run in start], LIMITS["lines"], 0)
        at_most("crash at start: CPU s", [run["cpu"] for run in start], LIMITS["cpu"])
        always("crash at start: pool", [run["facts"].get("pool") for run in start], "down")
        always("crash at start: `status` exits", [run["facts"].get("code") for run in start], 69)
        reasons = [run["facts"].get("reason") or "" for run in start]
        told_all = ["yes" if told(reason) else "no" for reason in reasons]
        always("crash at start: the reason names code and last line", told_all, "yes")
        at_most("mended: serves again by itself, s", [run["serves_after"] for run in start], LIMITS["serves_after"])
    if reset := measured.get("reset"):
        at_most("mended and reset by hand: serves, s", [run["serves_after"] for run in reset], LIMITS["reset"], 3)
    if request := measured.get("request"):
        at_most("crash on the first request: starts", [run["starts"] for run in request], LIMITS["starts_request"], 0)
        at_most("crash on the first request: log lines", [run["lines"] for run in request], LIMITS["lines"], 0)
    if kill := measured.get("kill"):
        medians = [run["runs_ms"]["median"] if run["runs_ms"] else None for run in kill]
        at_most("worker killed: program runs, median ms", medians, LIMITS["runs_ms"])
        always("worker killed: not replaced", [run["kills"] - run["replaced"] for run in kill], 0)
        always("worker killed: others touched", [run["others_touched"] for run in kill], 0)
        always("worker killed: breaker", [run["facts"].get("breaker") for run in kill], "closed")
        always("all four killed: breaker", [run["all_facts"].get("breaker") for run in kill], "closed")
    return found


def limits_table(found):
    rows = [[what, text, limit, "yes" if held else "**no**"] for what, text, limit, held in found]
    return "### What steadfast promises (the worst run)\n\n" + table(["what", "measured", "limit", "held"], rows)


NOTES = """\
CPU is that of the manager process alone, from /proc/PID/stat, and beside it that of its children that ended. Log \
lines are all that manager and workers wrote together. In brackets: how many times steadfast's figure. "Program runs" \
is the time from the kill to the first act of the new worker's own code: of a C program that is executed by \
steadfast, multiwatch and supervisor; FCGI::ProcManager forks without exec, so it is the first Perl line after the \
fork; php-fpm runs nothing before the first request. "In accept" is seen from outside (/proc/PID/syscall, every \
0.2 ms or a little more) and is the same for all. php-fpm's crash at start is its working directory taken away while \
it runs and all children killed once, because it runs no PHP at a start; its starts are those that it logged. \
bench/README.md says more."""
