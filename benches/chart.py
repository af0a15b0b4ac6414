#!/usr/bin/env python3
"""Draws the charts of docs/COMPARE.md and docs/BENCHMARKS.md from what the benches have printed.

    python3 benches/chart.py          # docs/peers.txt -> docs/throughput.svg, docs/latency.svg;
                                      # docs/figures.txt -> docs/hits.svg

The charts follow the reader's light or dark theme, and need nothing but Python.
"""

import math
import re
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 860, 230, 40, 84, 32, 68

STYLE = """
    .card { fill: #ffffff; stroke: #d0d7de; }
    .text { fill: #1c2430; }
    .head { fill: #1c2430; font-weight: 600; font-size: 16px; }
    .note { fill: #4c5967; font-size: 12.5px; }
    .foot { fill: #4c5967; font-size: 11px; }
    .grid { stroke: #dde3e9; }
    .ours { fill: #2f855a; }
    .peer { fill: #8896a4; }
    .span { stroke: #8896a4; stroke-width: 3; }
    .span.ours { stroke: #2f855a; }
    .ring { fill: #ffffff; stroke: #8896a4; stroke-width: 2; }
    .ring.ours { fill: #ffffff; stroke: #2f855a; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #161b22; stroke: #3d444d; }
      .text, .head { fill: #e6edf3; }
      .note, .foot { fill: #a3afbb; }
      .grid { stroke: #30363d; }
      .ours { fill: #4cae7a; }
      .peer { fill: #76828f; }
      .span { stroke: #76828f; }
      .span.ours { stroke: #4cae7a; }
      .ring { fill: #161b22; stroke: #76828f; }
      .ring.ours { fill: #161b22; stroke: #4cae7a; }
    }
"""


