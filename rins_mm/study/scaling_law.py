"""Scaling laws: eps(x) = beta x^-c + eps_inf by least squares, with intervals.

Intervals are by the delta method: the covariance of the fit, from its Jacobian and the variance of the
residuals, with Student's t of (points - parameters) degrees of freedom. beta and c are fitted by their
logarithms, so that their intervals stay positive; eps_inf is fitted by itself, and its interval may reach
below 0, where it says that the data do not know a floor.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from data_pipelines.errors import UserError

LEAST_POINTS = 5
"""Budgets that a curve of three numbers needs, so that residuals are left to judge it by."""
STARTS = (0.1, 0.3, 0.6, 1.0)
"""Values of c from which a fit begins; the best of them counts."""
MOST_EXPONENT = math.log(1e4)
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A number of the law with its interval."""

    value: float
    low: float
    high: float

    def overlaps(self, other: "Parameter") -> bool:
        """Whether the two intervals have a number in common: then which is greater is undecided."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True, kw_only=True)
class Law:
    """The law of one arm. x is measured in units of `unit`, the geometric mean of all budgets."""

    unit: float
    beta: Parameter
    c: Parameter
    eps_inf: Parameter
    residual: float
    """Root of the mean square of what the law does not explain, per degree of freedom."""

    def at(self, x: float) -> float:
        """The law's value at a budget."""
        return self.beta.value * (x / self.unit) ** -self.c.value + self.eps_inf.value


Points = Sequence[tuple[float, float]]
"""(budget, error) of single runs; several seeds at one budget are several points."""


def fit_laws(points: Mapping[str, Points], *, shared_floor: bool) -> dict[str, Law]:
    """The law of each arm, of their own eps_inf, or with one eps_inf for all. Raises UserError for too few budgets."""
    for arm, some in points.items():
        if len({x for x, _ in some}) < LEAST_POINTS:
            raise UserError(
                f"the scaling law of {arm} has {len({x for x, _ in some})} budgets; "
                f"it needs at least {LEAST_POINTS}"
            )
    unit = math.exp(float(np.mean([math.log(x) for some in points.values() for x, _ in some])))
    if shared_floor:
        return _fit(points, unit)
    return {arm: _fit({arm: some}, unit)[arm] for arm, some in points.items()}


def _fit(points: Mapping[str, Points], unit: float) -> dict[str, Law]:
    """Laws that share their floor: parameters are (log beta, log c) of each arm, and eps_inf."""
    arms = list(points)
    numbers = np.repeat(np.arange(len(arms)), [len(points[arm]) for arm in arms])
    log_x = np.log([x / unit for arm in arms for x, _ in points[arm]])
    y = np.array([value for arm in arms for _, value in points[arm]])

    def residuals(theta: np.ndarray) -> np.ndarray:
        log_beta, log_c = theta[0:-1:2][numbers], theta[1:-1:2][numbers]
        # A trial step of the search may be wild; the law itself never is.
        exponent = log_beta - np.exp(np.clip(log_c, -20.0, 5.0)) * log_x
        return np.exp(np.clip(exponent, -MOST_EXPONENT * 5, MOST_EXPONENT * 5)) + theta[-1] - y

    spread = max(float(np.ptp(y)), 1e-12)
    fits = []
    for c in STARTS:
        start = np.array(
            [math.log(spread), math.log(c)] * len(arms) + [float(y.min()) - spread / 4]
        )
        fits.append(optimize.least_squares(residuals, start, x_scale="jac", max_nfev=5000))
    best = min(fits, key=lambda fit: float(fit.cost))
    freedom = len(y) - len(best.x)
    variance = 2 * float(best.cost) / freedom
    deviations = np.sqrt(np.diag(np.linalg.pinv(best.jac.T @ best.jac)) * variance)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * deviations
    low, high = best.x - half, best.x + half
    floor = Parameter(value=float(best.x[-1]), low=float(low[-1]), high=float(high[-1]))

    def positive(index: int) -> Parameter:
        ends = np.exp(np.clip([best.x[index], low[index], high[index]], -700, 700))
        return Parameter(value=float(ends[0]), low=float(ends[1]), high=float(ends[2]))

    return {
        arm: Law(
            unit=unit,
            beta=positive(2 * number),
            c=positive(2 * number + 1),
            eps_inf=floor,
            residual=math.sqrt(variance),
        )
        for number, arm in enumerate(arms)
    }


def compare(name: str, arm: Parameter, control: Parameter, *, more_is_better: bool) -> str:
    """One sentence on a number of two laws; 'undecided' where the intervals overlap."""
    if arm.overlaps(control):
        return f"{name}: undecided, the intervals overlap"
    is_better = (arm.value > control.value) == more_is_better
    return f"{name}: {'better' if is_better else 'worse'}, the intervals are apart"
