"""Sentences that are nearly a caption, and false of its picture."""

from collections.abc import Iterator, Set

from data_pipelines.scenes.edits import EDIT_KINDS, EditKind, edited_meanings
from data_pipelines.scenes.grammar import has_usual_length, sentence
from data_pipelines.scenes.lots import Lots
from data_pipelines.scenes.meaning import Becomes, Meaning, holds, num_true_orders, slots
from data_pipelines.scenes.siblings import Sibling
from data_pipelines.scenes.signs import colours_in_any_order
from data_pipelines.scenes.world import World

_SAME_WORDS: tuple[EditKind, ...] = ("swap objects", "swap attributes")


def foils_of(
    sibling: Sibling, wording: int, lots: Lots, world: World, split: str
) -> Iterator[tuple[EditKind, str]]:
    """One false sentence by each kind of edit that has one.

    A swap keeps all words. A relation is turned only where as many orders of the changed words are
    true of the scene as of the right ones. So whoever does not see the order of words can but guess.
    What signs make of a thing is told wrongly by what another order of them would make, where one does.
    """
    caption = sentence(sibling.meaning, wording)
    near = _near_colours(sibling)
    num_right: int | None = None
    for kind in EDIT_KINDS:
        meanings = lots.shuffled(edited_meanings(kind, sibling.meaning))
        meanings.sort(key=lambda meaning: not _colours(meaning) <= near)
        for meaning in meanings:
            if not world.allows(split, meaning) or holds(meaning, sibling.scene) is not False:
                continue
            text = sentence(meaning, wording)
            if not has_usual_length(text):
                continue
            if kind in _SAME_WORDS and _words(text) != _words(caption):
                continue
            if kind == "relation":
                num_right = num_right or num_true_orders(sibling.meaning, sibling.scene)
                if num_true_orders(meaning, sibling.scene) != num_right:
                    continue
            yield kind, text
            break


def _near_colours(sibling: Sibling) -> Set[str]:
    """Colours that are harder to tell from the right one: of other things, or what other orders of signs make."""
    things, first = sibling.scene.things, sibling.meaning[0]
    if isinstance(first, Becomes):
        return colours_in_any_order(things, first.signs)
    return {thing.colour for thing in things}


def _words(text: str) -> list[str]:
    return sorted(text.lower().rstrip(".").split())


def _colours(meaning: Meaning) -> set[str]:
    return {colour for field in ("colour", "said") for colour in slots(meaning, field) if colour}
