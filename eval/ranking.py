"""Where right candidates stand among wrong ones, both ways, from one pass over tiles of the scores.

A tile of the scores is made, adds integer counts to its rows and to its columns, and is forgotten:
memory is bounded by a tile and the counts, however large the matrix. Tiles are shared out among the
processes; scores are exact (see `eval.scores`), counts are integers, so neither tiles nor processes
nor threads change a number.

A wrong candidate with the same score as a right one stands before it. A score that is not a number
stands before all when it is wrong, and behind all when it is right.

Axes: Q queries, M candidates, P right pairs, R and C rows and columns of a tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from eval.ranks import Ranks
from eval.scores import Vectors, pair_scores

MARGIN = 1e-5
"""Scores that are closer than this may change places at another batch size."""
TILE = 1024
SORT_FROM = 6
"""With more right candidates per query than this, sorting a tile is quicker than comparing with each."""
GATHERED_AT_ONCE = 2**16


def rank_rows(
    rows: Vectors, columns: Vectors, right_pairs: Int64[Tensor, "P 2"], ranks: Ranks
) -> "Ranking":
    """How the columns rank for each row. `right_pairs` holds (row, column); each row has one.

    Every process gets the same.
    """
    return _rank(rows, columns, right_pairs, ranks, both_ways=False)[0]


def rank_both_ways(
    rows: Vectors, columns: Vectors, right_pairs: Int64[Tensor, "P 2"], ranks: Ranks
) -> tuple["Ranking", "Ranking"]:
    """How the columns rank for each row, and the rows for each column; each has a right pair.

    Every process gets the same.
    """
    of_rows, of_columns = _rank(rows, columns, right_pairs, ranks, both_ways=True)
    return of_rows, of_columns


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The right candidates of each query, and how many wrong ones stand before each of them.

    Pairs are sorted by query, those of one query from the best score to the worst.
    """

    pairs: Int64[Tensor, "P 2"]
    """(query, right candidate), each once."""
    scores: Float32[Tensor, " P"]
    ahead: Int64[Tensor, "P 3"]
    """Wrong candidates that score at least as much: as the right score plus MARGIN, as the right
    score, and as the right score minus MARGIN."""
    best_wrong: Int64[Tensor, " Q"]
    """The wrong candidate with the best score, of equal ones the first; -1 where none is wrong."""
    best_wrong_scores: Float32[Tensor, " Q"]

    @property
    def best(self) -> Int64[Tensor, " Q"]:
        """For each query the place in `pairs` of its best right candidate."""
        return _starts(self.pairs[:, 0], len(self.best_wrong))

    def ranks(self) -> Int64[Tensor, " Q"]:
        """The rank of the best right candidate, from 1."""
        return self.ahead[self.best, 1] + 1

    def hits(self, k: int) -> Bool[Tensor, " Q"]:
        """Whether a right candidate is among the k best."""
        return self.ranks() <= k

    def average_precisions(self) -> Float64[Tensor, " Q"]:
        """For each query the mean, over its right candidates, of the share of right ones down to there.

        Right ones with equal scores follow one another; wrong ones with that score stand before them.
        """
        numbers = np.arange(1, len(self.pairs) + 1)
        first = self.best.numpy()
        # How many right ones there are from the query's best one down to this one.
        right = numbers - first[self.pairs[:, 0].numpy()]
        precisions = right / (self.ahead[:, 1].numpy() + right)
        sums = np.add.reduceat(precisions, first) if len(first) else np.zeros(0)
        return torch.from_numpy(sums / np.diff(first, append=len(numbers)))

    def near_ties(self, k: int) -> int:
        """Queries whose hit at k could turn if scores moved by MARGIN."""
        ahead = self.ahead[self.best]
        return int(((ahead[:, 0] < k) != (ahead[:, 2] < k)).sum())

    def near_ties_of_ranks(self) -> int:
        """Queries whose rank could."""
        ahead = self.ahead[self.best]
        return int((ahead[:, 0] != ahead[:, 2]).sum())

    def near_ties_of_precisions(self) -> int:
        """Queries whose average precision could."""
        return len(self.pairs[self.ahead[:, 0] != self.ahead[:, 2], 0].unique())

    def worst(self, limit: int) -> list[tuple[int, int, int, float]]:
        """The misses at 1 by the most: query, best right and best wrong candidate, and by how much.

        Of equal ones the first query comes first. Scores that are not numbers are left out.
        """
        best = self.best
        margins = self.best_wrong_scores - self.scores[best]
        missed = (~self.hits(1) & margins.isfinite()).nonzero().flatten()
        order = margins[missed].argsort(descending=True, stable=True)[:limit]
        return [
            (query, int(self.pairs[best[query], 1]), int(self.best_wrong[query]), float(margin))
            for query, margin in zip(
                missed[order].tolist(), margins[missed][order].tolist(), strict=True
            )
        ]


