"""Curves of several arms in one drawing, in the style of the other pages."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rins_mm.report import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, short_number

NUM_COLOURS = 6

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Several curves in the units of their drawing, whose origin is its upper left corner."""

    title: str
    across: str
    lines: list[tuple[str, int, str]]
    """Name, number of the colour, and points of each curve."""
    rows: list[tuple[float, str]]
    columns: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def draw_curves(title: str, across: str, curves: Mapping[str, Points]) -> Curves | None:
    """The curves of this mapping over a common scale; None where there is nothing to draw."""
    points = [point for some in curves.values() for point in some if all(map(math.isfinite, point))]
    if not points or max(x for x, _ in points) <= 0:
        return None
    most = max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    spread = (high - low) or 1.0

    def place(point: tuple[float, float]) -> str:
        x, y = point
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * x / most:.1f},{height_of(y):.1f}"

    def height_of(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / spread), 1)

    parts = (0.25, 0.5, 0.75, 1.0)
    return Curves(
        title=title,
        across=across,
        lines=[
            (name, 1 + number % NUM_COLOURS, " ".join(map(place, some)))
            for number, (name, some) in enumerate(curves.items())
        ],
        rows=[
            (height_of(low + spread * part), f"{low + spread * part:.3g}") for part in (0.0, *parts)
        ],
        columns=[
            (round(LEFT + (WIDTH - LEFT - RIGHT) * part, 1), short_number(most * part))
            for part in parts
        ],
    )
