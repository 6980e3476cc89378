"""The best of many, against a sort of all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from eval import nearest as nearest_module
from eval.nearest import nearest
from eval.scores import Vectors


def rows(seed, *shape):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@given(
    num_candidates=st.integers(1, 60),
    k=st.integers(1, 70),
    tile=st.integers(1, 70),
    seed=st.integers(0, 9),
)
@settings(max_examples=30)
def test_the_answer_is_that_of_a_sort_of_all_scores_one_by_one(num_candidates, k, tile, seed):
    queries, candidates = rows(seed, 3, 16), rows(seed + 1, num_candidates, 16)
    # Few digits: no score is near the middle between two that have six decimals.
    queries, candidates = (queries * 64).round() / 64, (candidates * 64).round() / 64
    # Some are equal, and one is not a number.
    candidates[::3] = candidates[0].clone()
    candidates[num_candidates // 2] = torch.nan
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nearest_module, "QUERY_TILE", 2)
        patched.setattr(nearest_module, "CANDIDATE_TILE", tile)
        scores, numbers = nearest(Vectors(queries), Vectors(candidates), k)
    for query, best, found in zip(queries, scores, numbers, strict=True):
        every = [round(float(query.double() @ row.double()), 6) for row in candidates]
        order = sorted(range(num_candidates), key=lambda n: (every[n] != every[n], -every[n], n))
        assert found.tolist() == order[:k]
        expected = [every[number] for number in order[:k]]
        assert best.tolist() == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_equal_vectors_have_equal_scores_wherever_they_stand_and_the_first_come_first():
    vector, query = rows(1, 1, 48), rows(2, 1, 48)
    for number in (3, 17, 5000):
        scores, numbers = nearest(Vectors(query), Vectors(vector.repeat(number, 1)), 3)
        assert scores.unique().numel() == 1
        assert numbers.tolist() == [[0, 1, 2]]
