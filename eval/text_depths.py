"""What the depths of a text tower cost, for tables and drawings of quality against cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class TextDepths:
    """Costs of the variants of the text tower, of those whose cost is known."""

    layers: Mapping[str, int]
    """Blocks that run."""
    flops: Mapping[str, float]
    """Operations for one caption."""
    trained: frozenset[str]
    """Names of the depth that the tower was trained with."""
    caption_tokens: float
    """The length of the caption that operations are counted for."""

    def orders(self, variants: Sequence[str]) -> bool:
        """Whether each of these variants has a cost of its own."""
        costs = sorted(self.flops.get(variant, 0.0) for variant in variants)
        return costs[0] > 0 and all(a < b for a, b in pairwise(costs))


def short_number(number: float) -> str:
    """12.3k, 4.5M: for axes."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
