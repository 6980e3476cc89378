"""The smallest changes of a meaning, and the smallest changes of a scene that make it true."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import Literal

from data_pipelines.scenes.meaning import Becomes, Meaning, is_sensible, slots, with_slots
from data_pipelines.scenes.placing import CELLS, near
from data_pipelines.scenes.scene import (
    CONVERSES,
    FAMILY_OF,
    LARGE,
    MOST_THINGS,
    SMALL,
    Scene,
    Thing,
)
from data_pipelines.scenes.stories import Story, edited_stories, ending
from data_pipelines.scenes.world import COLOURS

EditKind = Literal["swap objects", "swap attributes", "relation", "attribute", "count"]

_ORDERS = {"more": "fewer", "fewer": "more"}


def edited_meanings(kind: EditKind, meaning: Meaning) -> list[Meaning]:
    """Every meaning that differs from this one by one edit of the kind; whether it is true is not asked."""
    if isinstance(meaning[0], Story):
        return [(story,) for story in edited_stories(kind, meaning[0], tuple(COLOURS))]
    return [edited for edited in _MEANING_EDITS[kind](meaning) if is_sensible(edited)]


def edited_scenes(kind: EditKind, scene: Scene, new: Meaning) -> Iterator[Scene]:
    """Scenes that differ little and might make the new meaning true, the nearest ones first."""
    edits = _SCENE_EDITS[kind]
    if isinstance(new[0], Story):
        edits = _other_endings
    if isinstance(new[0], Becomes):
        edits = _other_signs
    return (Scene(things, scene.background) for things in edits(scene.things, new))


def turned_meanings(meaning: Meaning) -> list[Meaning]:
    """Every meaning that puts a relation of another family in the place of one."""
    return [
        changed
        for number, relation in enumerate(slots(meaning, "relation"))
        for other in CONVERSES
        if FAMILY_OF[other] != FAMILY_OF[relation]
        for changed in [_with_one(meaning, "relation", number, other)]
    ]


def _swapped_objects(meaning: Meaning) -> Iterator[Meaning]:
    kinds, colours = list(slots(meaning, "kind")), list(slots(meaning, "colour"))
    for one, other in combinations(range(len(kinds)), 2):
        if kinds[one] != kinds[other]:
            changed = with_slots(meaning, "kind", _exchanged(kinds, one, other))
            yield with_slots(changed, "colour", _exchanged(colours, one, other))


def _swapped_attributes(meaning: Meaning) -> Iterator[Meaning]:
    colours = list(slots(meaning, "colour"))
    for one, other in combinations(range(len(colours)), 2):
        if colours[one] and colours[other] and colours[one] != colours[other]:
            yield with_slots(meaning, "colour", _exchanged(colours, one, other))


def _converse(meaning: Meaning) -> Iterator[Meaning]:
    for field, others in (("relation", CONVERSES), ("order", _ORDERS)):
        for number, value in enumerate(slots(meaning, field)):
            yield _with_one(meaning, field, number, others[value])


def _recoloured(meaning: Meaning) -> Iterator[Meaning]:
    for field in ("colour", "said"):
        for number, value in enumerate(slots(meaning, field)):
            for colour in COLOURS:
                if value and colour != value:
                    yield _with_one(meaning, field, number, colour)


def _recounted(meaning: Meaning) -> Iterator[Meaning]:
    numbers = list(slots(meaning, "number"))
    for place, old in enumerate(numbers):
        for number in range(1, MOST_THINGS + 1 - (sum(numbers) - old)):
            if number != old:
                yield _with_one(meaning, "number", place, number)


def _with_one(meaning: Meaning, field: str, place: int, value: object) -> Meaning:
    values = list(slots(meaning, field))
    values[place] = value
    return with_slots(meaning, field, values)


def _exchanged(values: Sequence[object], one: int, other: int) -> list[object]:
    changed = list(values)
    changed[one], changed[other] = changed[other], changed[one]
    return changed


Things = tuple[Thing, ...]


def _exchanged_fields(things: Things, *fields: str) -> Iterator[Things]:
    """Each two things that exchange these fields."""
    for one, other in combinations(range(len(things)), 2):
        first = {field: getattr(things[one], field) for field in fields}
        second = {field: getattr(things[other], field) for field in fields}
        if first != second:
            changed = list(things)
            changed[one] = things[one]._replace(**second)
            changed[other] = things[other]._replace(**first)
            yield tuple(changed)


def _exchanged_names(things: Things, field: str) -> Iterator[Things]:
    """Each two kinds or colours that exchange their places in the whole scene."""
    for one, other in combinations(sorted({getattr(thing, field) for thing in things}), 2):
        yield _renamed(things, field, {one: other, other: one})


def _exchanged_heads(things: Things) -> Iterator[Things]:
    """All things of one kind and colour exchange both with all things of another."""
    for one, other in combinations(sorted({thing[:2] for thing in things}), 2):
        names = {one: other, other: one}
        yield tuple(Thing(*names.get(thing[:2], thing[:2]), *thing[2:]) for thing in things)


def _renamed(things: Things, field: str, names: Mapping[str, str]) -> Things:
    return tuple(
        thing._replace(**{field: names.get(getattr(thing, field), getattr(thing, field))})
        for thing in things
    )


def _other_objects(things: Things, new: Meaning) -> Iterator[Things]:
    yield from _exchanged_fields(things, "kind", "colour")
    yield from _exchanged_heads(things)
    yield from _exchanged_names(things, "kind")
    # Of what the sentence says is not there, one thing may take the name.
    shown = {thing.kind for thing in things}
    for kind in slots(new, "kind"):
        if kind not in shown:
            for number, thing in enumerate(things):
                yield (*things[:number], thing._replace(kind=kind), *things[number + 1 :])


def _other_endings(things: Things, new: Meaning) -> Iterator[Things]:
    """The one thing, as another story leaves it."""
    for story in new:
        if isinstance(story, Story):
            kind, colour = ending(story)
            yield (things[0]._replace(kind=kind, colour=colour),)


def _other_signs(things: Things, new: Meaning) -> Iterator[Things]:
    """Two signs exchanged, one sign replaced, or the same signs after another colour."""
    for one, other in combinations(range(1, len(things)), 2):
        changed = list(things)
        changed[one] = things[one]._replace(kind=things[other].kind)
        changed[other] = things[other]._replace(kind=things[one].kind)
        yield tuple(changed)
    signs = [
        sign for statement in new if isinstance(statement, Becomes) for sign in statement.signs
    ]
    for place in range(1, len(things)):
        for sign in signs:
            yield (*things[:place], things[place]._replace(kind=sign), *things[place + 1 :])
    for colour in COLOURS:
        yield (things[0]._replace(colour=colour), *things[1:])


def _other_attributes(things: Things, _: Meaning) -> Iterator[Things]:
    yield from _exchanged_fields(things, "colour")
    yield from _exchanged_names(things, "colour")


def _other_places(things: Things, _: Meaning) -> Iterator[Things]:
    yield from _exchanged_fields(things, "x", "y")
    yield from _exchanged_fields(things, "depth")
    yield from _exchanged_fields(things, "size")
    yield from _exchanged_fields(things, "kind", "colour")
    yield from _exchanged_heads(things)
    for number, thing in enumerate(things):
        for x, y in CELLS:
            moved = thing._replace(x=near(x, thing.size), y=near(y, thing.size))
            yield (*things[:number], moved, *things[number + 1 :])
    for number, thing in enumerate(things):
        size = LARGE if thing.size == SMALL else SMALL
        resized = thing._replace(size=size, x=near(thing.x, size), y=near(thing.y, size))
        yield (*things[:number], resized, *things[number + 1 :])


def _other_colours(things: Things, new: Meaning) -> Iterator[Things]:
    said = {colour for field in ("colour", "said") for colour in slots(new, field) if colour}
    for number, thing in enumerate(things):
        for colour in sorted(said - {thing.colour}):
            yield (*things[:number], thing._replace(colour=colour), *things[number + 1 :])
    shown = {thing.colour for thing in things}
    for old, colour in permutations(sorted(shown | said), 2):
        if old in shown:
            yield _renamed(things, "colour", {old: colour})


def _other_numbers(things: Things, _: Meaning) -> Iterator[Things]:
    for number in range(len(things)):
        yield (*things[:number], *things[number + 1 :])
    for one, other in permutations(things, 2):
        if one[:2] != other[:2]:
            alike = one._replace(kind=other.kind, colour=other.colour)
            yield tuple(alike if thing is one else thing for thing in things)
    if len(things) < MOST_THINGS:
        depth = 1 + max(thing.depth for thing in things)
        for thing in things:
            for x, y in CELLS:
                yield (*things, Thing(thing.kind, thing.colour, SMALL, x, y, depth))


_MEANING_EDITS: Mapping[EditKind, Callable[[Meaning], Iterator[Meaning]]] = {
    "swap objects": _swapped_objects,
    "swap attributes": _swapped_attributes,
    "relation": _converse,
    "attribute": _recoloured,
    "count": _recounted,
}
_SCENE_EDITS: Mapping[EditKind, Callable[[Things, Meaning], Iterator[Things]]] = {
    "swap objects": _other_objects,
    "swap attributes": _other_attributes,
    "relation": _other_places,
    "attribute": _other_colours,
    "count": _other_numbers,
}
EDIT_KINDS: tuple[EditKind, ...] = tuple(_MEANING_EDITS)
