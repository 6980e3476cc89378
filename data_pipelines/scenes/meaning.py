"""What a sentence says, as a small structure, and whether it holds of a scene.

A meaning is a tuple of statements, all of which are claimed. Truth has three values: True, False, and
None where it is unclear, be it that a relation is too close to call or that "the cat" could be one of
several. Nothing unclear is ever said of a picture, nor offered as false.
"""

from collections.abc import Iterable, Iterator
from itertools import permutations
from typing import Any, NamedTuple

from data_pipelines.scenes.scene import CONVERSES, Scene, Thing, stands
from data_pipelines.scenes.signs import after_signs
from data_pipelines.scenes.stories import Story, ending


class Noun(NamedTuple):
    """Things of a kind, and of a colour and in a relation where these are given."""

    kind: str
    colour: str | None = None
    where: "Clause | None" = None


class Clause(NamedTuple):
    """ "that is left of the …"."""

    relation: str
    noun: Noun


class Relates(NamedTuple):
    """The one is in the relation to the other."""

    relation: str
    one: Noun
    other: Noun


class Has(NamedTuple):
    """The thing has the colour."""

    noun: Noun
    said: str


class Counts(NamedTuple):
    """There are exactly so many."""

    number: int
    noun: Noun


class Lacks(NamedTuple):
    """There is none."""

    noun: Noun


class Outnumbers(NamedTuple):
    """There are more, or fewer, of the one than of the other; and there are some of both."""

    order: str
    one: Noun
    other: Noun


class AllBut(NamedTuple):
    """All things but this one have the colour, and there are at least two such."""

    noun: Noun
    said: str


class Becomes(NamedTuple):
    """The thing gets the colour by the signs that follow it in the picture."""

    noun: Noun
    said: str
    signs: tuple[str, ...]
    """Kinds of things that stand for VERBS, in their order."""


Statement = Relates | Has | Counts | Lacks | Outnumbers | AllBut | Story | Becomes
Meaning = tuple[Statement, ...]


class Draft(NamedTuple):
    """What is said and what is seen."""

    scene: Scene
    meaning: Meaning


def holds(meaning: Meaning, scene: Scene) -> bool | None:
    """Whether all statements hold; None where none is false and one is unclear."""
    result: bool | None = True
    for statement in meaning:
        truth = _holds(statement, scene)
        if truth is False:
            return False
        if truth is None:
            result = None
    return result


def _holds(statement: Statement, scene: Scene) -> bool | None:
    match statement:
        case Relates(relation, one, other):
            return _related(relation, _the(one, scene), _the(other, scene))
        case Has(noun, said):
            thing = _the(noun, scene)
            return thing.colour == said if isinstance(thing, Thing) else thing
        case Counts(number, noun):
            least, most = _number(noun, scene)
            return False if not least <= number <= most else True if least == most else None
        case Lacks(noun):
            return _holds(Counts(0, noun), scene)
        case Outnumbers(order, one, other):
            return _outnumbers(order, _number(one, scene), _number(other, scene))
        case AllBut(noun, said):
            thing = _the(noun, scene)
            if not isinstance(thing, Thing):
                return thing
            others = [other.colour == said for other in scene.things if other is not thing]
            if thing.colour == said or not all(others):
                return False
            # "Everything but the cat" says little where there is hardly anything else.
            return True if len(others) >= 2 else None
        case Story():
            return [thing[:2] for thing in scene.things] == [ending(statement)]
        case Becomes(noun, said, signs):
            return after_signs(scene.things, signs) == (noun.kind, said)


def _the(noun: Noun, scene: Scene) -> Thing | bool | None:
    """The only thing that the noun fits; False where there is none, None where it is not clear which."""
    found: Thing | None = None
    unclear = False
    for thing in scene.things:
        fits = _fits(noun, thing, scene)
        if fits is None or (fits and found is not None):
            unclear = True
        elif fits:
            found = thing
    return None if unclear else found or False


def _fits(noun: Noun, thing: Thing, scene: Scene) -> bool | None:
    if thing.kind != noun.kind or noun.colour not in (None, thing.colour):
        return False
    if noun.where is None:
        return True
    return _related(noun.where.relation, thing, _the(noun.where.noun, scene))


def _related(relation: str, one: Thing | bool | None, other: Thing | bool | None) -> bool | None:
    # Of a thing that is not there everything is false, however the sentence is read.
    if one is False or other is False or (one is other and one is not None):
        return False
    if not isinstance(one, Thing) or not isinstance(other, Thing):
        return None
    return stands(relation, one, other)


def _number(noun: Noun, scene: Scene) -> tuple[int, int]:
    """How many things the noun fits, at least and at most."""
    fits = [_fits(noun, thing, scene) for thing in scene.things]
    return fits.count(True), len(fits) - fits.count(False)


