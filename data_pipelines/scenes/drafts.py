"""Drafts: a scene drawn by lot, and something true to say of it, in one of several constructions."""

from collections.abc import Callable, Mapping, Sequence

from data_pipelines.scenes import changing
from data_pipelines.scenes.lots import Lots
from data_pipelines.scenes.meaning import (
    AllBut,
    Clause,
    Counts,
    Draft,
    Has,
    Lacks,
    Meaning,
    Noun,
    Outnumbers,
    Relates,
)
from data_pipelines.scenes.placing import drawn_heads, placed
from data_pipelines.scenes.scene import (
    CONVERSES,
    FAMILIES,
    MOST_THINGS,
    Scene,
    Thing,
    facts,
    stands,
)
from data_pipelines.scenes.stories import Head
from data_pipelines.scenes.world import COLOURS, World

_COLOUR_SAID = 0.6


def drawn(construction: str, lots: Lots, world: World) -> Draft | None:
    """A draft of this construction; None where the lots did not lead to one."""
    return CONSTRUCTIONS[construction](lots, world)


def _noun(lots: Lots, thing: Thing, where: Clause | None = None) -> Noun:
    return Noun(thing.kind, thing.colour if lots.chance(_COLOUR_SAID) else None, where)


def _fact(
    lots: Lots, scene: Scene, family: str, one: Thing | None = None, avoid: Sequence[Thing] = ()
) -> tuple[str, Thing, Thing] | None:
    """Something that holds between two things, the first of them given or not."""
    found = [
        fact
        for fact in facts(scene, family)
        if one in (None, fact[1]) and fact[1] not in avoid and fact[2] not in avoid
    ]
    return lots.pick(found) if found else None


def _scene(lots: Lots, world: World, number: int) -> tuple[Scene | None, str]:
    """Different things, and a family of relations that some of them are in."""
    family = lots.pick(tuple(FAMILIES))
    overlapping = family == "depth" or lots.chance(0.15)
    return placed(lots, drawn_heads(lots, world, number), overlapping=overlapping), family


def _pair(lots: Lots, world: World) -> Draft | None:
    scene, family = _scene(lots, world, 2 + lots.below(3))
    fact = scene and _fact(lots, scene, family)
    if not scene or not fact:
        return None
    relation, one, other = fact
    return Draft(scene, (Relates(relation, _noun(lots, one), _noun(lots, other)),))


def _both(lots: Lots, world: World) -> Draft | None:
    scene, family = _scene(lots, world, 3 + lots.below(3))
    first = scene and _fact(lots, scene, family)
    if not scene or not first:
        return None
    # Four different things make a short way from sentence to picture; a shared one is another matter.
    avoid = first[1:] if len(scene.things) > 3 and lots.chance(0.5) else ()
    second = _fact(lots, scene, lots.pick(tuple(FAMILIES)), avoid=avoid)
    if not second or {first[1], first[2]} == {second[1], second[2]}:
        return None
    return Draft(
        scene,
        tuple(
            Relates(relation, _noun(lots, one), _noun(lots, other))
            for relation, one, other in (first, second)
        ),
    )


def _clause(lots: Lots, world: World) -> Draft | None:
    scene, family = _scene(lots, world, 3 + lots.below(2))
    inner = scene and _fact(lots, scene, family)
    if not scene or not inner:
        return None
    outer = _fact(lots, scene, lots.pick(tuple(FAMILIES)), inner[1], avoid=inner[2:])
    if not outer:
        return None
    where = Clause(inner[0], _noun(lots, inner[2]))
    one = _noun(lots, inner[1], where)
    return Draft(scene, (Relates(outer[0], one, _noun(lots, outer[2])),))


def _choice(lots: Lots, world: World) -> Draft | None:
    """Of two things of a kind, the one that stands so."""
    heads = drawn_heads(lots, world, 2 + lots.below(2))
    twin = (heads[0][0], lots.pick([colour for colour in COLOURS if colour != heads[0][1]]))
    family = lots.pick(tuple(FAMILIES))
    overlapping = family == "depth" or lots.chance(0.15)
    # The first two overlap, and twins are told apart by what only one of them stands to.
    scene = placed(lots, [heads[0], heads[1], twin, *heads[2:]], overlapping=overlapping)
    if not scene:
        return None
    one, _, other_twin = scene.things[:3]
    if lots.chance(0.5):
        one, other_twin = other_twin, one
    inner = _fact(lots, scene, family, one, avoid=[other_twin])
    if not inner or stands(inner[0], other_twin, inner[2]) is not False:
        return None
    noun = Noun(one.kind, None, Clause(inner[0], _noun(lots, inner[2])))
    if lots.chance(0.6):
        return Draft(scene, (Has(noun, one.colour),))
    outer = _fact(lots, scene, lots.pick(tuple(FAMILIES)), one, avoid=[other_twin, inner[2]])
    return outer and Draft(scene, (Relates(outer[0], noun, _noun(lots, outer[2])),))


