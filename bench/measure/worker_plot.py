"""Draws what workers cost as an SVG: bars of CPU time for each request, libfcgi's being 1."""

import statistics
from xml.sax.saxutils import escape

from . import worker_report, worker_runs, workers

PANELS = [
    ("closed", "hello", "hello, a connection each"),
    ("kept", "hello", "hello, kept"),
    ("kept", "64 KiB", "64 KiB, kept"),
    ("kept", "10 MiB", "10 MiB, kept"),
    ("kept", "POST 1 MiB", "POST of 1 MiB, kept"),
]
BAR, GAP, TITLE, NAMES, WIDTH, LABEL = 16, 6, 34, 172, 520, 108
MOST = 4.0  # longer bars are cut, and say so by their number
# Colours in the middle between black and white: they are read on either.
TEXT, OURS, BASE, OTHERS, LINE = "#808890", "#2f9e6e", "#6f87b8", "#a0a6ad", "#80889066"


def text(x, y, words, anchor="start", weight="normal"):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'


def draw(data):
    peers = data["peers"]
    height = TITLE + len(peers) * (BAR + GAP) + 10
    total = 30 + len(PANELS) * height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {NAMES + WIDTH + LABEL} {total}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{TEXT}">',
        "<title>CPU time of a FastCGI worker for each request, relative to C libfcgi</title>",
        text(0, 16, "CPU time of the worker for each request; libfcgi is 1; shorter is better", weight="bold"),
    ]
    scale = WIDTH / MOST
    for number, (way, load, title) in enumerate(PANELS):
        top = 30 + number * height
        parts.append(text(0, top + 18, title, weight="bold"))
        x = NAMES + scale
        parts.append(f'<path d="M{x:.1f} {top + TITLE - 6}V{top + height - 10}" stroke="{LINE}" stroke-dasharray="3 3"/>')
        for row, peer in enumerate(peers):
            y = top + TITLE + row * (BAR + GAP)
            value = worker_report.ratio(data, way, load, peer, "cpu_us")
            cpu = statistics.median(result["cpu_us"] for result in data["ways"][way][load][peer])
            length = min(value, MOST) * scale
            colour = {workers.OURS: OURS, workers.BASE: BASE}.get(peer, OTHERS)
            weight = "bold" if peer == workers.OURS else "normal"
            parts.append(text(NAMES - 8, y + 12, workers.NAMES[peer], "end", weight))
            parts.append(f'<rect x="{NAMES}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
            unit = f"{worker_report.number(cpu)} µs" if cpu < 10_000 else f"{cpu / 1000:.0f} ms"
            parts.append(text(round(NAMES + length + 6, 1), y + 12, f"{value:.2f}  ({unit})", weight=weight))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


# Every panel is something that is measured.
assert all(way in worker_runs.WAYS and load in worker_runs.LOADS for way, load, _ in PANELS)
