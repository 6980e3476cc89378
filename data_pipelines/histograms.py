"""Where the bars of a small histogram stand, in the units of a drawing with its origin up left."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

WIDTH, HEIGHT = 460, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 22, 28
MOST_BARS = 40
FEWEST_BARS = 8
GAP = 1.5


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A drawing, ready for a template."""

    title: str
    unit: str
    bars: list[tuple[float, float, float, float, str]]
    """Left, top, width, height and words of each bar."""
    rows: list[tuple[float, str]]
    """Height and label of the lines of the grid."""
    columns: list[tuple[float, str]]
    """Place and label along the bottom."""
    mark: tuple[float, str] | None
    """Place and label of an upright line."""
    remark: str
    """What the last bar holds beside its own; empty where it is like the others."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def histogram(
    title: str, unit: str, values: Int64[np.ndarray, " N"], mark: tuple[int, str] | None = None
) -> Histogram:
    """The histogram of at least one whole number; the last bar takes the largest half percent too."""
    low, high = int(values.min()), int(np.percentile(values, 99.5, method="inverted_cdf"))
    if mark is not None and mark[0] <= 2 * high:
        high = max(high, mark[0])
    step = _round_step((high - low + 1) / MOST_BARS)
    start = low // step * step
    missing = max(0, FEWEST_BARS - ((high - start) // step + 1))
    # Few different values stand in the middle.
    start = max(0, start - missing // 2 * step)
    num_bars = max(FEWEST_BARS, (high - start) // step + 1)
    counts = np.bincount(np.minimum((values - start) // step, num_bars - 1), minlength=num_bars)
    room = WIDTH - LEFT - RIGHT
    most = int(counts.max())
    row_step = _round_step(most / 4)
    top_value = -(-most // row_step) * row_step

    def across(value: int | float) -> float:
        return round(LEFT + room * (value - start) / (num_bars * step), 2)

    def height_of(count: int) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - count / top_value), 2)

    bars = []
    for number, count in enumerate(counts.tolist()):
        first = start + number * step
        said = f"{first:,}" if step == 1 else f"{first:,} to {first + step - 1:,}"
        place, top = across(first), height_of(count)
        wide = round(across(first + step) - place - GAP, 2)
        bars.append(
            (place, top, wide, round(HEIGHT - BOTTOM - top, 2), f"{said} {unit}: {count:,}")
        )
    column_step = _round_step(num_bars * step / 6)
    first_column = -(-start // column_step) * column_step
    num_above = int((values >= start + num_bars * step).sum())
    middle = 0.5 * step if step == 1 else 0.0
    return Histogram(
        title=title,
        unit=unit,
        bars=[bar for bar in bars if bar[3] > 0],
        rows=[(height_of(n), f"{n:,}") for n in range(0, top_value + 1, row_step)],
        columns=[
            (across(value + middle), f"{value:,}")
            for value in range(first_column, start + num_bars * step, column_step)
        ],
        mark=(across(mark[0] + step * (step == 1)), mark[1])
        if mark is not None and start <= mark[0] < start + num_bars * step
        else None,
        remark=f"larger values, counted in the last bar: {num_above:,}" if num_above else "",
    )


def _round_step(least: int | float) -> int:
    """The smallest of 1, 2, 5, 10, 20, … that is at least so large."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power >= least:
                return factor * power
        power *= 10