def peers(text):
    """The rows of the table: name, checks a second with 2 threads, p50 and p99 with 1."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith("-----"))
    for line in lines:
        if not line.strip():
            return
        name, *cells = re.split(r"\s{2,}", re.sub(r"^(.{28}) +", r"\1  ", line))
        numbers = [float(cell.replace(",", "")) for cell in cells[:6]]
        yield name, numbers[3], numbers[1], numbers[2]


def label(name):
    known = {
        "gatekey, resident": "gatekey, key in memory",
        "gatekey, not resident": "gatekey, key from the file",
        "redb, a transaction a check": "redb, a transaction per check",
    }
    return known.get(name, name)


class Chart:
    def __init__(self, title, subtitle, rows, where):
        self.height = TOP + ROW * rows + BOTTOM
        self.title, self.where = title, where
        self.parts = [
            f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{self.height - 1}" rx="8"/>',
        ]
        self.put("head", 24, 34, title)
        self.put("note", 24, 56, subtitle)
        self.put("foot", 24, self.height - 16, where)

    def put(self, kind, x, y, text, anchor="start"):
        self.parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def line(self, kind, x1, y1, x2, y2):
        self.parts.append(
            f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
        )

    def ticks(self, ticks):
        bottom = self.height - BOTTOM
        for x, text in ticks:
            self.line("grid", x, TOP - 10, x, bottom)
            self.put("note", x, bottom + 20, text, "middle")

    def row(self, at, name):
        y = TOP + ROW * at + ROW / 2
        self.put("text", LEFT - 12, y + 5, label(name), "end")
        return y, "ours" if name.startswith("gatekey") else "peer"

    def write(self, path, about):
        body = "\n  ".join(self.parts)
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
            "font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" "
            'font-size="14" role="img" aria-labelledby="title desc">\n'
            f'  <title id="title">{escape(self.title)}</title>\n'
            f'  <desc id="desc">{escape(f"{about}. {self.where}.")}</desc>\n'
            f"  <style>{STYLE}  </style>\n  {body}\n</svg>\n"
        )


def throughput(rows, where):
    rows = sorted(rows, key=lambda row: -row[1])
    chart = Chart("Checks per second, 2 threads", "More is better.", len(rows), where)
    most, room = 5e6, WIDTH - LEFT - RIGHT
    chart.ticks([(LEFT + room * n / 5, f"{n} million" if n else "0") for n in range(6)])
    for at, (name, checks, _, _) in enumerate(rows):
        y, kind = chart.row(at, name)
        length = room * checks / most
        chart.parts.append(
            f'<rect class="{kind}" x="{LEFT}" y="{y - 9:.1f}" width="{max(length, 1):.1f}" height="18" rx="2"/>'
        )
        chart.put("note", LEFT + length + 8, y + 4.5, f"{checks:,.0f}")
    about = "; ".join(f"{label(name)}: {checks:,.0f}" for name, checks, _, _ in rows)
    chart.write(DOCS / "throughput.svg", about)


def latency(rows, where):
    rows = sorted(rows, key=lambda row: row[3])
    subtitle = "From the median (filled) to the 99th percentile (ring). Less is better; each line is 10 times the one before."
    chart = Chart("Time of a check, 1 thread", subtitle, len(rows), where)
    low, high = math.log10(0.1), math.log10(100_000)
    place = lambda us: LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(us) - low) / (high - low)
    words = ["0.1 us", "1 us", "10 us", "100 us", "1 ms", "10 ms", "100 ms"]
    chart.ticks([(place(10.0**n), word) for n, word in enumerate(words, -1)])
    for at, (name, _, p50, p99) in enumerate(rows):
        y, kind = chart.row(at, name)
        chart.line(f"span {kind}", place(p50), y, place(p99), y)
        chart.parts.append(f'<circle class="{kind}" cx="{place(p50):.1f}" cy="{y:.1f}" r="6"/>')
        chart.parts.append(
            f'<circle class="ring {kind}" cx="{place(p99):.1f}" cy="{y:.1f}" r="5"/>'
        )
        text = f"{p50:,.2f} to {p99:,.2f} us" if p99 < 1000 else f"{p50 / 1000:.0f} to {p99 / 1000:.0f} ms"
        if p99 < 1000:
            chart.put("note", place(p99) + 12, y + 4.5, text)
        else:
            chart.put("note", place(p50) - 12, y + 4.5, text, "end")
    about = "; ".join(f"{label(name)}: {p50:,.2f} to {p99:,.2f} us" for name, _, p50, p99 in rows)
    chart.write(DOCS / "latency.svg", about)


def hits(text):
    """What a verification from memory takes by the number of keys, beside the floor."""
    figure = lambda name: float(re.search(rf"^{name} (\S+)", text, re.M)[1])
    sizes = [("1k", "1,000 keys"), ("10k", "10,000 keys"), ("100k", "100,000 keys"), ("1m", "1 million keys")]
    chart = Chart(
        "Time of a verification from memory, 1 thread",
        "Green: all of it, by gatekey. Grey: a hash of the token, a look-up in a map and a comparison alone. Less is better.",
        2 * len(sizes),
        text.splitlines()[0].lstrip("# "),
    )
    most, room = 600, WIDTH - LEFT - RIGHT
    chart.ticks([(LEFT + room * ns / most, f"{ns} ns" if ns else "0") for ns in range(0, most + 1, 100)])
    told = []
    for at, (size, name) in enumerate(sizes):
        chart.put("text", LEFT - 12, TOP + ROW * (2 * at + 1) + 5, name, "end")
        pair = figure(f"verify_hit_{size}_ns"), figure(f"verify_floor_{size}_ns")
        for below, (kind, ns) in enumerate(zip(["ours", "peer"], pair)):
            y = TOP + ROW * (2 * at + 0.65 + 0.7 * below)
            chart.parts.append(
                f'<rect class="{kind}" x="{LEFT}" y="{y - 9:.1f}" width="{room * ns / most:.1f}" height="18" rx="2"/>'
            )
            chart.put("note", LEFT + room * ns / most + 8, y + 4.5, f"{ns:,.0f}")
        told.append(f"{name}: {pair[0]:,.0f} ns, and {pair[1]:,.0f} ns of the floor")
    chart.write(DOCS / "hits.svg", "; ".join(told))


def main():
    hits((DOCS / "figures.txt").read_text())
    text = (DOCS / "peers.txt").read_text()
    head = dict(line.split(": ", 1) for line in text.splitlines()[:4])
    keys = f"{int(head['keys'].split(';')[0]):,} keys"
    where = f"{head['command']}, in benches/peers; {head['date'].split()[0]}; {head['machine']}; {keys}"
    rows = list(peers(text))
    throughput(rows, where)
    latency(rows, where)


main()
