"""Sentences that are nearly a caption, and false of its picture."""

from collections.abc import Iterator

from data_pipelines.scenes.edits import EDIT_KINDS, EditKind, edited_meanings
from data_pipelines.scenes.grammar import has_usual_length, sentence
from data_pipelines.scenes.lots import Lots
from data_pipelines.scenes.meaning import Becomes, Meaning, holds, num_true_orders, slots
from data_pipelines.scenes.siblings import Sibling
from data_pipelines.scenes.world import World

_SAME_WORDS: tuple[EditKind, ...] = ("swap objects", "swap attributes")


def foils_of(
    sibling: Sibling, wording: int, lots: Lots, world: World, split: str
) -> Iterator[tuple[EditKind, str]]:
    """One false sentence by each kind of edit that has one.

    A swap keeps all words. A relation is turned only where as many orders of the changed words are
    true of the scene as of the right ones. So whoever does not see the order of words can but guess.
    """
    caption = sentence(sibling.meaning, wording)
    colours = {thing.colour for thing in sibling.scene.things}
    num_right: int | None = None
    for kind in EDIT_KINDS:
        meanings = lots.shuffled(edited_meanings(kind, sibling.meaning))
        # Other colours that are in the picture are harder to tell, unless signs may make any of it.
        if not isinstance(sibling.meaning[0], Becomes):
            meanings.sort(key=lambda meaning: not _colours(meaning) <= colours)
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


def _words(text: str) -> list[str]:
    return sorted(text.lower().rstrip(".").split())


def _colours(meaning: Meaning) -> set[str]:
    return {colour for field in ("colour", "said") for colour in slots(meaning, field) if colour}
