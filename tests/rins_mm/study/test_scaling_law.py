"""Scaling laws that are known come back, with intervals that cover them."""

import math

import numpy as np
import pytest

from data_pipelines.errors import UserError
from rins_mm.study.scaling_law import Parameter, compare, fit_laws

BUDGETS = [1e12 * 10 ** (1.5 * part / 6) for part in range(7)]


def points(beta: float, c: float, floor: float, noise: float, generator) -> list:
    unit = math.exp(float(np.mean(np.log(BUDGETS))))
    return [
        (x, beta * (x / unit) ** -c + floor + noise * generator.normal())
        for x in BUDGETS
        for _ in range(2)
    ]


def test_a_law_without_noise_comes_back_exactly():
    generator = np.random.default_rng(0)
    law = fit_laws({"plain": points(0.4, 0.5, 0.2, 0.0, generator)}, shared_floor=False)["plain"]
    assert (law.beta.value, law.c.value, law.eps_inf.value) == pytest.approx((0.4, 0.5, 0.2), 1e-4)
    assert law.at(BUDGETS[0]) == pytest.approx(points(0.4, 0.5, 0.2, 0.0, generator)[0][1])


def test_intervals_of_the_exponent_cover_it_as_often_as_they_say():
    generator = np.random.default_rng(3)
    trials, covered = 60, 0
    for _ in range(trials):
        law = fit_laws({"a": points(0.4, 0.6, 0.2, 0.003, generator)}, shared_floor=False)["a"]
        covered += law.c.low <= 0.6 <= law.c.high
    # The delta method is not exact: the binomial error, and two points for the method.
    assert covered / trials >= 0.95 - 0.02 - 3 * math.sqrt(0.95 * 0.05 / trials)


def test_a_shared_floor_is_one_number_and_narrows_the_exponents():
    generator = np.random.default_rng(5)
    arms = {
        "plain": points(0.4, 0.4, 0.2, 0.003, generator),
        "rins": points(0.35, 0.5, 0.2, 0.003, generator),
    }
    own, shared = fit_laws(arms, shared_floor=False), fit_laws(arms, shared_floor=True)
    assert shared["plain"].eps_inf == shared["rins"].eps_inf
    assert own["plain"].eps_inf != own["rins"].eps_inf
    for arm in arms:
        assert shared[arm].c.high - shared[arm].c.low < own[arm].c.high - own[arm].c.low


def test_overlapping_intervals_decide_nothing():
    one, other = Parameter(value=0.4, low=0.3, high=0.5), Parameter(value=0.5, low=0.45, high=0.6)
    assert "undecided" in compare("c", other, one, more_is_better=True)
    apart = Parameter(value=0.9, low=0.7, high=1.0)
    assert "better" in compare("c", apart, one, more_is_better=True)
    assert "worse" in compare("floor", apart, one, more_is_better=False)


def test_four_budgets_are_too_few_for_a_law():
    with pytest.raises(UserError, match="plain has 4 budgets; it needs at least 5"):
        fit_laws({"plain": [(float(x), 1.0) for x in range(1, 5)]}, shared_floor=False)
