"""A scene as plain data: things with kind, colour, size, place and depth.

The canvas is 64 units wide and high, whatever the size of the picture; y grows downwards. What
relations hold is decided with a margin: between a clear yes and a clear no lies "unclear", None.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations, permutations
from typing import NamedTuple

CANVAS = 64
SMALL, LARGE = 16, 24
"""Widths and heights of things, in units."""
MARGIN = 12
"""From here on one thing is clearly left of another, or above it."""
MOST_THINGS = 5

_TOUCHING = 2
_LEAST_HIDDEN, _MOST_HIDDEN = 0.2, 0.45
"""Shares of the smaller thing that an overlap covers."""


class Thing(NamedTuple):
    """One thing; x and y are those of its centre."""

    kind: str
    colour: str
    size: int
    x: int
    y: int
    depth: int
    """Things of a higher depth are painted over the others; no two are alike."""


class Scene(NamedTuple):
    """Things on a plain background."""

    things: tuple[Thing, ...]
    background: int
    """Which of the plain backgrounds; no sentence speaks of it."""


CONVERSES: Mapping[str, str] = {
    "left": "right",
    "right": "left",
    "above": "below",
    "below": "above",
    "larger": "smaller",
    "smaller": "larger",
    "before": "behind",
    "behind": "before",
}
"""The relation that the second thing has to the first."""

FAMILIES: Mapping[str, tuple[str, str]] = {
    "sideways": ("left", "right"),
    "height": ("above", "below"),
    "size": ("larger", "smaller"),
    "depth": ("before", "behind"),
}
FAMILY_OF: Mapping[str, str] = {
    relation: family for family, relations in FAMILIES.items() for relation in relations
}


def stands(relation: str, one: Thing, other: Thing) -> bool | None:
    """Whether the one thing is clearly in the relation to the other; None where people might disagree."""
    if relation == "left":
        return _clearly(other.x - one.x)
    if relation == "above":
        return _clearly(other.y - one.y)
    if relation == "larger":
        return one.size > other.size
    if relation == "before":
        if not overlap(one, other):
            return False
        hidden = _shared(one, other) >= _LEAST_HIDDEN
        return one.depth > other.depth if hidden else None
    return stands(CONVERSES[relation], other, one)


def facts(scene: Scene, family: str) -> Iterator[tuple[str, Thing, Thing]]:
    """Everything that clearly holds between two things, said from either side."""
    for one, other in permutations(scene.things, 2):
        for relation in FAMILIES[family]:
            if stands(relation, one, other):
                yield relation, one, other


def is_legible(scene: Scene) -> bool:
    """Whether all things lie inside the canvas, and apart from each other or clearly overlapping in another
    colour."""
    inside = all(
        thing.size // 2 <= place <= CANVAS - thing.size // 2
        for thing in scene.things
        for place in (thing.x, thing.y)
    )
    return inside and all(_is_legible_pair(*pair) for pair in combinations(scene.things, 2))


def overlap(one: Thing, other: Thing) -> bool:
    """Whether the squares that two things stand in share more than a little of their edges."""
    return min(_overlap(one, other)) > _TOUCHING


def _is_legible_pair(one: Thing, other: Thing) -> bool:
    if not overlap(one, other):
        return True
    return one.colour != other.colour and _LEAST_HIDDEN <= _shared(one, other) <= _MOST_HIDDEN


def _clearly(gap: int) -> bool | None:
    return True if gap >= MARGIN else False if gap <= 0 else None


def _shared(one: Thing, other: Thing) -> float:
    """The share of the smaller thing's square that the other's covers."""
    width, height = _overlap(one, other)
    return width * height / min(one.size, other.size) ** 2


def _overlap(one: Thing, other: Thing) -> tuple[int, int]:
    """Width and height of what two things share; negative where they lie apart."""
    reach = (one.size + other.size) // 2
    least = min(one.size, other.size)
    return min(least, reach - abs(one.x - other.x)), min(least, reach - abs(one.y - other.y))
