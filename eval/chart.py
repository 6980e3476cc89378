"""Where the marks of a small line chart stand: shares go upwards, variants from left to right.

All numbers are in the units of the drawing, whose origin is its upper left corner.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.metric_words import percent
from eval.text_depths import short_number
from eval.words import short

WIDTH = 460
HEIGHT = 240
LEFT, RIGHT, TOP, BOTTOM = 44, 56, 14, 44
SMALLEST_LABEL_GAP = 13.0
LETTER_WIDTH = 6.5
SHIFT = 4.0
"""Between the lines' points at one variant."""
LINE_HEIGHT = 14
STEPS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
"""Distances between the lines of the grid, as shares."""

Bounds = Sequence[float]
"""The two ends of an interval."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series over the variants, and the level that chance reaches."""

    title: str
    points: list[tuple[float, float]]
    path: str
    whiskers: list[tuple[float, float, float]]
    """Place, upper and lower end of the interval around a point."""
    chance_height: float | None
    label: str
    """The last value in percent, written at `label_height` beside the last point."""
    label_height: float


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing, ready for a template."""

    title: str
    across: str
    """What goes from left to right, in words."""
    width: int
    height: int
    left: int
    right: int
    bottom: int
    ticks: list[tuple[float, str]]
    """Height and label of each line of the grid."""
    variants: list[tuple[float, str]]
    """Place and name of each variant."""
    costs: list[tuple[float, str]]
    """Place and cost of each variant, written below its name; empty where places have no scale."""
    marked: float | None
    """Place of the variant that was trained."""
    lines: list[Line]


def variant_chart(
    variants: Sequence[str],
    series: Mapping[str, Sequence[float]],
    chance: Mapping[str, float],
    *,
    intervals: Mapping[str, Sequence[Bounds | None]] | None = None,
    costs: Sequence[float] | None = None,
    marked: str | None = None,
    title: str = "",
    across: str = "",
) -> Chart:
    """The chart of each series' shares in [0, 1], one value per variant.

    Variants stand at equal distances, or where `costs`, which rise, put them. `marked` is one of them.
    `intervals` has the interval of each value of a series, or None where there is none.
    """
    bounds = {name: (intervals or {}).get(name) or [None] * len(variants) for name in series}
    step, top_value = _scale(series, bounds, chance)
    places = _places(len(variants), costs)

    def height_of(share: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share / top_value), 1)

    ends = _apart({name: height_of(shares[-1]) for name, shares in series.items()})
    lines = [
        _line(
            name,
            [height_of(share) for share in series[name]],
            [
                None if pair is None else (height_of(pair[1]), height_of(pair[0]))
                for pair in bounds[name]
            ],
            # Side by side, or the intervals of several lines would hide each other.
            [round(x + SHIFT * (number - (len(series) - 1) / 2), 1) for x in places],
            chance_height=height_of(chance[name]) if name in chance else None,
            label=percent(series[name][-1]),
            label_height=ends[name],
        )
        for number, name in enumerate(series)
    ]
    return Chart(
        title=title,
        across=across,
        width=WIDTH,
        height=HEIGHT + (LINE_HEIGHT if costs else 0),
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
        ticks=[
            (height_of(n * step), f"{100 * n * step:g}") for n in range(round(top_value / step) + 1)
        ],
        variants=_fitting_labels(places, variants),
        costs=[(x, short_number(cost)) for x, cost in zip(places, costs or [], strict=bool(costs))],
        marked=None if marked is None else places[list(variants).index(marked)],
        lines=lines,
    )


def _scale(
    series: Mapping[str, Sequence[float]],
    bounds: Mapping[str, Sequence[Bounds | None]],
    chance: Mapping[str, float],
) -> tuple[float, float]:
    """The distance between the lines of the grid, and the uppermost one."""
    uppermost = [pair[1] for pairs in bounds.values() for pair in pairs if pair is not None]
    largest = max([*uppermost, *chance.values(), *map(max, series.values())])
    step = next((s for s in STEPS if largest <= 5 * s), STEPS[-1])
    return step, step * max(1, -(-largest // step))


def _places(number: int, costs: Sequence[float] | None) -> list[float]:
    """From left to right, half a step of free room at either end."""
    room = WIDTH - LEFT - RIGHT
    steps = [float(place) for place in range(number)]
    if costs is not None and number > 1:
        steps = [(number - 1) * (cost - costs[0]) / (costs[-1] - costs[0]) for cost in costs]
    return [round(LEFT + room * (step + 0.5) / number, 1) for step in steps]


def _line(
    title: str,
    heights: Sequence[float],
    bounds: Sequence[tuple[float, float] | None],
    places: Sequence[float],
    *,
    chance_height: float | None,
    label: str,
    label_height: float,
) -> Line:
    points = list(zip(places, heights, strict=True))
    return Line(
        title=short(title, 40),
        points=points,
        path=" ".join(f"{x},{y}" for x, y in points),
        whiskers=[(x, *pair) for x, pair in zip(places, bounds, strict=True) if pair is not None],
        chance_height=chance_height,
        label=label,
        label_height=label_height,
    )


def _fitting_labels(places: Sequence[float], names: Sequence[str]) -> list[tuple[float, str]]:
    letters = int((WIDTH - LEFT - RIGHT) / len(names) / LETTER_WIDTH)
    return [(x, short(name, max(3, letters))) for x, name in zip(places, names, strict=True)]


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """The heights of the labels, moved down where they would overlap."""
    placed: dict[str, float] = {}
    previous = float("-inf")
    for title in sorted(heights, key=lambda title: heights[title]):
        previous = max(heights[title], previous + SMALLEST_LABEL_GAP)
        placed[title] = previous
    return placed
