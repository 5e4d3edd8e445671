"""The tables of the front's cost, and the goals that it must hold."""

import statistics

from . import report, ways

# (what, way behind the front, way today, goal)
RATIOS = [
    ("C libfcgi: nginx, kept → front → worker", "c front", "c today", 1.6),
    ("our Rust worker behind the front, against C libfcgi today", "rust front", "c today", 1.9),
    ("Perl FCGI.pm: nginx, kept → front → worker", "perl front", "perl today", 1.3),
    ("php-cgi: nginx, kept → front → worker", "php front", "php today", 1.2),
    ("php-cgi that lives for 20,000 requests", "phplong front", "phplong today", None),
    ("http:// → front → C libfcgi, against nginx → C libfcgi today", "http c", "c today", 2.5),
    ("http:// → front → our Rust worker, against nginx → C libfcgi today", "http rust", "c today", None),
    ("nginx → php-fpm, against nginx → php-cgi today", "php-fpm", "php today", None),
    ("nginx → uWSGI's FastCGI socket (Perl), against nginx → Perl FCGI.pm today", "uwsgi", "perl today", None),
]
CPU_MOST = 15  # µs of the front for each kept request
P50_MOST, P99_MOST = 20, 60  # µs more at half load
CALLS_MOST = 6
IDLE_MOST = 8 * 1024  # KiB
FASTCGI_MOST, HTTP_MOST = 8 * 1024, 16 * 1024  # bytes for each idle connection


def middle(results, *path):
    return report.median(results, *path)


def ratio(data, way, today):
    """The median over the rounds of what was measured within seconds of each other."""
    rounds = zip(data["ways"].get(way, []), data["ways"].get(today, []))
    found = [one["rps"] / other["rps"] for one, other in rounds]
    return statistics.median(found) if found else None