def _rank(
    rows: Vectors,
    columns: Vectors,
    right_pairs: Int64[Tensor, "P 2"],
    ranks: Ranks,
    *,
    both_ways: bool,
) -> list[Ranking]:
    width = max(len(columns), 1)
    keys = (right_pairs[:, 0] * width + right_pairs[:, 1]).unique()
    pairs = torch.stack([keys // width, keys % width], dim=1)
    scores = pair_scores(rows, columns, pairs)
    counts = [_Counts(pairs, scores, len(rows))]
    if both_ways:
        counts.append(_Counts(pairs.flip(1), scores, len(columns)))
    for row, column, tile in _own_tiles(rows, columns, ranks):
        # What is not a number stands before all right ones; what is right before none.
        tile.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        own = counts[0].within(row, len(tile))
        inside = pairs[own] - torch.tensor([row, column])
        inside = inside[(inside[:, 1] >= 0) & (inside[:, 1] < tile.shape[1])]
        tile[inside[:, 0], inside[:, 1]] = -torch.inf
        counts[0].add(tile, row, column)
        if both_ways:
            counts[1].add(tile.T.contiguous(), column, row)
    return [count.ranking(ranks) for count in counts]


def _own_tiles(
    rows: Vectors, columns: Vectors, ranks: Ranks
) -> Iterator[tuple[int, int, Float32[Tensor, "R C"]]]:
    """First row, first column and scores of each tile of this process."""
    # Memory that is asked for anew for each tile costs a tenth of the time.
    products, scores = torch.empty(TILE**2, dtype=torch.float64), torch.empty(TILE**2)
    number = 0
    for row in range(0, len(rows), TILE):
        left = None
        for column in range(0, len(columns), TILE):
            ranks.leave_when_asked()
            if number % ranks.world_size == ranks.rank:
                left = rows.exact(slice(row, row + TILE)) if left is None else left
                right = columns.exact(slice(column, column + TILE))
                size = (len(left), len(right))
                product = products[: size[0] * size[1]].view(size)
                torch.mm(left, right.T, out=product)
                yield row, column, scores[: product.numel()].view(size).copy_(product)
            number += 1


class _Counts:
    """What the tiles of this process have said so far of one direction."""

    def __init__(
        self, pairs: Int64[Tensor, "P 2"], scores: Float32[Tensor, " P"], num_queries: int
    ) -> None:
        known = scores.nan_to_num(nan=torch.finfo(torch.float32).min)
        order = known.argsort(descending=True, stable=True)
        order = order[pairs[order, 0].argsort(stable=True)]
        self._pairs, self._scores = pairs[order], scores[order]
        self._queries = self._pairs[:, 0].contiguous()
        assert len(self._queries.unique()) == num_queries, "a query without a right candidate"
        # The lowest number, not -inf: right candidates stand in the tile as -inf.
        self._thresholds = known[order, None] + torch.tensor([MARGIN, 0.0, -MARGIN])
        self._ahead = torch.zeros(len(pairs), 3, dtype=torch.int64)
        self._best_wrong = torch.full((num_queries,), -1)
        self._best_wrong_scores = torch.full((num_queries,), -torch.inf)

    def within(self, start: int, length: int) -> slice:
        """The places of the pairs whose queries are start … start + length - 1."""
        first, last = torch.searchsorted(self._queries, torch.tensor([start, start + length]))
        return slice(int(first), int(last))

    def add(self, tile: Float32[Tensor, "R C"], start: int, candidate_start: int) -> None:
        """Count a tile whose rows are queries from `start` on, with -inf in place of right scores."""
        own = self.within(start, len(tile))
        self._ahead[own] += _count_at_least(tile, self._queries[own] - start, self._thresholds[own])
        queries = slice(start, start + len(tile))
        tops = tile.amax(dim=1)
        better = (tops > self._best_wrong_scores[queries]).nonzero().flatten()
        self._best_wrong_scores[start + better] = tops[better]
        # numpy's arg max is the first of equal ones.
        numbers = torch.from_numpy(tile[better].numpy().argmax(axis=1))
        self._best_wrong[start + better] = candidate_start + numbers

    def ranking(self, ranks: Ranks) -> Ranking:
        """What the tiles of all processes say."""
        ahead = ranks.sum_counts(self._ahead)
        best, best_scores = [], []
        for scores, numbers in zip(
            self._best_wrong_scores.split(GATHERED_AT_ONCE),
            self._best_wrong.split(GATHERED_AT_ONCE),
            strict=True,
        ):
            all_scores, all_numbers = ranks.all_gather(scores), ranks.all_gather(numbers)
            best_scores.append(all_scores.amax(dim=0))
            behind = all_scores < best_scores[-1]
            best.append(all_numbers.masked_fill(behind, torch.iinfo(torch.int64).max).amin(dim=0))
        return Ranking(
            pairs=self._pairs,
            scores=self._scores,
            ahead=ahead,
            best_wrong=torch.cat(best),
            best_wrong_scores=torch.cat(best_scores),
        )


def _count_at_least(
    tile: Float32[Tensor, "R C"],
    queries: Int64[Tensor, " n"],
    thresholds: Float32[Tensor, "n 3"],
) -> Int64[Tensor, "n 3"]:
    """How many scores in the row `queries[i]` of the tile reach each threshold i. Queries are sorted."""
    starts = _starts(queries, len(tile) + 1)
    most = int(starts.diff().max())
    if most > SORT_FROM:
        return _count_in_sorted(tile, starts, thresholds)
    counts = torch.zeros(len(queries), 3)
    reached = torch.empty_like(tile)
    ones = torch.ones(tile.shape[1])
    for turn in range(most):
        # The first right candidate of each query, then the second of those that have two, and so on.
        rows = (starts.diff() > turn).nonzero().flatten()
        scores = tile if len(rows) == len(tile) else tile[rows]
        places = starts[rows] + turn
        for column in range(3):
            # A product of ones and zeros counts quicker than a sum of booleans, and as exactly.
            torch.ge(scores, thresholds[places, column, None], out=reached[: len(rows)])
            counts[places, column] = reached[: len(rows)] @ ones
    return counts.long()


def _count_in_sorted(
    tile: Float32[Tensor, "R C"],
    starts: Int64[Tensor, " ends"],
    thresholds: Float32[Tensor, "n 3"],
) -> Int64[Tensor, "n 3"]:
    """The same, for many thresholds per row; row r has those from `starts[r]` on."""
    counts = np.empty(tuple(thresholds.shape), dtype=np.int64)
    bounds = starts.tolist()
    for row, values in enumerate(np.sort(tile.numpy(), axis=1)):
        part = slice(bounds[row], bounds[row + 1])
        counts[part] = len(values) - np.searchsorted(values, thresholds[part].numpy())
    return torch.from_numpy(counts)


def _starts(queries: Int64[Tensor, " P"], number: int) -> Int64[Tensor, " number"]:
    """Where each query 0 … number - 1 begins in the sorted list."""
    return torch.searchsorted(queries.contiguous(), torch.arange(number))