def _nested(lots: Lots, world: World) -> Draft | None:
    """A clause within a clause; half of the time the middle one is needed to know what is meant."""
    heads = drawn_heads(lots, world, 3 + lots.below(2))
    if lots.chance(0.5):
        heads.insert(2, (heads[1][0], lots.pick(tuple(COLOURS))))
    scene = placed(lots, heads, overlapping=lots.chance(0.3))
    middle = scene and scene.things[1]
    if not scene or not middle:
        return None
    last = _fact(lots, scene, lots.pick(tuple(FAMILIES)), middle)
    first = last and _fact(lots, scene, lots.pick(tuple(FAMILIES)), middle, avoid=last[2:])
    if not last or not first:
        return None
    inner = Noun(middle.kind, None, Clause(last[0], _noun(lots, last[2])))
    one = Noun(first[2].kind, None, Clause(CONVERSES[first[0]], inner))
    if lots.chance(0.7):
        return Draft(scene, (Has(one, first[2].colour),))
    outer = _fact(lots, scene, lots.pick(tuple(FAMILIES)), first[2], avoid=[middle, last[2]])
    return outer and Draft(scene, (Relates(outer[0], one, _noun(lots, outer[2])),))


def _numbers(lots: Lots) -> tuple[int, int]:
    most = MOST_THINGS
    return lots.pick([(n, m) for n in range(1, most) for m in range(1, most + 1 - n)])


def _crowd(lots: Lots, world: World, numbers: tuple[int, int]) -> tuple[Scene | None, list[Head]]:
    """So many things of one head and so many of another, perhaps of one kind in two colours."""
    one, other = drawn_heads(lots, world, 2)
    if lots.chance(0.3):
        other = (one[0], lots.pick([colour for colour in COLOURS if colour != one[1]]))
    return placed(lots, [one] * numbers[0] + [other] * numbers[1]), [one, other]


def _counts(lots: Lots, world: World) -> Draft | None:
    numbers = _numbers(lots)
    scene, heads = _crowd(lots, world, numbers)
    said = [Noun(*head) for head in heads]
    return scene and Draft(
        scene, tuple(Counts(number, noun) for number, noun in zip(numbers, said, strict=True))
    )


def _more(lots: Lots, world: World) -> Draft | None:
    """More or fewer of one than of another; mostly with a third thing that stands to the single one."""
    one, other, third = drawn_heads(lots, world, 3)
    one_count, other_count = lots.pick([(1, 2), (1, 3), (2, 1), (3, 1)])
    beside = lots.chance(0.7)
    scene = placed(lots, [one] * one_count + [other] * other_count + [third] * beside)
    if not scene:
        return None
    order = "more" if one_count > other_count else "fewer"
    said = Outnumbers(order, Noun(*one), Noun(*other))
    if not beside:
        return Draft(scene, (said,))
    fact = _fact(lots, scene, lots.pick(tuple(FAMILIES)), scene.things[-1])
    if not fact:
        return None
    return Draft(scene, (said, Relates(fact[0], _noun(lots, fact[1]), Noun(*fact[2][:2]))))


def _exclusion(lots: Lots, world: World) -> Draft | None:
    """A pair, and something that is not there: a kind, or a kind that is there in another colour."""
    draft = _pair(lots, world)
    if not draft:
        return None
    if lots.chance(0.5):
        shown = {thing.kind for thing in draft.scene.things}
        missing = Noun(lots.pick([kind for kind in world.kinds if kind not in shown]))
    else:
        missing = Noun(lots.pick(draft.scene.things).kind, lots.pick(tuple(COLOURS)))
    return Draft(draft.scene, (*draft.meaning, Lacks(missing)))


def _everything(lots: Lots, world: World) -> Draft | None:
    """All but one have a colour."""
    heads = drawn_heads(lots, world, 3 + lots.below(3))
    colour = heads[0][1]
    odd = lots.pick([other for other in COLOURS if other != colour])
    all_heads = [(heads[0][0], odd), *((kind, colour) for kind, _ in heads[1:])]
    scene = placed(lots, all_heads, overlapping=lots.chance(0.15))
    if not scene:
        return None
    statements: Meaning = (AllBut(Noun(heads[0][0]), colour),)
    if lots.chance(0.5):
        fact = _fact(lots, scene, lots.pick(tuple(FAMILIES)))
        if fact:
            statements += (Relates(fact[0], Noun(fact[1].kind), Noun(fact[2].kind)),)
    return Draft(scene, statements)


def _each(lots: Lots, world: World) -> Draft | None:
    """Two to five things of different kinds, all of them named with their colours."""
    heads = drawn_heads(lots, world, 2 + lots.below(4))
    scene = placed(lots, heads)
    return scene and Draft(scene, tuple(Counts(1, Noun(*head)) for head in heads))


CONSTRUCTIONS: Mapping[str, Callable[[Lots, World], Draft | None]] = {
    "pair": _pair,
    "both": _both,
    "clause": _clause,
    "choice": _choice,
    "nested": _nested,
    "counts": _counts,
    "more": _more,
    "exclusion": _exclusion,
    "everything": _everything,
    "story": changing.story,
    "changes": changing.changes,
    "each": _each,
    "signs": changing.signs,
}

BY_NAME = ("changes", "each", "signs")
"""Constructions of one use: only who names them gets them."""

WITHOUT_RELATIONS = frozenset({"counts", "story", *BY_NAME})
"""Constructions that never say how things stand to each other."""
