"""What a random order of the candidates would reach, without drawing one.

Axes: Q queries; `num_right` holds how many of the candidates are right for each of them.
"""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

ROUNDING = 1e-12


def chance_of_hits(
    num_right: Int64[Tensor, " Q"], num_candidates: int, k: int
) -> Float64[Tensor, " Q"]:
    """For each query the chance that a right candidate is among the first k."""
    most = int(num_right.max())
    drawn = np.arange(most)
    # The chance that the first, the second, … of the right ones all stand behind the first k.
    behind = np.clip((num_candidates - k - drawn) / (num_candidates - drawn), 0, 1).cumprod()
    return 1 - torch.from_numpy(np.concatenate([[1.0], behind]))[num_right]


def chance_of_median_rank(num_right: Int64[Tensor, " Q"], num_candidates: int) -> float:
    """The rank that the best right candidate reaches in half of all orders and queries."""
    below, reached = 0, num_candidates
    while reached - below > 1:
        k = (below + reached) // 2
        # Exactly one half may come out a last bit smaller.
        if float(chance_of_hits(num_right, num_candidates, k).mean()) < 0.5 - ROUNDING:
            below = k
        else:
            reached = k
    return float(reached)


def chance_of_precision(num_right: Int64[Tensor, " Q"], num_candidates: int) -> float:
    """The mean average precision.

    The chance that place k is right is r / n; then, of the k - 1 places before it, a share of
    (r - 1) / (n - 1) is right on average. So a query reaches the mean of
    (1 + (k - 1)(r - 1) / (n - 1)) / k over all k.
    """
    harmonic = float((1 / np.arange(1, num_candidates + 1)).sum())
    share = (num_right.double() - 1) / max(num_candidates - 1, 1)
    return float((harmonic + share * (num_candidates - harmonic)).mean() / num_candidates)
