"""Drafts in which things change: what is said, or shown, has to be followed step by step."""

from collections.abc import Sequence

from data_pipelines.scenes.lots import Lots
from data_pipelines.scenes.meaning import Becomes, Draft, Noun
from data_pipelines.scenes.placing import drawn_heads, placed
from data_pipelines.scenes.signs import after_signs, sign_kinds, written
from data_pipelines.scenes.stories import (
    VERBS,
    Actor,
    Does,
    Step,
    Story,
    Swaps,
    Takes,
    Turns,
    ending,
)
from data_pipelines.scenes.world import BACKGROUNDS, COLOURS, World

_MOST_VERBS = 8


def story(lots: Lots, world: World) -> Draft | None:
    """Two or three actors, up to two steps, one who stays."""
    actors = tuple(Actor(*head) for head in drawn_heads(lots, world, 2 + lots.below(2)))
    kinds = [actor.kind for actor in actors]
    steps = tuple(_step(lots, kinds) for _ in range(lots.below(3)))
    told = Story(actors, steps, lots.pick(kinds))
    scene = placed(lots, [ending(told)])
    return scene and Draft(scene, (told,))


def _step(lots: Lots, kinds: Sequence[str]) -> Step:
    one, other = lots.shuffled(kinds)[:2]
    steps: tuple[Step, ...] = (
        Turns(one, lots.pick(tuple(COLOURS))),
        Takes(one, other),
        Swaps(one, other),
    )
    return lots.pick(steps)


def changes(lots: Lots, world: World) -> Draft | None:
    """One thing that does up to eight things."""
    ((kind, colour),) = drawn_heads(lots, world, 1)
    steps = tuple(Does(kind, lots.pick(tuple(VERBS))) for _ in range(1 + lots.below(_MOST_VERBS)))
    told = Story((Actor(kind, colour),), steps, kind)
    scene = placed(lots, [ending(told)])
    return scene and Draft(scene, (told,))


def signs(lots: Lots, world: World) -> Draft | None:
    """One thing and up to eight signs; the words tell only what it has become."""
    verbs = sign_kinds(world.kinds)
    kind = lots.pick(world.kinds[len(verbs) :])
    shown = [lots.pick(verbs) for _ in range(1 + lots.below(_MOST_VERBS))]
    scene = written((kind, lots.pick(tuple(COLOURS))), shown, lots.below(len(BACKGROUNDS)))
    end = after_signs(scene.things, verbs)
    return end and Draft(scene, (Becomes(Noun(kind), end[1], verbs),))
