"""Scores that come out the same to the last bit, whoever adds up their terms and in whatever order.

The last bits of a sum of floats depend on its order, and with it on tiles, threads and machines. Here
each coordinate of vectors no longer than 1 is first rounded to a multiple of 2**-26, so each product
is a multiple of 2**-52. By Cauchy and Schwarz no sum of some of these products exceeds 1, so float64
holds each of them exactly, and the whole is rounded once, to float32. Equal vectors have equal scores
wherever they stand. Of a score the first rounding moves at most 2**-26 * sqrt(E), about 1e-8 in practice.

Axes: N vectors, E the shared embedding, P pairs.
"""

import math

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

GRID_BITS = 26
"""Twice as many, and one for the sign, are what float64 holds."""
PAIRS_AT_ONCE = 1024
VECTORS_AT_ONCE = 4096


class Vectors:
    """Rows of a matrix of features, read a few at a time as float64 on a grid; they are not copied.

    `numbers` are the rows that count, in their order; None: all. A vector that holds anything that is
    not finite is wholly not a number. Vectors longer than 1 have a coarser grid, shorter ones a finer.
    """

    def __init__(
        self, features: Float[Tensor, "all E"], numbers: Int64[Tensor, " N"] | None = None
    ) -> None:
        self._features = features
        self._numbers = torch.arange(len(features)) if numbers is None else numbers
        lengths = _lengths(features)
        self._broken = ~lengths.isfinite()
        self._grid = 2.0 ** (GRID_BITS - _exponent(lengths[~self._broken]))

    def __len__(self) -> int:
        return len(self._numbers)

    def exact(self, places: slice | Int64[Tensor, " n"]) -> Float64[Tensor, "n E"]:
        """The vectors at these places, their coordinates multiples of one power of two."""
        numbers = self._numbers[places]
        rows = self._features[numbers].double()
        rows.mul_(self._grid).round_().div_(self._grid)
        rows[self._broken[numbers]] = torch.nan
        return rows


def pair_scores(
    rows: Vectors, columns: Vectors, pairs: Int64[Tensor, "P 2"]
) -> Float32[Tensor, " P"]:
    """The scores of single pairs (row, column): the same numbers as in a whole matrix."""
    scores = torch.empty(len(pairs))
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        products = rows.exact(pairs[part, 0]).mul_(columns.exact(pairs[part, 1]))
        # A list of small results between large ones that come and go would tear the memory to pieces.
        scores[part] = products.sum(dim=1)
    return scores


def _lengths(features: Float[Tensor, "all E"]) -> Float64[Tensor, " all"]:
    lengths = torch.empty(len(features), dtype=torch.float64)
    for start in range(0, len(features), VECTORS_AT_ONCE):
        part = slice(start, start + VECTORS_AT_ONCE)
        lengths[part] = torch.linalg.vector_norm(features[part], dim=1, dtype=torch.float64)
    return lengths


def _exponent(lengths: Float64[Tensor, " some"]) -> int:
    """The power of two that bounds the lengths; 0 for unit vectors, some of which are a bit longer."""
    longest = float(lengths.amax()) if len(lengths) else 0.0
    # A float64 holds twice as much as the bound says: that leaves room for lengths up to 2**0.25.
    return math.ceil(math.log2(longest) - 0.25) if longest else 0
