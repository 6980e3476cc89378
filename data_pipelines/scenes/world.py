"""What there is to speak of, and what is kept from training so that it can be asked later."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal, get_args

from data_pipelines.scenes.meaning import AllBut, Becomes, Has, Meaning, nouns, related_nouns
from data_pipelines.scenes.scene import FAMILIES, FAMILY_OF, SMALL, Scene, Thing, overlap
from data_pipelines.scenes.stories import Story, heads_met

Split = Literal["train", "val", "test", "combinations", "concepts"]
SPLITS: tuple[str, ...] = get_args(Split)

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (222, 36, 36),
    "yellow": (244, 200, 0),
    "green": (40, 168, 70),
    "blue": (46, 92, 232),
    "purple": (156, 60, 206),
    "black": (40, 40, 40),
}
BACKGROUNDS = ((252, 252, 252), (230, 230, 230), (250, 240, 222), (222, 236, 248))

Silhouettes = tuple[tuple[int, ...], tuple[int, ...]]
"""Which units a thing covers when it is small and when it is large: a number of as many bits for each row."""

_EVERY_CONCEPT = 7
_LEAST_HIDDEN = 24
"""Units that have to be covered for all to see what is in front: 6 pixels of a picture of 32."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The kinds of things, in an order that decides what is held out.

    Of every seven kinds the last is a concept: training names its colours and numbers, but never says
    how it stands to other things. Of the others, every second lacks two colours in training, in words
    and pictures, and the rest lack one family of relations, in words.
    """

    kinds: tuple[str, ...]
    silhouettes: tuple[Silhouettes, ...] = ()
    """Of each kind; without them things are taken for solid squares."""

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
        """Whether the split may have such a picture, and the picture tells what is in front."""
        if split != "combinations" and any(
            (thing.kind, thing.colour) in self.new_colours for thing in scene.things
        ):
            return False
        return not self.silhouettes or all(
            self._hides_enough(*pair) for pair in combinations(scene.things, 2) if overlap(*pair)
        )

    def _hides_enough(self, one: Thing, other: Thing) -> bool:
        """Whether the forms themselves cover each other, and not just the squares that they stand in."""
        rows, other_rows = self._rows(one), self._rows(other)
        across = (other.x - other.size // 2) - (one.x - one.size // 2)
        down = (other.y - other.size // 2) - (one.y - one.size // 2)
        hidden = 0
        for number, row in enumerate(rows):
            if 0 <= number - down < len(other_rows):
                beside = other_rows[number - down]
                hidden += (
                    row & (beside << across if across >= 0 else beside >> -across)
                ).bit_count()
        return hidden >= _LEAST_HIDDEN

    def _rows(self, thing: Thing) -> tuple[int, ...]:
        small, large = self.silhouettes[self._numbers[thing.kind]]
        return small if thing.size == SMALL else large

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {kind: number for number, kind in enumerate(self.kinds)}


def _colours_said(meaning: Meaning) -> list[tuple[str, str]]:
    pairs = [(noun.kind, noun.colour) for noun in nouns(meaning) if noun.colour]
    for statement in meaning:
        if isinstance(statement, Has | AllBut | Becomes):
            pairs.append((statement.noun.kind, statement.said))
        if isinstance(statement, Story):
            pairs.extend(sorted(heads_met(statement)))
    return pairs
