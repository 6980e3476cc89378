import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rins_mm.models.recursion import (
    RecursionConfig,
    draw_calls,
    expand,
    optional_calls,
    reachable_signatures,
)

small_signatures = st.sampled_from(["AB", "A^3B", "ABAB", "A", "A^4", "ABC", "AAB^2C", "(AB)^2C"])


@given(small_signatures, st.integers(0, 2**40), st.integers(0, 2**40), st.floats(0, 1))
def test_a_draw_keeps_the_first_and_the_last_call_and_every_letter(signature, seed, step, chance):
    calls = expand(signature)
    config = RecursionConfig(signature=signature, skip_probability=chance)
    drawn = draw_calls(config, tower="text", seed=seed, step=step)
    assert drawn[0] == calls[0]
    assert drawn[-1] == calls[-1]
    assert set(drawn) == set(calls)
    # What is left stands in its old order.
    rest = iter(calls)
    assert all(call in rest for call in drawn)


def test_a_call_is_skipped_always_at_one_and_never_at_zero():
    for step in range(50):
        for chance, expected in ((0.0, "AAAB"), (1.0, "AB")):
            config = RecursionConfig(signature="A^3B", skip_probability=chance)
            assert "".join(draw_calls(config, tower="text", seed=1, step=step)) == expected


@pytest.mark.parametrize("chance", [0.5, 0.8])
def test_extra_rounds_are_binomial(chance):
    config = RecursionConfig(signature="A^3B", skip_probability=chance)
    num = 4000
    seen = Counter(
        "".join(draw_calls(config, tower="text", seed=7, step=step)) for step in range(num)
    )
    kept = 1 - chance
    expected = {"AB": chance**2, "AAB": 2 * chance * kept, "AAAB": kept**2}
    assert seen.keys() == expected.keys()
    chi_square = sum((seen[s] - num * p) ** 2 / (num * p) for s, p in expected.items())
    # The 99.9 % point at two degrees of freedom; the draws are fixed, so this passes always or never.
    assert chi_square < 13.82


def test_the_optional_calls_are_skipped_independently_of_each_other():
    config = RecursionConfig(signature="A^6B", skip_probability=0.5)
    rounds = Counter(
        len(draw_calls(config, tower="text", seed=3, step=step)) - 2 for step in range(4096)
    )
    binomial = [1, 5, 10, 10, 5, 1]
    chi_square = sum((rounds[k] - 128 * c) ** 2 / (128 * c) for k, c in enumerate(binomial))
    assert chi_square < 20.5


def test_draws_depend_on_tower_seed_and_step_and_on_nothing_else():
    config = RecursionConfig(signature="A^6B", skip_probability=0.5)

    def draws(tower, seed):
        return [draw_calls(config, tower=tower, seed=seed, step=step) for step in range(60)]

    first = draws("text", 0)
    torch.manual_seed(123)
    assert draws("text", 0) == first
    assert [draw_calls(config, tower="text", seed=0, step=s) for s in (5, 3, 5)] == [
        first[5], first[3], first[5],
    ]  # fmt: skip
    assert draws("image", 0) != first
    assert draws("text", 1) != first


def test_a_draw_is_the_same_in_every_process_and_every_year():
    config = RecursionConfig(signature="A^6B", skip_probability=0.5)
    drawn = ["".join(draw_calls(config, tower="text", seed=0, step=s)) for s in range(6)]
    assert drawn == ["AAAAAB", "AAAB", "AAAB", "AAAB", "AAAAAB", "AAB"]


def test_a_letter_whose_calls_could_all_be_skipped_keeps_its_last_one():
    assert optional_calls(expand("ABCABC")) == (1, 2, 3)
    assert optional_calls(expand("ABA")) == ()
    assert optional_calls(expand("A^3B")) == (1, 2)
    assert optional_calls(expand("A")) == ()


def test_reachable_signatures_are_the_rounds_shortest_first():
    config = RecursionConfig(signature="A^3B", skip_probability=0.5)
    assert reachable_signatures(config) == ["AB", "AAB", "AAAB"]
    assert reachable_signatures(RecursionConfig()) == ["AB"]


def test_every_pattern_of_skipped_calls_has_its_own_chance():
    config = RecursionConfig(signature="A^4B", skip_probability=0.3)
    optional = optional_calls(expand(config.signature))
    expected = Counter()
    for pattern in itertools.product((False, True), repeat=len(optional)):
        expected[4 - sum(pattern)] += 0.3 ** sum(pattern) * 0.7 ** (3 - sum(pattern))
    seen = Counter(len(draw_calls(config, tower="image", seed=5, step=s)) - 1 for s in range(3000))
    chi_square = sum((seen[k] - 3000 * p) ** 2 / (3000 * p) for k, p in expected.items())
    assert chi_square < 16.3
