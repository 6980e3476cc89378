"""How many wrong candidates stand before the best right one: what every ranking metric asks.

Scores are computed tile by tile, so memory is bounded by one tile however many items there are.
Products are summed in float64 and rounded to float32 once: two equal vectors then get equal scores
wherever they stand, and neither tiles nor processes nor threads change the result.

Axes: Q queries, M candidates, E the shared embedding, P right pairs, K best wrong scores kept.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from eval.ranks import Ranks

QUERY_TILE = 256
CANDIDATE_TILE = 4096


def wrong_before_right(
    query_features: Float[Tensor, "Q E"],
    candidate_features: Float[Tensor, "M E"],
    right_pairs: Int64[Tensor, "P 2"],
    *,
    limit: int,
    ranks: Ranks,
    query_tile: int = QUERY_TILE,
    candidate_tile: int = CANDIDATE_TILE,
) -> Int64[Tensor, " Q"]:
    """For each query, how many wrong candidates score at least as much as its best right one.

    `right_pairs` holds (query, right candidate); every query has one or more. Counts above `limit`
    are reported as `limit`. Ties count against the model, and so does a score that is not a number.
    The same on every rank.
    """
    pairs = right_pairs[right_pairs[:, 0].argsort(stable=True)]
    num_queries = query_features.shape[0]
    has_right = torch.zeros(num_queries, dtype=torch.bool)
    has_right[pairs[:, 0]] = True
    assert bool(has_right.all()), "a query without a right candidate"
    counts = torch.zeros(num_queries, dtype=torch.int64)
    for number, start in enumerate(range(0, num_queries, query_tile)):
        ranks.leave_when_asked()
        if number % ranks.world_size != ranks.rank:
            continue
        stop = min(start + query_tile, num_queries)
        first, last = torch.searchsorted(pairs[:, 0].contiguous(), torch.tensor([start, stop]))
        tile_pairs = pairs[first:last] - torch.tensor([start, 0])
        counts[start:stop] = _count_tile(
            query_features[start:stop], candidate_features, tile_pairs, limit, candidate_tile
        )
    return ranks.sum_counts(counts)


def _count_tile(
    query_features: Float[Tensor, "Q E"],
    candidate_features: Float[Tensor, "M E"],
    right_pairs: Int64[Tensor, "P 2"],
    limit: int,
    candidate_tile: int,
) -> Int64[Tensor, " Q"]:
    num_queries, num_candidates = len(query_features), len(candidate_features)
    queries = query_features.double()
    best_right = torch.full((num_queries,), -torch.inf)
    best_wrong = torch.empty(num_queries, 0)
    for start in range(0, num_candidates, candidate_tile):
        candidates = candidate_features[start : start + candidate_tile].double()
        scores = (queries @ candidates.T).float()
        is_right = _right_mask(right_pairs, start, scores.shape)
        right = scores.nan_to_num(nan=-torch.inf).masked_fill(~is_right, -torch.inf)
        best_right = torch.maximum(best_right, right.amax(dim=1))
        wrong = scores.nan_to_num(nan=torch.inf).masked_fill(is_right, -torch.inf)
        best_wrong = _highest(torch.cat([best_wrong, wrong], dim=1), limit)
    # A right candidate left -inf in its place; that must not tie with a right score of -inf.
    ahead = (best_wrong >= best_right[:, None]) & (best_wrong > -torch.inf)
    return ahead.sum(dim=1)


def _highest(scores: Float32[Tensor, "Q any"], limit: int) -> Float32[Tensor, "Q K"]:
    return scores.topk(min(limit, scores.shape[1]), dim=1).values


def _right_mask(
    right_pairs: Int64[Tensor, "P 2"], start: int, shape: tuple[int, ...]
) -> Bool[Tensor, "Q M"]:
    """Which places of the tile whose first candidate is `start` belong to right pairs."""
    mask = torch.zeros(shape, dtype=torch.bool)
    columns = right_pairs[:, 1] - start
    inside = (columns >= 0) & (columns < shape[1])
    mask[right_pairs[inside, 0], columns[inside]] = True
    return mask


def chance_of_hits(
    right_pairs: Int64[Tensor, "P 2"], num_queries: int, num_candidates: int, ks: Sequence[int]
) -> list[float]:
    """What a random order of the candidates would reach on average: hits at k, for each k."""
    num_right = torch.bincount(right_pairs.unique(dim=0)[:, 0], minlength=num_queries).double()
    chances = []
    for k in ks:
        all_wrong = torch.ones(num_queries, dtype=torch.float64)
        for place in range(min(k, num_candidates)):
            remaining = num_candidates - place
            all_wrong *= ((remaining - num_right) / remaining).clamp(min=0)
        chances.append(float((1 - all_wrong).mean()))
    return chances
