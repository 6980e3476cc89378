"""Draws that are the same on every machine and in every version of Python."""

import random
from collections.abc import Sequence
from typing import TypeVar

from data_pipelines.hashing import stable_hash

T = TypeVar("T")


class Lots:
    """Random choices that depend on the purpose alone."""

    def __init__(self, *purpose: object) -> None:
        # random() alone is promised to stay the same; choice() and shuffle() are not.
        self._random = random.Random(stable_hash(*purpose) % 2**64).random

    def below(self, number: int) -> int:
        """A whole number from 0 to `number` - 1."""
        return int(self._random() * number)

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return self._random() < share

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self._random() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All of the items in another order."""
        left = list(items)
        return [left.pop(int(self._random() * len(left))) for _ in range(len(left))]
