"""How far a metric would move with other items: 95 % intervals by the percentile bootstrap.

Items are drawn with replacement 1,000 times from a fixed seed, so every process finds the same
interval. Items with one outcome need not be told apart: how often each outcome is drawn follows the
multinomial law, and a draw costs as much as there are outcomes, not items.

The intervals tell of the items alone. Another training run may move a metric further.

Axes: N items, R resamples, D distinct outcomes.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

RESAMPLES = 1000
SEED = 0
PERCENTILES = (2.5, 97.5)
NUMBERS_AT_ONCE = 2**20
ITEMS_PER_OUTCOME = 6
"""With fewer items to an outcome, drawing items is quicker than drawing how often each outcome occurs."""

Interval = tuple[float, float]


def interval_of_mean(values: Float64[np.ndarray, " N"]) -> Interval:
    """The interval of the mean of a value per item."""
    outcomes, counts = np.unique(values, return_counts=True)
    if len(values) >= ITEMS_PER_OUTCOME * len(outcomes):
        sums = np.concatenate([(drawn * outcomes).sum(axis=1) for drawn in _draws(counts)])
        return _percentiles(sums / len(values))
    generator = np.random.default_rng(SEED)
    means = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        means[number] = values[generator.integers(len(values), size=len(values))].mean()
    return _percentiles(means)


def interval_of_median(values: Float64[np.ndarray, " N"]) -> Interval:
    """The interval of the median of a value per item.

    Drawing N items is drawing N numbers u from [0, 1) and taking the item at place u N of the sorted
    list. The h-th smallest of the u follows the law Beta(h, N - h + 1): it is drawn at once.
    """
    number = len(values)
    generator = np.random.default_rng(SEED)
    middle = (number + 1) // 2
    lower = generator.beta(middle, number - middle + 1, size=RESAMPLES)
    upper = lower
    if number % 2 == 0:
        # Of the others that are larger, the smallest.
        upper = lower + (1 - lower) * generator.beta(1, number - middle, size=RESAMPLES)
    places = np.minimum((np.stack([lower, upper]) * number).astype(np.int64), number - 1)
    return _percentiles(np.sort(values)[places].mean(axis=0))


def interval_of_class_mean(
    right: Bool[np.ndarray, " N"], labels: Int64[np.ndarray, " N"]
) -> Interval:
    """The interval of the share of right items, averaged over the classes that were drawn."""
    _, classes = np.unique(labels, return_inverse=True)
    counts = np.bincount(2 * classes + right, minlength=2 * (int(classes.max()) + 1))
    means = []
    for drawn in _draws(counts):
        by_class = drawn.reshape(len(drawn), -1, 2)
        totals = by_class.sum(axis=2)
        recalls = by_class[:, :, 1] / np.maximum(totals, 1)
        means.append(recalls.sum(axis=1) / (totals > 0).sum(axis=1))
    return _percentiles(np.concatenate(means))


def _draws(counts: Int64[np.ndarray, " D"]) -> Iterator[Int64[np.ndarray, "R D"]]:
    """How often each outcome is drawn in each resample, a few resamples at a time."""
    generator = np.random.default_rng(SEED)
    total = int(counts.sum())
    at_once = max(1, NUMBERS_AT_ONCE // len(counts))
    for start in range(0, RESAMPLES, at_once):
        size = min(at_once, RESAMPLES - start)
        yield generator.multinomial(total, counts / total, size=size)


def _percentiles(statistics: Float[np.ndarray, " R"]) -> Interval:
    low, high = np.percentile(statistics, PERCENTILES)
    return float(low), float(high)