def goals(data):
    """(what, measured, goal, held)"""
    found = []
    for what, way, today, goal in RATIOS:
        if goal:
            value = ratio(data, way, today)
            found.append((f"{what}, requests/s", f"× {value:.2f}", f"≥ {goal}", value >= goal))

    def at_most(what, value, goal, unit, digits=1):
        found.append((what, f"{value:,.{digits}f} {unit}".strip(), f"≤ {goal:,} {unit}".strip(), value <= goal))

    for key in ("c front", "rust front"):
        at_most(f"the front's CPU a request: {data['names'][key]}", middle(data["ways"][key], "cpu_us", "front"), CPU_MOST, "µs")
    at_most("the front's CPU a request: no web server, 32 kept connections, C libfcgi", middle(data["alone"]["c"], "cpu_us"), CPU_MOST, "µs")
    at_most("half load: more at p50 than the worker directly", middle(data["half"], "p50_added_us"), P50_MOST, "µs", 0)
    at_most("half load: more at p99", middle(data["half"], "p99_added_us"), P99_MOST, "µs", 0)
    for name, traced in data["calls"].items():
        at_most(f"system calls of the front a request: {name}", traced["total"], CALLS_MOST, "", 2)
    memory = data["memory"]
    at_most("RSS of the idle front", memory["idle"]["all"] / 1024, IDLE_MOST / 1024, "MiB")
    for kind, name, goal in (("fastcgi", "FastCGI", FASTCGI_MOST), ("http", "HTTP", HTTP_MOST)):
        at_most(f"RSS for each idle kept {name} connection", memory[kind]["kept_bytes"] / 1024, goal // 1024, "KiB")
        still = memory[kind]["still_open"]
        found.append((f"idle {name} connections held", f"{still:,}", f"{memory['held']:,}", still == memory["held"]))
    errors = sum(result["errors"] for key, results in data["ways"].items() if "front" in key or "http" in key for result in results)
    errors += sum(result["failed"] for results in data["alone"].values() for result in results)
    found.append(("failed requests of all that went through the front", f"{errors:,}", "0", errors == 0))
    return found


def goals_table(data):
    rows = [[what, measured, goal, "yes" if held else "**no**"] for what, measured, goal, held in goals(data)]
    return "### Goals\n\n" + report.table(["what", "measured", "goal", "held"], rows)


def ways_table(data):
    base = {key: today for _, key, today, _ in RATIOS} | {"c today": "c today", "rust today": "c today"}
    rows = []
    for key, name in data["names"].items():
        results = data["ways"][key]
        cpu = {who: middle(results, "cpu_us", who) for who in ("nginx", "front", "workers")}
        today = base.get(key)
        value = ratio(data, key, today) if today and today != key else None
        spread = [result["rps"] for result in results]
        rows.append([
            name,
            f"{middle(results, 'rps'):,.0f} ({min(spread):,.0f}–{max(spread):,.0f})",
            f"{middle(results, 'p50_us'):,.0f} / {middle(results, 'p99_us'):,.0f}",
            " + ".join(f"{used:.1f}" if used else "–" for used in cpu.values()) + f" = {sum(cpu.values()):.0f}",
            f"{value:.2f}" if value else "1" if key.endswith("today") and key != "rust today" else "—",
            str(sum(result["errors"] for result in results)),
        ])  # fmt: skip
    head = ["way", "requests/s (least–most)", "p50 / p99 µs", "CPU µs a request: nginx + front + workers", "÷ today", "failed"]
    return "### Every way: 32 clients, hello, 25 params, 2 workers\n\n" + report.table(head, rows)


def alone_table(data):
    rows = [[pool, f"{middle(results, 'rps'):,.0f}", f"{middle(results, 'cpu_us'):.1f}"] for pool, results in data["alone"].items()]
    return "### The front without a web server, 32 kept FastCGI connections\n\n" + report.table(
        ["worker", "requests/s", "the front's CPU µs a request"], rows
    )


def half_table(data):
    rows = []
    for who, name in (("direct", "directly, 2 kept connections"), ("front", "behind the front, 32 kept connections")):
        latency = [1000 * middle(data["half"], who, "latency_ms", percentile) for percentile in ("p50", "p90", "p99")]
        rows.append([name, *(f"{value:,.0f}" for value in latency)])
    added = [middle(data["half"], key) for key in ("p50_added_us", "p99_added_us")]
    rows.append(["more (median of the rounds' differences)", f"{added[0]:,.0f}", "", f"{added[1]:,.0f}"])
    rate = middle(data["half"], "rate")
    title = f"### Half load: C libfcgi at {rate:,.0f} requests a second, each at its time"
    return title + "\n\n" + report.table(["way", "p50 µs", "p90 µs", "p99 µs"], rows)


def calls_table(data):
    rows = []
    for name, traced in data["calls"].items():
        most = sorted(traced["calls"].items(), key=lambda call: -call[1])
        rows.append([name, f"{traced['total']:.2f}", ", ".join(f"{call} {each:.2f}" for call, each in most if each >= 0.005)])
    return "### System calls of the front a request (strace -c)\n\n" + report.table(["load", "all", "which"], rows)


def memory_table(data):
    memory = data["memory"]
    rows = []
    for kind, name in (("fastcgi", "FastCGI, unix"), ("http", "HTTP, TCP")):
        found = memory[kind]
        rows.append([
            name, f"{found['still_open']:,}", f"{found['silent_bytes'] / 1024:.1f}", f"{found['kept_bytes'] / 1024:.1f}",
            f"{found['after']['all'] / 1024:.1f}",
        ])  # fmt: skip
    idle = memory["idle"]
    head = ["connections", "held", "KiB each, nothing asked yet", "KiB each, kept after a request", "MiB RSS when all are closed"]
    title = f"### Memory: {idle['all'] / 1024:.1f} MiB RSS idle ({idle['own'] / 1024:.1f} MiB of it not a file's)"
    return title + "\n\n" + report.table(head, rows)


def tables(data):
    parts = (goals_table, ways_table, alone_table, half_table, calls_table, memory_table)
    return "\n\n".join(part(data) for part in parts)


NOTES = f"""\
The load client (wrk, or `steadfast bench` where there is no web server) is on CPU {ways.CLIENT_CPU}, everything else on CPU {ways.SERVER_CPU}. \
"÷ today" is the median over the rounds of requests/s beside the same kind of worker as people run it today: nginx with a \
connection for each request, two processes on one socket by spawn-fcgi and multiwatch (php-cgi: its own \
PHP_FCGI_CHILDREN=2). Both were measured within seconds of each other. CPU is user and system time from /proc/PID/stat; the \
workers' is with that of whoever starts them. bench/README.md says more."""
