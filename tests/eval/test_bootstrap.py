"""Intervals against a bootstrap that draws every item."""

import numpy as np
import pytest

from eval import bootstrap
from eval.bootstrap import interval_of_class_mean, interval_of_mean, interval_of_median

NUM_ITEMS = 300


def plain_interval(statistic, num_items):
    generator = np.random.default_rng(1)
    drawn = [statistic(generator.integers(num_items, size=num_items)) for _ in range(4000)]
    return tuple(np.percentile(drawn, [2.5, 97.5]))


def check(interval, expected):
    """A tenth of the width is what 1,000 resamples leave to chance."""
    assert interval == pytest.approx(expected, abs=0.1 * (expected[1] - expected[0]))
    assert interval[0] < interval[1]


@pytest.mark.parametrize("num_outcomes", [2, NUM_ITEMS])
def test_the_interval_of_a_mean_is_that_of_a_plain_bootstrap(num_outcomes):
    values = np.random.default_rng(0).integers(num_outcomes, size=NUM_ITEMS) / num_outcomes
    check(interval_of_mean(values), plain_interval(lambda i: values[i].mean(), NUM_ITEMS))


@pytest.mark.parametrize("num_items", [NUM_ITEMS, NUM_ITEMS + 1])
def test_so_is_that_of_a_median(num_items):
    values = np.random.default_rng(0).integers(1, 1000, size=num_items).astype(float)
    check(interval_of_median(values), plain_interval(lambda i: np.median(values[i]), num_items))


@pytest.mark.parametrize(("num_items", "expected"), [(6, (0.5, 4.5)), (7, (1.0, 5.0))])
def test_the_median_of_few_items_has_the_ends_that_all_draws_give(num_items, expected):
    draws = np.indices((num_items,) * num_items).reshape(num_items, -1)
    assert tuple(np.percentile(np.median(draws, axis=0), [2.5, 97.5])) == expected
    assert interval_of_median(np.arange(num_items, dtype=float)) == expected


def test_so_is_that_of_recall_by_class_where_a_small_class_may_not_be_drawn():
    generator = np.random.default_rng(0)
    labels = np.concatenate([np.full(NUM_ITEMS - 2, 3), np.full(2, 7)])
    right = generator.random(NUM_ITEMS) < 0.7
    right[-2:] = True

    def statistic(items):
        return np.mean([right[items][labels[items] == n].mean() for n in set(labels[items])])

    check(interval_of_class_mean(right, labels), plain_interval(statistic, NUM_ITEMS))


def test_one_item_or_one_outcome_leaves_no_room():
    assert interval_of_mean(np.array([1.0])) == (1.0, 1.0)
    assert interval_of_median(np.array([4.0, 4.0])) == (4.0, 4.0)
    assert interval_of_class_mean(np.array([True]), np.array([5])) == (1.0, 1.0)


def test_intervals_are_the_same_each_time_and_do_not_depend_on_how_much_is_drawn_at_once(
    monkeypatch,
):
    right = np.arange(NUM_ITEMS) % 3 == 0
    labels = np.arange(NUM_ITEMS) % 7
    once = interval_of_mean(right.astype(float)), interval_of_class_mean(right, labels)
    monkeypatch.setattr(bootstrap, "NUMBERS_AT_ONCE", 40)
    assert (interval_of_mean(right.astype(float)), interval_of_class_mean(right, labels)) == once
