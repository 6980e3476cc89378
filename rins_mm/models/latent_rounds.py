"""How often the core of a latent-thinking tower runs (Geiping et al., arXiv 2502.05171): log-normal Poisson."""

import math
from collections.abc import Iterator
from statistics import NormalDist

RATES = 512
"""Points at which the law of the rate is read, for means."""


def latent_rounds(mean: int, sigma: float, uniforms: Iterator[float]) -> int:
    """One round and a Poisson number of further ones; the logarithm of its rate is normal.

    Over uniform draws the mean is `mean`. Two draws at least are taken from `uniforms`.
    """
    # Both by inversion: the outcome is the same with every version of every library.
    rate = _rate(mean, sigma, next(uniforms))
    rest, rounds, chance = next(uniforms), 1, math.exp(-rate)
    while rest >= chance and rounds < 16 * mean:
        rest -= chance
        chance *= rate / rounds
        rounds += 1
    return rounds


def mean_rounds_up_to(mean: int, sigma: float, most: int) -> float:
    """The mean of the number of rounds where all above `most` count as that many."""
    total = 0.0
    for point in range(RATES):
        rate = _rate(mean, sigma, (point + 0.5) / RATES)
        chance, left = math.exp(-rate), 1.0
        # One round is certain; each further one counts with the chance that it runs.
        total += 1.0
        for further in range(1, most):
            left -= chance
            total += left
            chance *= rate / further
    return total / RATES


def _rate(mean: int, sigma: float, uniform: float) -> float:
    if mean <= 1:
        return 0.0
    normal = NormalDist().inv_cdf(min(max(uniform, 1e-12), 1 - 1e-12))
    return math.exp(math.log(mean - 1) - sigma**2 / 2 + sigma * normal)
