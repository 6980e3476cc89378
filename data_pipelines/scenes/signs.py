"""Pictures that tell what a thing does: it stands at the beginning, and signs follow it like writing.

The mirror of a story of one thing (stories.py): there the words have to be followed one by one, here the picture has.
"""

from collections.abc import Sequence

from data_pipelines.scenes.scene import CANVAS, SMALL, Scene, Thing
from data_pipelines.scenes.stories import VERBS, Actor, Does, Head, Story, ending

INK = "black"
"""Colour of all signs."""

_PER_ROW = CANVAS // SMALL


def sign_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds that are signs, one for each verb; a thing is of any other kind."""
    return tuple(kinds[: len(VERBS)])


def written(head: Head, signs: Sequence[str], background: int) -> Scene:
    """The thing and its signs from left to right and from above, as many to a row as there is room for."""
    things = []
    for number, (kind, colour) in enumerate([head, *((sign, INK) for sign in signs)]):
        row, column = divmod(number, _PER_ROW)
        x, y = (SMALL // 2 + SMALL * cell for cell in (column, row))
        things.append(Thing(kind, colour, SMALL, x, y, depth=number))
    return Scene(tuple(things), background)


def after_signs(things: Sequence[Thing], signs: Sequence[str]) -> Head | None:
    """The first thing as its signs leave it, read by their places; None where it is not followed by signs alone."""
    first, *others = sorted(things, key=lambda thing: (thing.y, thing.x))
    if first.kind in signs or not others or any(other.kind not in signs for other in others):
        return None
    verbs = dict(zip(signs, VERBS, strict=True))
    deeds = tuple(Does(first.kind, verbs[other.kind]) for other in others)
    return ending(Story((Actor(first.kind, first.colour),), deeds, first.kind))
