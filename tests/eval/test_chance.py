"""Chance against all orders of a few candidates."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.chance import chance_of_hits, chance_of_median_rank, chance_of_precision


@st.composite
def few_candidates(draw):
    num_candidates = draw(st.integers(1, 6))
    right = st.integers(1, num_candidates)
    return num_candidates, draw(st.lists(right, min_size=1, max_size=3))


@given(few_candidates(), st.integers(1, 7))
@settings(max_examples=40)
def test_chance_is_what_all_orders_reach_on_average(problem, k):
    num_candidates, num_right = problem
    orders = list(itertools.permutations(range(num_candidates)))
    # For each query and order the places of the right candidates, which are the first ones.
    places = [
        [[place for place, c in enumerate(order, 1) if c < right] for order in orders]
        for right in num_right
    ]
    counts = torch.tensor(num_right)
    hits = [sum(found[0] <= k for found in of_query) / len(orders) for of_query in places]
    assert chance_of_hits(counts, num_candidates, k).tolist() == pytest.approx(hits, abs=1e-12)
    precision = np.mean(
        [np.mean([n / place for n, place in enumerate(found, 1)]) for q in places for found in q]
    )
    assert chance_of_precision(counts, num_candidates) == pytest.approx(precision, abs=1e-12)
    firsts = sorted(found[0] for of_query in places for found in of_query)
    assert chance_of_median_rank(counts, num_candidates) == firsts[(len(firsts) - 1) // 2]


def test_chance_among_half_a_million_needs_no_long_products():
    num_right = torch.tensor([1, 5])
    assert chance_of_hits(num_right, 500_000, 10).tolist() == pytest.approx([2e-5, 1e-4], rel=1e-4)
    assert chance_of_median_rank(torch.tensor([1]), 500_000) == 250_000


def test_a_chance_of_exactly_one_half_is_half_whatever_its_last_bit():
    assert chance_of_median_rank(torch.tensor([1, 6, 2]), 6) == 1
