"""The page of bench/peers: one table, a column for each peer, medians over the runs, an em dash where a peer has no such thing."""

import statistics

from . import peers, peers_runs
from .report import number, table

KINDS = {kind.name: kind for kind in peers.ALL}
NONE = "—"


def values(measured, part, *path):
    found = []
    for result in measured.get(part, []):
        for key in path:
            result = result.get(key) if result is not None else None
        found.append(result)
    return found


def median(measured, part, *path):
    """None when any run has none there, or there was no run."""
    found = values(measured, part, *path)
    return statistics.median(found) if found and None not in found else None


def rounds(measured, key):
    found = values(measured, "steady", key)
    return statistics.median(found[0]) if found and found[0] else None


def compared(value, ours, digits=0):
    """The value, and how many times ours it is."""
    text = number(value, digits)
    if value is None or not ours or value == ours:
        return text
    times = value / ours
    return f"{text} (×{times:,.0f})" if times >= 10 else f"{text} (×{times:.2g})"


def cell(measured, part, text):
    """The text, unless there is no figure: then why."""
    if "missing" in measured:
        return "missing"
    if part in measured.get("failed", {}):
        return "failed"
    return text() if part in measured else NONE


def all_serve(measured, plan):
    found = values(measured, "growth", "all_serve_after")
    if None in found:
        return f"not within {plan.grow} s: {number(median(measured, 'growth', 'most_at_once'))}"
    return f"{statistics.median(found):.1f} s"


def lost(part, what, sent):
    def text(measured):
        """All runs together: a request that is lost once in three runs is lost."""
        return f"{sum(values(measured, part, what)):,} of {sum(values(measured, part, sent)):,}"

    return text


def parts_of(key):
    def text(measured):
        (found,) = values(measured, "steady", key)
        return " + ".join(number(value, 0) for value in found.values())

    return text


def memory(kind):
    def text(measured):
        (found,) = values(measured, "steady", "memory_kib")
        return " + ".join(number(value[kind] / 1024, 1) for value in found.values())

    return text


def rows(plan, data):
    ours = data.get("steadfast", {})

    def times(part, *path, digits=0):
        return lambda measured: compared(median(measured, part, *path), median(ours, part, *path), digits)

    def per_round(key):
        return lambda measured: compared(rounds(measured, key), rounds(ours, key))

    def kills(measured):
        return f"{number(median(measured, 'kill', 'replaced'))} of {number(median(measured, 'kill', 'killed'))}"

    def shrunk(measured):
        return f"{number(median(measured, 'growth', 'grown'))} → {number(median(measured, 'growth', 'shrunk_to'))}"

    def state(measured):
        return values(measured, "crash", "state")[0]

    def renewed(measured):
        return f"{sum(values(measured, 'reload', 'renewed'))} of {sum(values(measured, 'reload', 'reloads'))}"

    return [
        ("crash", f"**Crash at start**, {peers_runs.WORKERS} workers, {plan.crash} s: starts", times("crash", "starts")),
        ("crash", "lines written", times("crash", "lines")),
        ("crash", "CPU of the manager, s", times("crash", "cpu", digits=2)),
        ("crash", "the manager afterwards", state),
        ("kill", f"**One of {peers_runs.WORKERS} killed**, {plan.kills} times: another waits after, median ms", times("kill", "ms", digits=1)),
        ("kill", "replaced within 10 s", kills),
        ("growth", f"**Growth** {peers_runs.LEAST} → {peers_runs.MOST}: all serve after", lambda measured: all_serve(measured, plan)),
        ("growth", f"then {plan.shrink} s of two visitors: workers", shrunk),
        ("growth", "requests lost meanwhile", lost("growth", "shrink_lost", "shrink_sent")),
        ("reload", f"**Reload**, {plan.reloads * plan.runs} times under load: requests lost", lost("reload", "lost", "sent")),
        ("reload", "all workers renewed", renewed),
        ("reload", "slowest request, ms", times("reload", "slowest_ms")),
        ("steady", f"**Hello** through nginx, {peers_runs.STEADY_WORKERS} workers: requests/s", per_round("rps")),
        ("steady", "one visitor: added to nginx's own answer, median µs", per_round("added_us")),
        ("steady", "**Idle**: context switches of the manager in 10 s", parts_of("switches")),
        ("steady", f"memory of the manager, {peers_runs.STEADY_WORKERS} workers: RSS, MiB", memory("rss")),
        ("steady", "PSS, MiB", memory("pss")),
    ]


def wide(plan, data):
    body = [[what, *(cell(measured, part, lambda: text(measured)) for measured in data.values())] for part, what, text in rows(plan, data)]
    reached = ["nginx reaches it by", *(KINDS[name].road for name in data)]
    how = ["its reload", *(KINDS[name].reloads or NONE for name in data)]
    return table(["", *data], [reached, how, *body])


def failures(data):
    found = [f"- {name}, {part}: {' '.join(why.split())[:300]}" for name, measured in data.items()
             for part, why in measured.get("failed", {}).items()]  # fmt: skip
    found += [f"- {name}: apt-get install {' '.join(measured['missing'])}" for name, measured in data.items() if "missing" in measured]
    return "\n".join(["Not measured:", "", *found]) if found else ""


def page(about, quick, plan, data, bare):
    head = (
        f"## steadfast beside its peers\n\n{about['at']}, {'quick, ' if quick else ''}`bench/peers`, {about['minutes']} minutes; "
        f"{about['steadfast'] or 'no steadfast'}, checkout {about['checkout']}; Linux {about['kernel']}, {about['cpus']} CPUs, "
        f"load {about['load_before']} before; {about['packages']}."
    )
    nginx = ""
    if bare:
        nginx = (
            f"nginx's own answer: {number(statistics.median(bare['rps']))} requests/s with {peers_runs.STEADY_WORKERS} "
            f"visitors, {number(statistics.median(bare['p50_us']))} µs with one."
        )
    return "\n\n".join(part for part in [head, wide(plan, data), nginx, failures(data), NOTES] if part) + "\n"


NOTES = """\
In brackets: how many times steadfast's figure of the same run. An em dash: the manager has no such thing. \
FCGI::ProcManager, multiwatch, supervisor, Starman, gunicorn and fcgiwrap have as many workers as they are told, and \
do not grow; multiwatch has no reload; fcgiwrap starts the program anew for each request, so that nothing of the \
program can fail as a worker starts, and nothing must be reloaded. The application is Perl under steadfast, \
FCGI::ProcManager, multiwatch, supervisor, uWSGI, Starman and (as CGI) fcgiwrap, PHP under php-fpm, Python under \
gunicorn: requests a second and latency are those of the language too. Who is killed is replaced by perl executed anew \
under steadfast, multiwatch and supervisor, and by a fork of what is loaded under steadfast with a zygote, \
FCGI::ProcManager and php-fpm. steadfast's sums are supervisor + front, and with a zygote + zygote + spare. \
bench/README.md says what each row is."""
