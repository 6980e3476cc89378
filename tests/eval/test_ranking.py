"""Ranks by tiles against a slow look at every pair, alone and in three processes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from eval import ranking as ranking_module
from eval.ranking import MARGIN, rank_both_ways, rank_rows
from eval.ranks import Ranks
from eval.scores import Vectors

ONE = Ranks()
STEP = 2.0**-17
"""Two neighbouring scores are closer than MARGIN, every second is not."""
NAN = math.nan


def slow_ranking(scores, pairs):
    """For each query: the wrong scores, and the right ones from best to worst, NaN as the rule says."""
    right = set(pairs)
    result = []
    for q, row in enumerate(scores):
        wrong = [(s, c) for c, s in enumerate(row) if (q, c) not in right]
        wrong = [(math.inf if math.isnan(s) else s, c) for s, c in wrong]
        best_first = [
            -math.inf if math.isnan(s) else s for c, s in enumerate(row) if (q, c) in right
        ]
        result.append((wrong, sorted(best_first, reverse=True)))
    return result


def slow_average_precision(wrong, right):
    # At equal scores wrong ones come first.
    order = sorted([(-s, 0) for s, _ in wrong] + [(-s, 1) for s in right])
    places = [place for place, (_, is_right) in enumerate(order, 1) if is_right]
    return sum(number / place for number, place in enumerate(places, 1)) / len(places)


def check(ranking, scores, pairs, ks):
    rows = slow_ranking(scores, pairs)
    reached = [[sum(s >= r[0] + by for s, _ in w) for w, r in rows] for by in (MARGIN, 0, -MARGIN)]
    assert ranking.ranks().tolist() == [number + 1 for number in reached[1]]
    for k in ks:
        assert ranking.hits(k).tolist() == [number < k for number in reached[1]]
        near = sum((a < k) != (b < k) for a, b in zip(reached[0], reached[2], strict=True))
        assert ranking.near_ties(k) == near
    near = sum(a != b for a, b in zip(reached[0], reached[2], strict=True))
    assert ranking.near_ties_of_ranks() == near
    near = sum(
        any(sum(s >= x + MARGIN for s, _ in w) != sum(s >= x - MARGIN for s, _ in w) for x in r)
        for w, r in rows
    )
    assert ranking.near_ties_of_precisions() == near
    slow = [slow_average_precision(wrong, right) for wrong, right in rows]
    assert ranking.average_precisions().tolist() == pytest.approx(slow, abs=1e-12)
    # The best score, and of equal ones the first number.
    best = [max(w, key=lambda item: (item[0], -item[1]))[1] if w else -1 for w, _ in rows]
    assert ranking.best_wrong.tolist() == best


@st.composite
def ranking_problems(draw):
    number = st.integers(-1, 1)
    vector = st.one_of(st.tuples(number, number), st.just((NAN, 0)))
    num_rows, num_columns = draw(st.integers(1, 9)), draw(st.integers(1, 11))
    rows = draw(st.lists(vector, min_size=num_rows, max_size=num_rows))
    columns = draw(st.lists(vector, min_size=num_columns, max_size=num_columns))
    column, row = st.integers(0, num_columns - 1), st.integers(0, num_rows - 1)
    pairs = {(r, c) for r in range(num_rows) for c in draw(st.sets(column, min_size=1))}
    pairs |= {(draw(row), c) for c in range(num_columns)}
    # A pair that is named twice counts once.
    return rows, columns, draw(st.permutations([*pairs, draw(st.sampled_from(sorted(pairs)))]))


def tensors(problem):
    rows, columns, pairs = problem
    rows = torch.tensor(rows, dtype=torch.float32) * STEP
    return rows, torch.tensor(columns, dtype=torch.float32), torch.tensor(pairs)


@given(ranking_problems(), st.integers(1, 12), st.sampled_from([0, 2, 99]))
@settings(max_examples=100)
def test_both_ways_equal_a_slow_look_at_every_pair_with_ties_nan_and_several_right_ones(
    problem, tile, sort_from
):
    rows, columns, pairs = tensors(problem)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranking_module, "TILE", tile)
        patched.setattr(ranking_module, "SORT_FROM", sort_from)
        patched.setattr(ranking_module, "GATHERED_AT_ONCE", 4)
        of_rows, of_columns = rank_both_ways(Vectors(rows), Vectors(columns), pairs, ONE)
        alone = rank_rows(Vectors(rows), Vectors(columns), pairs, ONE)
    scores = [
        [sum(a * b for a, b in zip(x, y, strict=True)) for y in columns.tolist()]
        for x in rows.tolist()
    ]
    check(of_rows, scores, set(map(tuple, pairs.tolist())), (1, 2, 5))
    turned = [list(column) for column in zip(*scores, strict=True)]
    check(of_columns, turned, set(map(tuple, pairs.flip(1).tolist())), (1, 2, 5))
    assert alone.ahead.tolist() == of_rows.ahead.tolist()


def random_problem():
    generator = torch.Generator().manual_seed(1)
    rows = torch.nn.functional.normalize(torch.randn(70, 33, generator=generator), dim=-1)
    columns = torch.nn.functional.normalize(torch.randn(210, 33, generator=generator), dim=-1)
    columns[5] = columns[80]
    columns[100] = torch.nan
    return rows, columns, torch.stack([torch.arange(210) % 70, torch.arange(210)], dim=1)


def numbers(ranks):
    rows, columns, pairs = random_problem()
    results = []
    for ranking in rank_both_ways(Vectors(rows), Vectors(columns), pairs, ranks):
        results += [ranking.ahead, ranking.best_wrong, ranking.best_wrong_scores, ranking.scores]
    return [result.tolist() for result in results]


def test_nothing_depends_on_tiles_or_on_the_number_of_processes(run_on_ranks, monkeypatch):
    monkeypatch.setattr(ranking_module, "TILE", 32)
    alone = str(numbers(ONE))
    assert [str(result) for result in run_on_ranks(numbers, 3)] == [alone] * 3
    for tile in (1024, 7):
        monkeypatch.setattr(ranking_module, "TILE", tile)
        assert str(numbers(ONE)) == alone


def test_equal_vectors_tie_wherever_they_stand(monkeypatch):
    monkeypatch.setattr(ranking_module, "TILE", 53)
    generator = torch.Generator().manual_seed(0)
    vector = torch.nn.functional.normalize(torch.randn(1, 97, generator=generator), dim=-1)
    vectors = Vectors(vector.repeat(301, 1))
    pairs = torch.arange(301)[:, None].repeat(1, 2)
    for ranking in rank_both_ways(vectors, vectors, pairs, ONE):
        assert ranking.ranks().tolist() == [301] * 301


@pytest.mark.parametrize("broken", ["rows", "columns"])
def test_a_vector_that_is_not_a_number_never_helps(broken):
    vectors = {"rows": torch.eye(4), "columns": torch.eye(4)}
    vectors[broken][2] = torch.nan
    pairs = torch.arange(4)[:, None].repeat(1, 2)
    ranking = rank_rows(Vectors(vectors["rows"]), Vectors(vectors["columns"]), pairs, ONE)
    assert ranking.ranks().tolist() == ([1, 1, 4, 1] if broken == "rows" else [2, 2, 4, 2])
    assert ranking.worst(9) == []


def test_average_precision_is_scikit_learns_where_no_scores_are_equal():
    generator = torch.Generator().manual_seed(2)
    rows, columns = (
        torch.randn(20, 16, generator=generator),
        torch.randn(50, 16, generator=generator),
    )
    right = torch.rand(20, 50, generator=generator) < 0.2
    right[:, 0] = True
    ranking = rank_rows(Vectors(rows), Vectors(columns), right.nonzero(), ONE)
    scores = rows.double() @ columns.double().T
    expected = [
        average_precision_score(*row) for row in zip(right.numpy(), scores.numpy(), strict=True)
    ]
    assert ranking.average_precisions().tolist() == pytest.approx(expected, abs=1e-12)


def test_the_worst_misses_come_first_and_of_equal_ones_the_first_query():
    # The scores are the rows themselves; query 1 is right.
    rows = torch.tensor([[0.5, 0.75], [0.75, 0.5], [0.25, 0.75], [0.5, 0.75], [0.5, 0.5]])
    pairs = torch.stack([torch.arange(5), torch.zeros(5, dtype=torch.int64)], dim=1)
    ranking = rank_rows(Vectors(rows), Vectors(torch.eye(2)), pairs, ONE)
    expected = [(2, 0, 1, 0.5), (0, 0, 1, 0.25), (3, 0, 1, 0.25), (4, 0, 1, 0.0)]
    assert ranking.worst(9) == expected
    assert ranking.worst(2) == expected[:2]


def test_where_every_candidate_is_right_none_is_wrong():
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(2))
    vectors = Vectors(torch.ones(3, 2)), Vectors(torch.ones(2, 2))
    for ranking in rank_both_ways(*vectors, pairs, ONE):
        assert set(ranking.ranks().tolist()) == {1}
        assert set(ranking.average_precisions().tolist()) == {1.0}
        assert set(ranking.best_wrong.tolist()) == {-1}
        assert ranking.worst(5) == []


def test_nothing_to_rank_gives_nothing():
    nothing = Vectors(torch.zeros(0, 4))
    for ranking in rank_both_ways(nothing, nothing, torch.zeros(0, 2, dtype=torch.int64), ONE):
        assert len(ranking.ranks()) == len(ranking.average_precisions()) == 0
        assert ranking.worst(5) == []


def test_a_query_without_a_right_candidate_is_refused():
    with pytest.raises(AssertionError, match="without a right candidate"):
        rank_rows(Vectors(torch.eye(2)), Vectors(torch.eye(2)), torch.tensor([[0, 1]]), ONE)
