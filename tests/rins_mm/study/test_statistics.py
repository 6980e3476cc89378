"""The statistics of a study, beside closed forms and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rins_mm.study.statistics import (
    ALPHA,
    PValues,
    claim_tests,
    detectable_effect,
    deviation_bound,
    estimate,
    holm,
    p_greater,
    p_less,
    power,
    seeds_needed,
    verdicts,
)

GENERATOR_SEED = 11


def within_binomial(count: int, trials: int, chance: float) -> bool:
    """Four standard deviations: a right law fails once in 16,000 seeds of the generator."""
    return abs(count - trials * chance) <= 4 * math.sqrt(trials * chance * (1 - chance)) + 1


def test_the_interval_is_the_one_of_a_table_of_t():
    # 1, 2, 3, 4: mean 2.5, deviation 1.29099, t(0.975, 3) = 3.18245.
    found = estimate([1.0, 2.0, 3.0, 4.0])
    half = 3.182446 * math.sqrt(5 / 3) / 2
    assert (found.low, found.high) == pytest.approx((2.5 - half, 2.5 + half), rel=1e-6)


def test_one_seed_says_nothing_about_the_mean():
    assert estimate([0.3]).low == -math.inf
    assert p_greater([5.0], 0.0) == 1.0


def test_equal_values_are_neither_greater_nor_less_than_themselves():
    assert p_greater([0.1] * 6, 0.1) == p_less([0.1] * 6, 0.1) == 1.0
    assert p_greater([0.1] * 6, 0.05) == 0.0 and estimate([0.1] * 6).deviation == 0.0


def test_p_values_are_those_of_scipys_paired_test():
    generator = np.random.default_rng(GENERATOR_SEED)
    arm, control = generator.normal(size=(2, 9))
    differences = (arm - control).tolist()
    assert p_greater(differences, 0.0) == pytest.approx(
        stats.ttest_rel(arm, control, alternative="greater").pvalue
    )
    assert p_less(differences, 0.2) == pytest.approx(
        stats.ttest_1samp(differences, 0.2, alternative="less").pvalue
    )


@pytest.mark.parametrize("num_seeds", [3, 8])
def test_intervals_cover_the_truth_as_often_as_they_say(num_seeds):
    generator = np.random.default_rng(GENERATOR_SEED)
    found = [estimate(row.tolist()) for row in generator.normal(0.7, 2.0, size=(2000, num_seeds))]
    covered = sum(one.low <= 0.7 <= one.high for one in found)
    assert within_binomial(covered, 2000, 0.95)


def test_holm_is_the_textbook_example():
    # 0.01 * 4, 0.013 * 3, 0.03 * 2, 0.04 * 1; never less than the one before.
    assert holm([0.01, 0.04, 0.03, 0.013]) == pytest.approx([0.04, 0.06, 0.06, 0.04])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, len(p_values) * p)
    assert [adjusted[i] for i in np.argsort(p_values, kind="stable")] == sorted(adjusted)


def test_a_family_of_false_claims_is_wrong_in_some_place_no_more_often_than_allowed():
    generator = np.random.default_rng(GENERATOR_SEED)
    trials, wrong = 400, 0
    for seeds in generator.normal(size=(trials, 4, 6)):
        # At the edge of each claim: no gain at all, and a loss or gain of exactly delta.
        tests = [
            claim_tests("gain", seeds[0].tolist(), 1.0),
            claim_tests("gain", seeds[1].tolist(), 1.0),
            claim_tests("no_gain", (seeds[2] + 1.0).tolist(), 1.0),
            claim_tests("no_regret", (seeds[3] - 1.0).tolist(), 1.0),
        ]
        found = verdicts(tests)
        is_wrong = "supported" in found or "not supported" in found[2:]
        wrong += is_wrong
    assert wrong <= trials * ALPHA + 4 * math.sqrt(trials * ALPHA)


def test_power_is_what_a_simulation_finds():
    generator = np.random.default_rng(GENERATOR_SEED)
    rows = generator.normal(0.9, 1.0, size=(2000, 8))
    found = sum(p_greater(row.tolist(), 0.0) <= 0.025 for row in rows)
    assert within_binomial(found, 2000, power(0.9, 1.0, 8))


def test_the_detectable_effect_is_the_one_with_that_power():
    effect = detectable_effect(0.02, 8)
    assert power(effect, 0.02, 8) == pytest.approx(0.8, abs=1e-6)
    # By tables: 8 pairs find 1.16 standard deviations (two-sided 0.05) with a power of 0.8.
    assert effect / 0.02 == pytest.approx(1.16, abs=0.01)
    assert seeds_needed(effect * 1.001, 0.02) == 8
    assert seeds_needed(1e-9, 1.0, most=20) is None


def test_a_pilot_of_three_seeds_bounds_its_deviation_loosely():
    generator = np.random.default_rng(GENERATOR_SEED)
    rows = generator.normal(size=(2000, 3))
    above = sum(deviation_bound(float(row.std(ddof=1)), 3) >= 1.0 for row in rows)
    assert within_binomial(above, 2000, 0.8)


@pytest.mark.parametrize(
    ("kind", "centre", "expected"),
    [
        ("gain", 3.0, "supported"),
        ("gain", 0.3, "supported"),
        ("gain", 0.0, "not supported"),
        ("gain", -2.0, "not supported"),
        ("no_gain", 0.0, "supported"),
        ("no_gain", 1.0, "undecided"),
        ("no_gain", 3.0, "not supported"),
        ("no_regret", 0.0, "supported"),
        ("no_regret", -1.0, "undecided"),
        ("no_regret", -3.0, "not supported"),
    ],
)
def test_a_clear_case_of_each_claim_is_decided_as_its_rule_says(kind, centre, expected):
    differences = [centre + noise for noise in (-0.1, 0.1, -0.05, 0.05)]
    assert verdicts([claim_tests(kind, differences, 1.0)]) == [expected]


def test_noise_that_hides_everything_leaves_all_undecided():
    differences = [-5.0, 5.0, -4.0, 4.5]
    for kind in ("gain", "no_gain", "no_regret"):
        assert verdicts([claim_tests(kind, differences, 1.0)]) == ["undecided"]


def test_more_claims_make_each_of_them_harder():
    edge = PValues(for_it=0.02, against_it=0.9)
    assert verdicts([edge]) == ["supported"]
    assert verdicts([edge, PValues(for_it=0.5, against_it=0.5)]) == ["undecided", "undecided"]
