"""What there is to speak of, and what is kept from training so that it can be asked later."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from data_pipelines.scenes.meaning import AllBut, Has, Meaning, nouns, related_nouns
from data_pipelines.scenes.scene import FAMILIES, FAMILY_OF, Scene

Split = Literal["train", "val", "test", "combinations", "concepts"]
SPLITS: tuple[str, ...] = get_args(Split)

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (222, 36, 36),
    "yellow": (244, 200, 0),
    "green": (34, 150, 60),
    "blue": (46, 92, 232),
    "purple": (156, 60, 206),
    "black": (52, 52, 52),
}
BACKGROUNDS = ((252, 252, 252), (230, 230, 230), (250, 240, 222), (222, 236, 248))

_EVERY_CONCEPT = 7


@dataclass(frozen=True, kw_only=True)
class World:
    """The kinds of things, in an order that decides what is held out.

    Of every seven kinds the last is a concept: training names its colours and numbers, but never says
    how it stands to other things. Of the others, every second lacks two colours in training, in words
    and pictures, and the rest lack one family of relations, in words.
    """

    kinds: tuple[str, ...]

    @cached_property
    def concepts(self) -> frozenset[str]:
        """Kinds of which training tells no relations."""
        return frozenset(self.kinds[_EVERY_CONCEPT - 1 :: _EVERY_CONCEPT])

    @cached_property
    def new_colours(self) -> frozenset[tuple[str, str]]:
        """Kinds and colours that training does not combine."""
        colours = tuple(COLOURS)
        return frozenset(
            (kind, colours[(number + step) % len(colours)])
            for number, kind in enumerate(self._plain[::2])
            for step in (0, 3)
        )

    @cached_property
    def new_relations(self) -> frozenset[tuple[str, str]]:
        """Kinds and families of relations that training does not combine."""
        families = tuple(FAMILIES)
        return frozenset(
            (kind, families[number % len(families)])
            for number, kind in enumerate(self._plain[1::2])
        )

    @cached_property
    def _plain(self) -> tuple[str, ...]:
        return tuple(kind for kind in self.kinds if kind not in self.concepts)

    def allows(self, split: str, meaning: Meaning) -> bool:
        """Whether the split may say this: nothing new in train, val and test, and just its own in the others."""
        concept = any(noun.kind in self.concepts for _, noun in related_nouns(meaning))
        combination = any(
            (noun.kind, FAMILY_OF[relation]) in self.new_relations
            for relation, noun in related_nouns(meaning)
        ) or any(pair in self.new_colours for pair in _colours_said(meaning))
        return (concept, combination) == (split == "concepts", split == "combinations")

    def shows(self, split: str, scene: Scene) -> bool:
        """Whether the split may have such a picture."""
        return split == "combinations" or not any(
            (thing.kind, thing.colour) in self.new_colours for thing in scene.things
        )


def _colours_said(meaning: Meaning) -> list[tuple[str, str]]:
    pairs = [(noun.kind, noun.colour) for noun in nouns(meaning) if noun.colour]
    for statement in meaning:
        if isinstance(statement, Has | AllBut):
            pairs.append((statement.noun.kind, statement.said))
    return pairs
