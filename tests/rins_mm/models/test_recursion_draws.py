import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from rins_mm.models.draws import (
    RecursionConfig,
    draw_calls,
    expected_calls,
    optional_calls,
    reachable_signatures,
)
from rins_mm.models.recursion_checks import check_recursion
from rins_mm.models.signatures import expand

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


def drawn(config, num=3000):
    return Counter("".join(draw_calls(config, tower="text", seed=2, step=s)) for s in range(num))


def law_of_a_nested_signature(calls, degree, chance):
    """Every outcome and its probability, written out: each level of each call by itself."""
    letters = sorted(set(calls))
    optional = optional_calls(calls)
    inner = [{(n,): 1.0} for n in range(len(letters))]
    if degree > 1:
        below = law_of_a_nested_signature(calls, degree - 1, chance)
        size = len(letters) ** (degree - 1)
        inner = [
            {tuple(n * size + leaf for leaf in leaves): p for leaves, p in below.items()}
            for n in range(len(letters))
        ]
    law = Counter({(): 1.0})
    for index, call in enumerate(calls):
        after = Counter()
        for so_far, probability in law.items():
            skipped = chance if index in optional else 0.0
            if skipped:
                after[so_far] += probability * skipped
            for leaves, p in inner[letters.index(call)].items():
                after[so_far + leaves] += probability * (1 - skipped) * p
        law = after
    return law


@pytest.mark.parametrize(("calls", "degree"), [("AAAB", 1), ("AAB", 2), ("ABCB", 1)])
def test_draws_at_every_level_follow_the_exact_law(calls, degree):
    config = RecursionConfig(signature=f"({calls})_{degree}", skip_probability=0.4)
    law = {
        "".join("ABCDEFGH"[leaf] for leaf in leaves): p
        for leaves, p in law_of_a_nested_signature(tuple(calls), degree, 0.4).items()
    }
    seen = drawn(config)
    assert seen.keys() <= law.keys()
    likely = {form: p for form, p in law.items() if 3000 * p > 5}
    chi_square = sum((seen[f] - 3000 * p) ** 2 / (3000 * p) for f, p in likely.items())
    # Five standard deviations beyond its mean; the draws are fixed, so this passes always or never.
    assert chi_square < len(likely) + 5 * (2 * len(likely)) ** 0.5
    mean = expected_calls(config)
    for letter in mean:
        assert mean[letter] == pytest.approx(sum(p * f.count(letter) for f, p in law.items()))


def test_every_group_of_a_nested_tower_runs_in_every_step():
    config = RecursionConfig(signature="(A^3B)_2", skip_probability=1.0)
    assert drawn(config, 20) == {"ABCD": 20}
    forms = reachable_signatures(RecursionConfig(signature="(A^3B)_2", skip_probability=0.5))
    assert forms == ["ABCD", "AABAABCCD", "AAABAAABAAABCCCD"]


def test_each_call_may_have_its_own_chance_and_a_group_keeps_its_last_call():
    config = RecursionConfig(signature="AAAB", skip_probabilities=(1.0, 1.0, 1.0, 1.0))
    assert drawn(config, 20) == {"AB": 20}
    config = RecursionConfig(signature="AAAB", skip_probabilities=(0.5, 0.0, 0.0, 0.0))
    seen = drawn(config)
    assert seen.keys() == {"AAB", "AAAB"}
    assert abs(seen["AAB"] - 1500) < 5 * 750**0.5
    assert expected_calls(config) == {"A": 2.5, "B": 1.0}


def test_a_step_may_draw_one_of_several_patterns():
    config = RecursionConfig(
        signature="AAAB", patterns=("AB", "AAB", "AAAB"), pattern_probabilities=(0.64, 0.32, 0.04)
    )
    seen = drawn(config)
    for pattern, p in zip(config.patterns, config.pattern_probabilities, strict=True):
        assert abs(seen[pattern] - 3000 * p) < 5 * (3000 * p * (1 - p)) ** 0.5
    assert expected_calls(config)["A"] == pytest.approx(1.4)
    assert reachable_signatures(config) == ["AB", "AAB", "AAAB"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"skip_probability": 1.5}, r"text\.recursion\.skip_probability is 1\.5"),
        ({"signature": "AAB", "skip_probabilities": (0.5, 0.5)}, "2 numbers for the 3 calls AAB"),
        ({"skip_probability": 0.5, "skip_probabilities": (0.5, 0.0)}, "more than one of"),
        ({"patterns": ("AB",)}, "1 patterns and 0 pattern_probabilities"),
        ({"patterns": ("AB",), "pattern_probabilities": (0.7,)}, r"whose sum is 0\.7"),
        ({"patterns": ("AC",), "pattern_probabilities": (1.0,)}, "cannot read the signature 'AC'"),
        ({"patterns": ("A",), "pattern_probabilities": (1.0,)}, "each pattern must call A B"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(settings, told):
    with pytest.raises(UserError, match=told):
        check_recursion("text", RecursionConfig(**settings))
