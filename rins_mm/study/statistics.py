"""What paired runs say: intervals of differences, Holm's correction, verdicts, and how many seeds it takes.

A seed is a pair: arm and control share it, so their difference is the datum, and Student's t over
the seeds is the law. There is no bootstrap over seeds: over three or five of them its percentiles cover
far less than they say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

ALPHA = 0.05
"""The chance, over all claims of a study, that a verdict other than 'undecided' is wrong; half for each direction."""

ROUNDING = 1e-12
"""Shares of a value by which sums of equal values differ."""

ClaimKind = Literal["gain", "no_gain", "no_regret"]
Verdict = Literal["supported", "not supported", "undecided"]

RULES: dict[ClaimKind, str] = {
    "gain": "supported if the difference is shown to be greater than 0; otherwise not supported if it is shown "
    "to be less than delta",
    "no_gain": "supported if the difference is shown to be less than delta; not supported if it is shown to be "
    "greater than delta",
    "no_regret": "supported if the difference is shown to be greater than minus delta; not supported if it is "
    "shown to be less than minus delta",
}
"""Of each kind of claim, when it is supported. What neither holds for is undecided."""

RULE = (
    "Differences are paired by seed, and signed so that more is better for the arm. Something is shown "
    "where its one-sided t test has a p-value of at most 0.025 after Holm's correction over the claims "
    "of the study; a claim whose tower failed its positive control is undecided whatever its arm does."
)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds, with its t interval."""

    mean: float
    low: float
    high: float
    deviation: float
    """Standard deviation between seeds; 0 where there is one."""
    num_seeds: int


@dataclass(frozen=True, kw_only=True)
class PValues:
    """The two one-sided p-values of a claim, before any correction."""

    for_it: float
    against_it: float


def estimate(values: Sequence[float], *, confidence: float = 1 - ALPHA) -> Estimate:
    """The mean of independent values and its two-sided t interval, infinite for a single value."""
    data = np.asarray(values, dtype=np.float64)
    number, mean = len(data), float(data.mean())
    if number < 2:
        return Estimate(mean=mean, low=-math.inf, high=math.inf, deviation=0.0, num_seeds=number)
    deviation = float(data.std(ddof=1))
    if deviation <= ROUNDING * abs(mean):
        deviation = 0.0
    half = float(stats.t.ppf(0.5 + confidence / 2, number - 1)) * deviation / math.sqrt(number)
    return Estimate(
        mean=mean, low=mean - half, high=mean + half, deviation=deviation, num_seeds=number
    )


def p_greater(differences: Sequence[float], than: float) -> float:
    """The one-sided p-value of 'the mean difference is greater': that of the t test of 'it is at most this'."""
    found = estimate(differences)
    if found.num_seeds < 2:
        return 1.0
    if found.deviation == 0.0:
        # Differences that never vary are no sample of anything: only their sign can be said.
        return 0.0 if found.mean - than > ROUNDING * abs(than) else 1.0
    statistic = (found.mean - than) / (found.deviation / math.sqrt(found.num_seeds))
    return float(stats.t.sf(statistic, found.num_seeds - 1))


def p_less(differences: Sequence[float], than: float) -> float:
    """The one-sided p-value of 'the mean difference is less'."""
    return p_greater([-value for value in differences], -than)


def claim_tests(kind: ClaimKind, differences: Sequence[float], delta: float) -> PValues:
    """The p-values of a claim and of its opposite, as RULES says them."""
    if kind == "gain":
        return PValues(for_it=p_greater(differences, 0.0), against_it=p_less(differences, delta))
    if kind == "no_gain":
        return PValues(for_it=p_less(differences, delta), against_it=p_greater(differences, delta))
    return PValues(for_it=p_greater(differences, -delta), against_it=p_less(differences, -delta))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values after Holm's step-down correction, in the order given."""
    number = len(p_values)
    adjusted, highest = [1.0] * number, 0.0
    for rank, index in enumerate(sorted(range(number), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (number - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def verdicts(tests: Sequence[PValues]) -> list[Verdict]:
    """One verdict per claim, each direction corrected over all claims.

    Of the two hypotheses that a claim's tests could reject wrongly at most one is true (both only where the
    difference is delta to the last digit), so the two directions share ALPHA between them.
    """
    found: list[Verdict] = []
    pairs = zip(holm([t.for_it for t in tests]), holm([t.against_it for t in tests]), strict=True)
    for for_it, against_it in pairs:
        if for_it <= ALPHA / 2:
            found.append("supported")
        else:
            found.append("not supported" if against_it <= ALPHA / 2 else "undecided")
    return found


def power(effect: float, deviation: float, num_seeds: int, *, level: float = ALPHA / 2) -> float:
    """The chance that a one-sided paired t test at this level finds a true difference of `effect`."""
    freedom = num_seeds - 1
    critical = float(stats.t.ppf(1 - level, freedom))
    return float(stats.nct.sf(critical, freedom, effect / deviation * math.sqrt(num_seeds)))


def detectable_effect(
    deviation: float, num_seeds: int, *, level: float = ALPHA / 2, wanted: float = 0.8
) -> float:
    """The least true difference that is found with the chance `wanted`, where pairs differ by `deviation`."""
    if deviation == 0.0:
        return 0.0

    def lacking(effect: float) -> float:
        return power(effect, deviation, num_seeds, level=level) - wanted

    upper = deviation
    while lacking(upper) < 0:
        upper *= 2
    return float(optimize.brentq(lacking, 0.0, upper))


def seeds_needed(
    effect: float,
    deviation: float,
    *,
    level: float = ALPHA / 2,
    wanted: float = 0.8,
    most: int = 1000,
) -> int | None:
    """The fewest seeds with which a difference of `effect` is found with the chance `wanted`; None: over `most`."""
    for number in range(2, most + 1):
        if deviation == 0.0 or power(effect, deviation, number, level=level) >= wanted:
            return number
    return None


def deviation_bound(deviation: float, num_seeds: int, *, confidence: float = 0.8) -> float:
    """An upper bound of the true standard deviation: a pilot of three seeds knows it badly."""
    freedom = num_seeds - 1
    return deviation * math.sqrt(freedom / float(stats.chi2.ppf(1 - confidence, freedom)))
