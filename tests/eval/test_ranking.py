"""Ranks by tiles against a slow count of every pair; the formula of chance against all orders."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.ranking import chance_of_hits, wrong_before_right
from eval.ranks import Ranks

ONE = Ranks()


def naive_wrong_before_right(queries, candidates, pairs, limit):
    right = {(int(q), int(c)) for q, c in pairs}
    counts = []
    for q, query in enumerate(queries.tolist()):
        scores = [sum(a * b for a, b in zip(query, c, strict=True)) for c in candidates.tolist()]
        best = max(score for c, score in enumerate(scores) if (q, c) in right)
        wrong = [score for c, score in enumerate(scores) if (q, c) not in right]
        counts.append(min(limit, sum(score >= best for score in wrong)))
    return counts


@st.composite
def ranking_problems(draw):
    num_queries = draw(st.integers(1, 9))
    num_candidates = draw(st.integers(1, 11))
    # Few distinct small integers: exact scores, and many ties.
    number = st.integers(-1, 1)
    queries = draw(st.lists(st.tuples(number, number), min_size=num_queries, max_size=num_queries))
    candidates = draw(
        st.lists(st.tuples(number, number), min_size=num_candidates, max_size=num_candidates)
    )
    candidate = st.integers(0, num_candidates - 1)
    right = [draw(st.sets(candidate, min_size=1)) for _ in range(num_queries)]
    pairs = [(q, c) for q, chosen in enumerate(right) for c in chosen]
    pairs = draw(st.permutations(pairs))
    return (
        torch.tensor(queries, dtype=torch.float32),
        torch.tensor(candidates, dtype=torch.float32),
        torch.tensor(pairs, dtype=torch.int64),
        draw(st.integers(1, 12)),
        draw(st.integers(1, 10)),
        draw(st.integers(1, 12)),
    )


@given(ranking_problems())
@settings(deadline=None, max_examples=200)
def test_ranks_equal_a_slow_count_for_any_tiles_relevance_and_ties(problem):
    queries, candidates, pairs, limit, query_tile, candidate_tile = problem
    counts = wrong_before_right(
        queries,
        candidates,
        pairs,
        limit=limit,
        ranks=ONE,
        query_tile=query_tile,
        candidate_tile=candidate_tile,
    )
    assert counts.tolist() == naive_wrong_before_right(queries, candidates, pairs, limit)


def test_equal_vectors_tie_wherever_they_stand():
    generator = torch.Generator().manual_seed(0)
    vector = torch.nn.functional.normalize(torch.randn(1, 97, generator=generator), dim=-1)
    candidates = vector.repeat(301, 1)
    pairs = torch.stack([torch.arange(301), torch.arange(301)], dim=1)
    counts = wrong_before_right(
        candidates, candidates, pairs, limit=400, ranks=ONE, query_tile=37, candidate_tile=53
    )
    assert counts.tolist() == [300] * 301


def test_ranks_do_not_depend_on_the_tiles():
    generator = torch.Generator().manual_seed(1)
    queries, candidates = torch.randn(70, 33, generator=generator), torch.randn(90, 33)
    pairs = torch.stack([torch.arange(70), torch.arange(70)], dim=1)
    results = {
        tuple(
            wrong_before_right(
                queries,
                candidates,
                pairs,
                limit=90,
                ranks=ONE,
                query_tile=query_tile,
                candidate_tile=candidate_tile,
            ).tolist()
        )
        for query_tile, candidate_tile in [(256, 4096), (1, 1), (7, 64), (64, 7)]
    }
    assert len(results) == 1


@pytest.mark.parametrize("broken", ["queries", "candidates"])
def test_a_vector_that_is_not_a_number_never_helps(broken):
    vectors = {"queries": torch.eye(4), "candidates": torch.eye(4)}
    vectors[broken] = vectors[broken].clone()
    vectors[broken][2] = torch.nan
    pairs = torch.stack([torch.arange(4), torch.arange(4)], dim=1)
    counts = wrong_before_right(
        vectors["queries"], vectors["candidates"], pairs, limit=4, ranks=ONE
    )
    assert counts[2] == 3
    assert counts.tolist() == ([0, 0, 3, 0] if broken == "queries" else [1, 1, 3, 1])


@given(
    num_candidates=st.integers(1, 6),
    num_right=st.integers(1, 6),
    k=st.integers(1, 7),
)
@settings(deadline=None, max_examples=60)
def test_chance_is_the_share_of_all_orders_that_hit(num_candidates, num_right, k):
    num_right = min(num_right, num_candidates)
    pairs = torch.tensor([(0, candidate) for candidate in range(num_right)])
    orders = list(itertools.permutations(range(num_candidates)))
    hits = sum(any(place < num_right for place in order[:k]) for order in orders)
    (chance,) = chance_of_hits(pairs, 1, num_candidates, [k])
    assert chance == pytest.approx(hits / len(orders), abs=1e-12)


def test_chance_is_the_mean_over_queries_and_counts_a_repeated_pair_once():
    pairs = torch.tensor([(0, 0), (0, 0), (1, 0), (1, 1), (1, 2)])
    assert chance_of_hits(pairs, 2, 4, [1]) == [pytest.approx((1 / 4 + 3 / 4) / 2)]
