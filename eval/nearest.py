"""The k best candidates of each query, from tiles of the scores; of equal ones the first come first.

Axes: Q queries, M candidates, E the shared embedding, k kept.
"""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from eval.scores import Vectors

DECIMALS = 6
"""Scores count as equal when they agree so far: the last bits of a vector are chance."""
QUERY_TILE = 256
CANDIDATE_TILE = 4096
_NUMBERS = 2**32
_LAST = -(2**31)


def nearest(
    queries: Vectors, candidates: Vectors, k: int
) -> tuple[Float64[Tensor, "Q k"], Int64[Tensor, "Q k"]]:
    """Scores, to six decimals, and places of the k best candidates of each query, the best first.

    There are as many as candidates where these are fewer than k. A score that is not a number
    comes last.
    Memory is bounded by a tile and the answer. Scores must be below 1,000, as cosines are.
    """
    best = [
        _best_keys(queries.exact(slice(start, start + QUERY_TILE)), candidates, k)
        for start in range(0, len(queries), QUERY_TILE)
    ]
    return scores_and_numbers(torch.cat(best))


def _best_keys(
    queries: Float64[Tensor, "Q E"], candidates: Vectors, k: int
) -> Int64[Tensor, "Q k"]:
    best = torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(candidates), CANDIDATE_TILE):
        scores = queries @ candidates.exact(slice(start, start + CANDIDATE_TILE)).T
        best = best_keys(torch.cat([best, keys_of(scores, start)], dim=1), k)
    return best


def keys_of(scores: Float[Tensor, "Q M"], first_number: int) -> Int64[Tensor, "Q M"]:
    """Integers whose order is that of the answer: the score, then the number counted down.

    Candidates are numbered from `first_number`. The scores are overwritten.
    """
    steps = scores.mul_(10**DECIMALS).round_().nan_to_num_(nan=_LAST).long()
    numbers = torch.arange(first_number, first_number + scores.shape[1])
    return steps.mul_(_NUMBERS).add_(_NUMBERS - 1 - numbers)


def best_keys(keys: Int64[Tensor, "Q M"], k: int) -> Int64[Tensor, "Q k"]:
    """The k largest, or all where there are fewer; the best first."""
    return keys.topk(min(k, keys.shape[1]), dim=1).values


def scores_and_numbers(
    keys: Int64[Tensor, "Q k"],
) -> tuple[Float64[Tensor, "Q k"], Int64[Tensor, "Q k"]]:
    """What keys were made of; not a number where the score was none."""
    steps = keys.div(_NUMBERS, rounding_mode="floor")
    scores = (steps.double() / 10**DECIMALS).masked_fill(steps == _LAST, torch.nan)
    return scores, _NUMBERS - 1 - keys % _NUMBERS
