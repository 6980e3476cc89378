"""Pictures that look alike: groups in which each resembles at least one other. Axes: N, M pictures."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_pipelines.errors import UserError
from data_pipelines.progress import with_progress
from rins_mm.index.opened import Index

ROWS_AT_ONCE = 2_048
COLUMNS_AT_ONCE = 16_384


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """What resembles what."""

    groups: list[list[int]]
    """Numbers of pictures; the largest group first, then by its first number."""
    num_pairs: int
    """Pairs that are as alike as was asked for."""


def near_duplicates(index: Index, threshold: float) -> Duplicates:
    """Groups of pictures whose cosine with another of the group is at least `threshold`.

    Every picture is compared with every other. Cosines of float16 vectors are right to about 0.0005.
    Raises UserError for a threshold that is no cosine.
    """
    if not 0.0 < threshold <= 1.0:
        raise UserError(
            f"the threshold is {threshold}; give a cosine above 0 and at most 1, such as 0.95"
        )
    rows = np.flatnonzero(index.present)
    group_of = np.arange(len(rows))
    num_pairs = 0
    starts = range(0, len(rows), ROWS_AT_ONCE)
    for start in with_progress(starts, total=len(starts), label="comparing pictures"):
        pairs = _pairs(index, rows, start, threshold)
        num_pairs += len(pairs)
        if len(pairs):
            group_of = _joined(group_of, pairs)
    return Duplicates(groups=_groups(index.numbers[rows], group_of), num_pairs=num_pairs)


def _pairs(
    index: Index, rows: Int64[np.ndarray, " N"], start: int, threshold: float
) -> Int64[np.ndarray, "P 2"]:
    """Pairs of places in `rows`, the first of a pair in one tile and the second after it."""
    ours = index.rows_at(rows[start : start + ROWS_AT_ONCE])
    found = []
    for column in range(start, len(rows), COLUMNS_AT_ONCE):
        theirs = index.rows_at(rows[column : column + COLUMNS_AT_ONCE])
        alike = (ours @ theirs.T).add_(1e-6) >= threshold
        pairs = alike.nonzero().numpy() + np.array([start, column])
        found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


def _joined(
    group_of: Int64[np.ndarray, " N"], pairs: Int64[np.ndarray, "P 2"]
) -> Int64[np.ndarray, " N"]:
    """The groups after each pair has made one group of two: the least place in it names a group."""
    ends = group_of[pairs]
    size = len(group_of)
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), (size, size))
    _, component = connected_components(graph, directed=False)
    first = np.full(component.max() + 1, size, dtype=np.int64)
    np.minimum.at(first, component, np.arange(size))
    # Only names of groups stand in the graph; a member follows its group's name.
    return first[component[group_of]]


def _groups(numbers: Int64[np.ndarray, " N"], group_of: Int64[np.ndarray, " N"]) -> list[list[int]]:
    order = np.argsort(group_of, kind="stable")
    borders = np.flatnonzero(np.diff(group_of[order])) + 1
    parts = [part for part in np.split(numbers[order], borders) if len(part) > 1]
    return sorted((part.tolist() for part in parts), key=lambda part: (-len(part), part[0]))
