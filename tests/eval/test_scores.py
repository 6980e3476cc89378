"""Scores against sums in whole numbers, in any order of their terms."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from eval.scores import Vectors, pair_scores


def rows(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(
    seed=st.integers(0, 2**32),
    width=st.integers(1, 300),
    lengths=st.tuples(*[st.integers(-9, 9)] * 2),
)
@settings(max_examples=60)
def test_a_product_of_matrices_in_float64_loses_nothing(seed, width, lengths):
    left, right = (
        Vectors(normalize(rows(seed + side, 2, width), dim=-1) * 2.0**length).exact(slice(0, 2))
        for side, length in enumerate(lengths)
    )
    exact = [
        [sum(Fraction(a) * Fraction(b) for a, b in zip(x, y, strict=True)) for y in right.tolist()]
        for x in left.tolist()
    ]
    order = torch.randperm(width, generator=torch.Generator().manual_seed(seed))
    for product in (left @ right.T, left[:, order] @ right[:, order].T):
        assert [[Fraction(score) for score in row] for row in product.tolist()] == exact


def test_the_grid_moves_a_score_of_unit_vectors_by_less_than_float32_would():
    vectors = normalize(rows(0, 200, 512), dim=-1)
    pairs = torch.cartesian_prod(torch.arange(100), torch.arange(100, 200))
    scores = pair_scores(Vectors(vectors), Vectors(vectors), pairs)
    plain = (vectors[pairs[:, 0]].double() * vectors[pairs[:, 1]].double()).sum(dim=1)
    assert (scores.double() - plain).abs().max() < 5e-8


@given(num_rows=st.integers(1, 40), num_columns=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_single_pairs_have_the_scores_of_the_whole_matrix(num_rows, num_columns, seed):
    left, right = (Vectors(rows(seed, number, 97)) for number in (num_rows, num_columns))
    pairs = torch.cartesian_prod(torch.arange(num_rows), torch.arange(num_columns))
    whole = left.exact(slice(0, num_rows)) @ right.exact(slice(0, num_columns)).T
    assert pair_scores(left, right, pairs).tolist() == whole.float().flatten().tolist()


def test_rows_that_do_not_count_are_left_out():
    features = rows(3, 5, 4)
    some = Vectors(features, torch.tensor([1, 4]))
    assert len(some) == 2
    assert some.exact(torch.tensor([1])).tolist() == Vectors(features).exact(slice(4, 5)).tolist()


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_one_broken_coordinate_breaks_its_vector_and_no_other(broken):
    features = torch.eye(3)
    whole = Vectors(features).exact(slice(0, 3))
    features[1, 2] = broken
    exact = Vectors(features).exact(slice(0, 3))
    assert exact[1].isnan().all()
    assert exact[[0, 2]].tolist() == whole[[0, 2]].tolist()
