"""Pictures that tell what a thing does: it stands at the beginning, and signs follow it like writing.

The mirror of a story of one thing (stories.py): there the words have to be followed one by one, here the picture has.
"""

from collections.abc import Sequence
from functools import lru_cache

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
    read = _read(things, signs)
    return read and _after_verbs(*read)


def colours_in_any_order(things: Sequence[Thing], signs: Sequence[str]) -> frozenset[str]:
    """The colours that the thing may end with where the same signs stand in one order or another."""
    read = _read(things, signs)
    if read is None:
        return frozenset()
    (_, colour), verbs = read
    return _in_any_order(colour, tuple(sorted(verbs)))


def _read(things: Sequence[Thing], signs: Sequence[str]) -> tuple[Head, tuple[str, ...]] | None:
    """The first thing and the verbs that the others stand for, by their places."""
    first, *others = sorted(things, key=lambda thing: (thing.y, thing.x))
    if first.kind in signs or not others or any(other.kind not in signs for other in others):
        return None
    verbs = dict(zip(signs, VERBS, strict=True))
    return (first.kind, first.colour), tuple(verbs[other.kind] for other in others)


def _after_verbs(head: Head, verbs: Sequence[str]) -> Head:
    kind, _ = head
    return ending(Story((Actor(*head),), tuple(Does(kind, verb) for verb in verbs), kind))


# Colours, and up to eight of three verbs: a thousand.
@lru_cache(maxsize=1024)
def _in_any_order(colour: str, verbs: tuple[str, ...]) -> frozenset[str]:
    if not verbs:
        return frozenset({colour})
    ends: set[str] = set()
    for verb in set(verbs):
        place = verbs.index(verb)
        _, changed = _after_verbs(("", colour), (verb,))
        ends |= _in_any_order(changed, (*verbs[:place], *verbs[place + 1 :]))
    return frozenset(ends)