def _outnumbers(order: str, one: tuple[int, int], other: tuple[int, int]) -> bool | None:
    more, fewer = (one, other) if order == "more" else (other, one)
    if more[1] <= fewer[0]:
        return False
    # "More cats than dogs" says little of a picture without dogs.
    return True if more[0] > fewer[1] and fewer[0] > 0 else None


def slots(node: Any, field: str) -> Iterator[Any]:
    """The values of all fields of this name, in a fixed order."""
    for name, value in _fields(node):
        if name == field:
            yield value
        elif isinstance(value, tuple):
            yield from slots(value, field)


def with_slots(meaning: Meaning, field: str, values: Iterable[Any]) -> Meaning:
    """The same structure with other values in the fields of this name, in the order of `slots`."""
    return _rebuilt(meaning, field, iter(values))


def _rebuilt(node: Any, field: str, values: Iterator[Any]) -> Any:
    parts = (
        next(values)
        if name == field
        else _rebuilt(value, field, values)
        if isinstance(value, tuple)
        else value
        for name, value in _fields(node)
    )
    return node._make(parts) if hasattr(node, "_make") else tuple(parts)


def _fields(node: Any) -> Iterator[tuple[str, Any]]:
    return zip(getattr(node, "_fields", None) or [""] * len(node), node, strict=True)


def nouns(node: Any) -> Iterator[Noun]:
    """All nouns, those within clauses included."""
    for value in node:
        if isinstance(value, tuple):
            if isinstance(value, Noun):
                yield value
            yield from nouns(value)


def related_nouns(meaning: Meaning) -> Iterator[tuple[str, Noun]]:
    """Each relation that is spoken of, with each noun that takes part in it."""
    for statement in meaning:
        if isinstance(statement, Relates):
            yield statement.relation, statement.one
            yield statement.relation, statement.other
    for noun in nouns(meaning):
        if noun.where:
            yield noun.where.relation, noun
            yield noun.where.relation, noun.where.noun


def is_sensible(meaning: Meaning) -> bool:
    """Whether one can say so at all: no "the cat is left of the cat", no "the cat …, but no cat"."""
    for statement in meaning:
        if isinstance(statement, Relates | Outnumbers) and statement.one[:2] == statement.other[:2]:
            return False
    named = list(nouns(meaning))
    if any(noun.where and noun[:2] == noun.where.noun[:2] for noun in named):
        return False
    counted = [statement.noun for statement in meaning if isinstance(statement, Counts)]
    if len(set(counted)) < len(counted):
        return False
    missing = [statement.noun for statement in meaning if isinstance(statement, Lacks)]
    return all(
        noun is none or noun.kind != none.kind or none.colour not in (None, noun.colour)
        for none in missing
        for noun in named
    )


def canonical(meaning: Meaning) -> str:
    """One text for meanings that say the same from either side or in another order."""
    return " & ".join(sorted(_canonical_statement(statement) for statement in meaning))


def _canonical_statement(statement: Statement) -> str:
    match statement:
        case Relates(relation, one, other):
            if relation in ("right", "below", "smaller", "behind"):
                relation, one, other = CONVERSES[relation], other, one
            return f"{relation}({_canonical_noun(one)}, {_canonical_noun(other)})"
        case Outnumbers(order, one, other):
            more, fewer = (one, other) if order == "more" else (other, one)
            return f"more({_canonical_noun(more)}, {_canonical_noun(fewer)})"
        case Counts(number, noun):
            return f"{number}({_canonical_noun(noun)})"
        case Lacks(noun):
            return f"0({_canonical_noun(noun)})"
        case AllBut(noun, said):
            return f"all {said} but({_canonical_noun(noun)})"
        case Has(noun, said):
            return f"{said}({_canonical_noun(noun)})"
        case Story():
            kind, colour = ending(statement)
            return f"only({colour} {kind})"
        case Becomes(noun, said, _):
            return f"becomes({said} {noun.kind})"


def _canonical_noun(noun: Noun) -> str:
    head = f"{noun.colour} {noun.kind}" if noun.colour else noun.kind
    if noun.where is None:
        return head
    return f"{head} {noun.where.relation} ({_canonical_noun(noun.where.noun)})"


def num_true_orders(meaning: Meaning, scene: Scene) -> int:
    """In how many ways the meaning's kinds, colours and relations can change places and hold.

    All these ways are the same to a reader that does not see the order of words.
    """
    ways = [meaning]
    for field in ("kind", "colour", "relation", "order", "number", "said"):
        orders = set(permutations(slots(meaning, field)))
        if len(orders) > 1:
            ways = [with_slots(way, field, order) for way in ways for order in orders]
    return sum(holds(way, scene) is True for way in ways)
