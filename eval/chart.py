"""Where the marks of a small line chart stand: shares go upwards, variants from left to right.

All numbers are in the units of the drawing, whose origin is its upper left corner.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 460
HEIGHT = 240
LEFT, RIGHT, TOP, BOTTOM = 44, 56, 14, 30
SMALLEST_LABEL_GAP = 13.0
STEPS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
"""Distances between the lines of the grid, as shares."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric over the variants, and the level that chance reaches."""

    title: str
    points: list[tuple[float, float]]
    path: str
    chance_height: float
    label: str
    """The last value in percent, written at `label_height` beside the last point."""
    label_height: float


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing, ready for a template."""

    width: int
    height: int
    left: int
    right: int
    bottom: int
    ticks: list[tuple[float, str]]
    """Height and label of each line of the grid."""
    variants: list[tuple[float, str]]
    """Place and name of each variant."""
    lines: list[Line]


def variant_chart(
    variants: Sequence[str], series: Mapping[str, Sequence[float]], chance: Mapping[str, float]
) -> Chart:
    """The chart of each series' shares in [0, 1], one value per variant."""
    largest = max([*(value for values in series.values() for value in values), *chance.values()])
    step = next((s for s in STEPS if largest <= 5 * s), STEPS[-1])
    top_value = step * max(1, -(-largest // step))
    room = WIDTH - LEFT - RIGHT

    def across(place: int) -> float:
        return round(LEFT + room * (place + 0.5) / len(variants), 1)

    def height_of(share: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share / top_value), 1)

    ends = _apart({title: height_of(values[-1]) for title, values in series.items()})
    lines = []
    for title, values in series.items():
        points = [(across(place), height_of(value)) for place, value in enumerate(values)]
        lines.append(
            Line(
                title=title,
                points=points,
                path=" ".join(f"{x},{y}" for x, y in points),
                chance_height=height_of(chance[title]),
                label=percent(values[-1]),
                label_height=ends[title],
            )
        )
    num_steps = round(top_value / step)
    return Chart(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
        ticks=[(height_of(n * step), f"{100 * n * step:g}") for n in range(num_steps + 1)],
        variants=[(across(place), name) for place, name in enumerate(variants)],
        lines=lines,
    )


def percent(share: float) -> str:
    """A share as a percentage with one decimal, two below one percent."""
    return f"{100 * share:.1f}" if share >= 0.01 or share == 0 else f"{100 * share:.2f}"


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """The heights of the labels, moved down where they would overlap."""
    placed: dict[str, float] = {}
    previous = float("-inf")
    for title in sorted(heights, key=lambda title: heights[title]):
        previous = max(heights[title], previous + SMALLEST_LABEL_GAP)
        placed[title] = previous
    return placed
