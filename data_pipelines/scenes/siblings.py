"""Groups of scenes that differ by the smallest edits, each with a sentence that is true of it alone."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from data_pipelines.scenes.drafts import BY_NAME, CONSTRUCTIONS, WITHOUT_RELATIONS, drawn
from data_pipelines.scenes.edits import (
    EDIT_KINDS,
    EditKind,
    edited_meanings,
    edited_scenes,
    turned_meanings,
)
from data_pipelines.scenes.lots import Lots
from data_pipelines.scenes.meaning import Draft, Meaning, holds
from data_pipelines.scenes.scene import Scene, is_legible
from data_pipelines.scenes.world import World

_DRAFTS = 2_000
"""A world in which so many drafts in a row lead nowhere is too small to tell things apart in."""


class Sibling(NamedTuple):
    """A scene, what is said of it, and how it came about."""

    scene: Scene
    meaning: Meaning
    edit: str
    """How it differs from the first of its group; of the first, nothing."""


class Group(NamedTuple):
    """Siblings; the sentence of each is true of its own scene and false of the others."""

    construction: str
    siblings: tuple[Sibling, ...]


class NoGroupError(Exception):
    """Nothing that can be said in this world has so many siblings."""


def drawn_group(
    lots: Lots, world: World, split: str, num_siblings: int, constructions: Sequence[str]
) -> Group:
    """A group in one of the constructions, each of them as likely as the others.

    Raises NoGroupError where no draft has enough siblings.
    """
    # Drawn once: a construction in which drafts often fail must not become rare.
    possible = constructions or [name for name in CONSTRUCTIONS if name not in BY_NAME]
    if split == "concepts":
        possible = [name for name in possible if name not in WITHOUT_RELATIONS] or possible
    construction = lots.pick(possible)
    for _ in range(_DRAFTS):
        draft = drawn(construction, lots, world)
        if (
            draft is None
            or not _may_be(draft, world, split)
            or not holds(draft.meaning, draft.scene)
        ):
            continue
        siblings = _siblings(draft, lots, world, split, num_siblings)
        if siblings:
            return Group(construction, tuple(siblings))
    raise NoGroupError(construction)


def _siblings(
    draft: Draft, lots: Lots, world: World, split: str, number: int
) -> list[Sibling] | None:
    """The draft and its siblings, `number` together; None where there are not as many."""
    # Colours alone are the easiest to tell: they come last, unless what came before leaves no room.
    kinds = sorted(lots.shuffled(EDIT_KINDS), key=lambda kind: kind == "attribute")
    for order in (kinds, kinds[::-1]):
        family = _grown(draft, order, lots, world, split, number)
        if len(family) == number:
            return family
    return None


def _grown(
    draft: Draft, kinds: Sequence[EditKind], lots: Lots, world: World, split: str, number: int
) -> list[Sibling]:
    """At most `number` siblings; each kind of edit has its turn before one comes again."""
    family = [Sibling(draft.scene, draft.meaning, "")]
    waiting = [(kind, _candidates(kind, draft.meaning, lots)) for kind in kinds]
    while waiting and len(family) < number:
        kind, meanings = waiting.pop(0)
        found = next(
            (
                Sibling(scene, meaning, kind)
                for meaning in meanings
                if world.allows(split, meaning)
                and all(holds(meaning, other.scene) is False for other in family)
                for scene in islice(_scenes(kind, meaning, family, world, split), 1)
            ),
            None,
        )
        if found:
            family.append(found)
            waiting.append((kind, meanings))
    return family


def _candidates(kind: EditKind, meaning: Meaning, lots: Lots) -> Iterator[Meaning]:
    yield from lots.shuffled(edited_meanings(kind, meaning))
    if kind == "relation":
        yield from lots.shuffled(turned_meanings(meaning))


def _scenes(
    kind: EditKind, meaning: Meaning, family: Sequence[Sibling], world: World, split: str
) -> Iterator[Scene]:
    """Small changes of the first scene in which the meaning is true and all others are false."""
    for scene in edited_scenes(kind, family[0].scene, meaning):
        if (
            holds(meaning, scene) is True
            and all(holds(other.meaning, scene) is False for other in family)
            and is_legible(scene)
            and world.shows(split, scene)
        ):
            yield scene


def _may_be(draft: Draft, world: World, split: str) -> bool:
    return world.shows(split, draft.scene) and world.allows(split, draft.meaning)
