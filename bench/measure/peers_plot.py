"""Draws two figures of bench/peers as SVG: how pools grow, and what a reload loses."""

from xml.sax.saxutils import escape

from . import peers_runs

# Colours in the middle between black and white: they are read on either.
TEXT, LINE = "#808890", "#80889066"
OURS = {"steadfast": "#2f9e6e", "steadfast, zygote": "#7cc4a3"}
OTHERS = ["#6f87b8", "#c0823f", "#a0689e", "#a0a6ad"]
LEFT, WIDTH, HEIGHT, TOP, RIGHT = 44, 560, 220, 46, 130
BAR, GAP, NAMES = 16, 6, 140


def text(x, y, words, anchor="start", weight="normal", colour=TEXT):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}">{escape(words)}</text>'


def opened(width, height, title):
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{TEXT}">',
        f"<title>{escape(title)}</title>",
        text(0, 16, title, weight="bold"),
    ]


def growth(data):
    """Requests in workers' hands over time, a line for each manager that grows; the run in the middle of the runs."""
    runs = {name: middle(measured["growth"]) for name, measured in data.items() if measured.get("growth")}
    end = max((at for run in runs.values() for at, _ in run["curve"]), default=1.0)
    x, y = (lambda at: LEFT + at / end * WIDTH), (lambda count: TOP + HEIGHT - count / (peers_runs.MOST + 1) * HEIGHT)
    title = f"{peers_runs.MOST} visitors come at once to a pool of {peers_runs.LEAST} to {peers_runs.MOST}: requests served at a time"
    parts = opened(LEFT + WIDTH + RIGHT, TOP + HEIGHT + 34, title)
    for count in range(0, peers_runs.MOST + 1, 5):
        parts.append(f'<path d="M{LEFT} {y(count):.1f}H{LEFT + WIDTH}" stroke="{LINE}"/>')
        parts.append(text(LEFT - 8, y(count) + 4, str(count), "end"))
    for second in range(0, int(end) + 1, max(1, int(end) // 8)):
        parts.append(text(x(second), TOP + HEIGHT + 18, f"{second} s", "middle"))
    colours = iter(OTHERS)
    for row, (name, run) in enumerate(runs.items()):
        colour = OURS.get(name) or next(colours)
        path = f"M{x(0):.1f} {y(0):.1f}" + "".join(f"H{x(at):.1f}V{y(count):.1f}" for at, count in envelope(run["curve"]))
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>')
        parts.append(text(LEFT + WIDTH + 10, TOP + 14 + row * 18, name, weight="bold" if name in OURS else "normal", colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def middle(results):
    """The run whose time is the median; a run that never came there is last."""
    by_time = sorted(results, key=lambda run: run["all_serve_after"] if run["all_serve_after"] is not None else float("inf"))
    return by_time[(len(by_time) - 1) // 2]


def envelope(curve, step=0.1):
    """The most in each tenth of a second: between two requests of a visitor a worker is free for a moment."""
    most = {}
    last = 0
    for at, count in curve:
        slot = int(at / step)
        most[slot] = max(most.get(slot, last), count)
        last = count
    return [(slot * step, count) for slot, count in sorted(most.items())]


def bars(data):
    """Requests lost in all reloads, per reload."""
    rows = []
    for name, measured in data.items():
        if results := measured.get("reload"):
            rows.append((name, sum(run["lost"] for run in results) / sum(run["reloads"] for run in results)))
    most = max((value for _, value in rows), default=0) or 1
    parts = opened(NAMES + WIDTH + RIGHT, 34 + len(rows) * (BAR + GAP) + 6, "Requests lost in one reload, eight visitors; none is best")
    for row, (name, value) in enumerate(rows):
        top, colour = 30 + row * (BAR + GAP), OURS.get(name, OTHERS[-1])
        weight, length = "bold" if name in OURS else "normal", value / most * WIDTH
        parts.append(text(NAMES - 8, top + 12, name, "end", weight))
        parts.append(f'<rect x="{NAMES}" y="{top}" width="{max(length, 1):.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
        parts.append(text(NAMES + length + 8, top + 12, f"{value:,.1f}".removesuffix(".0"), weight=weight))
    return "\n".join([*parts, "</svg>"]) + "\n"
