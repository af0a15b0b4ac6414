#!/usr/bin/env python3
"""Draws docs/figures.svg from the output of `cargo bench --bench figures`.

    cargo bench --bench figures > docs/figures.txt
    pip install matplotlib
    python3 benches/chart.py docs/figures.txt docs/figures.svg
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

# What each ratio must not exceed, or must reach: the reaches of the figures.
AT_MOST = {
    "verify_hit_over_floor_1m": 1.5,
    "verify_hit_over_floor_1k": 1.5,
    "verify_many_over_hit_1m": 0.6,
    "verify_cold_over_redb_get_1m": 1.4,
    "verify_cold_10m_over_1m": 2.0,
    "verify_unknown_over_wrong_secret": 1.25,
    "verify_p999_under_writes_over_idle": 5.0,
}
AT_LEAST = {
    "verify_threads_2_speedup": 1.8,
    "verify_same_key_threads_2_speedup": 1.8,
    "revoke_durable_64_over_1": 15.0,
}


def main():
    source, target = sys.argv[1:]
    head, *lines = Path(source).read_text().splitlines()
    figures = {}
    for line in lines:
        name, value, _unit = line.split()
        figures[name] = float(value)
    shown = [name for name in {**AT_MOST, **AT_LEAST} if name in figures]
    # As a share of the reach: below 1 is good for AT_MOST, above for AT_LEAST.
    share = [figures[name] / {**AT_MOST, **AT_LEAST}[name] for name in shown]
    good = [value <= 1 if name in AT_MOST else value >= 1 for name, value in zip(shown, share)]
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(shown) + 1.6))
    colours = ["#2a7f62" if ok else "#b3402a" for ok in good]
    bars = axes.barh(range(len(shown)), share, color=colours)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(shown)), [
        f"{name} ({'at most' if name in AT_MOST else 'at least'} {({**AT_MOST, **AT_LEAST})[name]:g})"
        for name in shown
    ])
    axes.invert_yaxis()
    axes.bar_label(bars, [f"{figures[name]:g}" for name in shown], padding=3)
    axes.margins(x=0.12)
    axes.set_xlabel("share of the reach")
    axes.set_title(head.removeprefix("# "), fontsize=9)
    figure.tight_layout()
    figure.savefig(target)


main()
