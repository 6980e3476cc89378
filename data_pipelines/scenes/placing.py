"""Things at free places of a canvas."""

from collections.abc import Sequence

from data_pipelines.scenes.lots import Lots
from data_pipelines.scenes.scene import CANVAS, LARGE, SMALL, Scene, Thing, is_legible
from data_pipelines.scenes.stories import Head
from data_pipelines.scenes.world import BACKGROUNDS, COLOURS, World

CELLS = tuple((x, y) for x in (10, 32, 54) for y in (10, 32, 54))
"""Places that things stand at, but for a unit or two."""

_OVERLAPS = tuple((x, y) for x in (-14, -12, -8, 8, 12, 14) for y in (-14, -12, -8, 8, 12, 14))
_PLACEMENTS = 12
_LARGE = 0.35


def drawn_heads(lots: Lots, world: World, number: int) -> list[Head]:
    """Things of different kinds."""
    return [(kind, lots.pick(tuple(COLOURS))) for kind in lots.shuffled(world.kinds)[:number]]


def placed(lots: Lots, heads: Sequence[Head], *, overlapping: bool = False) -> Scene | None:
    """The things at free places, the first two overlapping if asked; None where none was found."""
    background = lots.below(len(BACKGROUNDS))
    for _ in range(_PLACEMENTS):
        depths = lots.shuffled(range(len(heads)))
        things: list[Thing] = []
        for (kind, colour), (x, y), depth in zip(heads, lots.shuffled(CELLS), depths, strict=False):
            size = LARGE if lots.chance(_LARGE) else SMALL
            if overlapping and len(things) == 1:
                across, down = lots.pick(_OVERLAPS)
                x, y = things[0].x + across, things[0].y + down
            else:
                x, y = (near(place + 2 * (lots.below(3) - 1), size) for place in (x, y))
            things.append(Thing(kind, colour, size, x, y, depth))
        scene = Scene(tuple(things), background)
        if is_legible(scene):
            return scene
    return None


def near(place: int, size: int) -> int:
    """The place, or the nearest at which a thing of this size is inside the canvas."""
    return min(max(place, size // 2), CANVAS - size // 2)
