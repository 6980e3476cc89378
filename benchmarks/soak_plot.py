"""The drawing of a soak: memory, counts and files over time, as an SVG of its own."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, PANEL_HEIGHT = 860, 230
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 52, 34
COLOURS = ("#1f5fa8", "#c0571a", "#2f7d4f", "#8a4fa3", "#8c6d1f", "#55606b")
MAX_POINTS = 400
KINDS = ("trainer", "worker", "server", "tracker", "torchrun")

Series = Mapping[str, Sequence[float]]


def draw_soak(results: dict[str, Any]) -> str:
    """Four panels over the minutes of a soak."""
    looks = results["looks"]
    minutes = [seconds / 60 for seconds in looks["seconds"]]
    by_process = looks["own_megabytes_of"]
    of_kind = {kind: [by_process[name] for name in by_process if kind in name] for kind in KINDS}
    memory = {
        kind if kind == "torchrun" else f"{kind}s": _sums(lines)
        for kind, lines in of_kind.items()
        if lines
    }
    panels: dict[str, Series] = {
        "Memory of all processes, MB": {
            "with libraries (PSS)": looks["megabytes"]["all"],
            "files apart": looks["megabytes"]["own"],
        },
        "Files apart, by kind of process: more than at first, MB": {
            name: [value - line[0] for value in line] for name, line in memory.items()
        },
        "Counts, all processes together": {
            name.replace("_", " "): looks[name]
            for name in ("descriptors", "threads", "sockets", "shared_memory_entries", "processes")
        },
        "Files, MB": {
            "run folder": [size / 1e6 for size in looks["run_folder_bytes"]],
            "metrics.jsonl": [size / 1e6 for size in looks["metrics_bytes"]],
        },
    }
    warm_up = results["warm_up"] * results["minutes"]
    drawn = [
        _panel(number, title, minutes, series, warm_up)
        for number, (title, series) in enumerate(panels.items())
    ]
    height = PANEL_HEIGHT * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#333">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _panel(
    number: int, title: str, minutes: Sequence[float], series: Series, warm_up: float
) -> str:
    right, bottom = WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM
    most = minutes[-1] or 1.0
    values = [value for line in series.values() for value in line if value is not None]
    ticks = _ticks(min(0.0, *values), max(1.0, *values))

    def x(minute: float) -> float:
        return round(LEFT + (right - LEFT) * minute / most, 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - TOP) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    parts = [f'<g transform="translate(0 {number * PANEL_HEIGHT})">']
    parts.append(f'<text x="{LEFT}" y="20" font-weight="bold">{escape(title)}</text>')
    parts.append(
        f'<rect x="{LEFT}" y="{TOP}" width="{x(warm_up) - LEFT:.1f}" height="{bottom - TOP}" fill="#f1f1f1"/>'
    )
    parts.append(
        f'<text x="{x(warm_up) - 6:.1f}" y="{TOP + 14}" text-anchor="end" fill="#777">warm-up</text>'
    )
    for tick in ticks:
        parts.append(f'<path d="M{LEFT} {y(tick)}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4}" text-anchor="end">{tick:,g}</text>')
    for tick in _ticks(0.0, most):
        if tick <= most:
            parts.append(
                f'<text x="{x(tick)}" y="{bottom + 18}" text-anchor="middle">{tick:g} min</text>'
            )
    place = LEFT
    for colour, (name, line) in zip(COLOURS, series.items(), strict=False):
        step = -(-len(line) // MAX_POINTS)
        points = " ".join(
            f"{x(minute)},{y(value)}"
            for minute, value in list(zip(minutes, line, strict=True))[::step]
            if value is not None
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        )
        parts.append(f'<path d="M{place} 36h16" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{place + 22}" y="40">{escape(name)}</text>')
        place += 22 + 7 * len(name) + 24
    return "\n".join([*parts, "</g>"])


def _ticks(low: float, high: float) -> list[float]:
    """A few round numbers, from no more than `low` to no less than `high`."""
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    return [step * n for n in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _sums(lines: Sequence[Sequence[float | None]]) -> list[float]:
    return [sum(value or 0.0 for value in values) for values in zip(*lines, strict=True)]
