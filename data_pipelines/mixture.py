"""Which of several sources stands at each place of the training stream, by their weights.

Places are cut into rounds. Every round holds each source equally often, in an order drawn from (seed,
round), so the share of a source is exact in every round and any place is found without those before
it. Where a source ends for good a new phase begins, in which the others share its places.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from data_pipelines.errors import UserError
from data_pipelines.order import permutation

ROUND_SIZE = 65_536
"""Places of a round: weights are kept to one part in so many."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Some neighbouring shards of a data set, and how they are mixed with the others."""

    num_shards: int
    weight: float = 1.0
    """Its share of the places, beside the weights of the others."""
    epochs: int = 0
    """How often its samples come before it ends; 0: without end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Phase:
    start: int
    """First place."""
    stop: int | None
    """The place after the last one; None where the phase has no end."""
    before: Int64[np.ndarray, " S"]
    """How many samples each source has given before."""
    counts: Int64[np.ndarray, " S"]
    """How many places of a round each source has."""


class Mixture:
    """A pure function of (sources, sizes, seed): place -> (source, how many of its samples came before).

    `sizes` are samples per epoch of each source. Raises UserError for weights that cannot be kept.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        sizes: Sequence[int],
        *,
        seed: int,
        round_size: int = ROUND_SIZE,
    ) -> None:
        wrong = [source.weight for source in sources if not 0 < source.weight < math.inf]
        if wrong:
            raise UserError(f"a source has the weight {wrong[0]}; weights are numbers above 0")
        self._seed = seed
        self._round_size = round_size
        weights = [source.weight for source in sources]
        limits = [s.epochs * size or None for s, size in zip(sources, sizes, strict=True)]
        self._phases = _phases(weights, limits, seed, round_size)
        self._latest_round = ((-1, -1), _NOTHING, _NOTHING)
        self.length = self._phases[-1].stop
        """How many places there are; None where a source comes again without end."""

    def __getitem__(
        self, places: slice
    ) -> tuple[Int64[np.ndarray, " places"], Int64[np.ndarray, " places"]]:
        """Sources at `places` (a slice with both ends), and how many of their samples came before."""
        sources, ordinals = [_NOTHING], [_NOTHING]
        for number, phase in enumerate(self._phases):
            start = max(places.start, phase.start)
            stop = places.stop if phase.stop is None else min(places.stop, phase.stop)
            while start < stop:
                round_number, first = divmod(start - phase.start, self._round_size)
                last = min(self._round_size, first + stop - start)
                here, ranks = (array[first:last] for array in self._round(number, round_number))
                sources.append(here)
                ordinals.append((phase.before + round_number * phase.counts)[here] + ranks)
                start += last - first
        return np.concatenate(sources), np.concatenate(ordinals)

    def _round(self, phase: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        latest, here, ranks = self._latest_round
        if latest != (phase, number):
            here, ranks = _round(self._phases[phase].counts, self._seed, phase, number)
            self._latest_round = ((phase, number), here, ranks)
        return here, ranks


_NOTHING = np.empty(0, dtype=np.int64)


def _round(
    counts: Int64[np.ndarray, " S"], seed: int, phase: int, number: int
) -> tuple[Int64[np.ndarray, " places"], Int64[np.ndarray, " places"]]:
    """Sources of the places of a round, and for each how many of the same source stand before it."""
    here = np.repeat(np.arange(len(counts)), counts)
    if np.count_nonzero(counts) > 1:
        here = here[permutation(len(here), "mixture", seed, phase, number)]
    ranks = np.empty_like(here)
    for source, count in enumerate(counts.tolist()):
        ranks[here == source] = np.arange(count)
    return here, ranks


def _phases(
    weights: Sequence[float], limits: Sequence[int | None], seed: int, round_size: int
) -> tuple[_Phase, ...]:
    """In each phase, the sources that have not given all of their samples share the places."""
    phases: list[_Phase] = []
    start, before = 0, np.zeros(len(weights), dtype=np.int64)
    while True:
        left = [
            limit and limit - given for limit, given in zip(limits, before.tolist(), strict=True)
        ]
        if not any(number is None or number > 0 for number in left):
            return tuple(phases)
        going = [0.0 if n == 0 else w for n, w in zip(left, weights, strict=True)]
        counts = _counts(going, round_size)
        ends = [
            _end(counts, source, number, seed, len(phases))
            for source, number in enumerate(left)
            if number
        ]
        stop = start + min(ends) if ends else None
        phases.append(_Phase(start=start, stop=stop, before=before, counts=counts))
        if stop is None:
            return tuple(phases)
        round_number, places = divmod(stop - start, round_size)
        here, _ = _round(counts, seed, len(phases) - 1, round_number)
        given = np.bincount(here[:places], minlength=len(weights))
        start, before = stop, before + round_number * counts + given


def _end(counts: Int64[np.ndarray, " S"], source: int, number: int, seed: int, phase: int) -> int:
    """How many places of a phase it takes until a source has given `number` samples."""
    round_number, rank = divmod(number - 1, int(counts[source]))
    here, _ = _round(counts, seed, phase, round_number)
    return round_number * len(here) + int(np.flatnonzero(here == source)[rank]) + 1


def _counts(weights: Sequence[float], round_size: int) -> Int64[np.ndarray, " S"]:
    """Whole numbers that sum to `round_size` and are nearest to the weights' shares of it."""
    shares = [Fraction(weight) for weight in weights]
    exact = [share * round_size / sum(shares) for share in shares]
    counts = [math.floor(share) for share in exact]
    largest_rests = sorted(range(len(counts)), key=lambda source: counts[source] - exact[source])
    for source in largest_rests[: round_size - sum(counts)]:
        counts[source] += 1
    for weight, count in zip(weights, counts, strict=True):
        if weight > 0 and count == 0:
            raise UserError(
                f"the weight {weight:g} of a source is less than one part in {round_size:,} of all "
                "weights together; raise it, or leave the source out"
            )
    return np.array(counts, dtype=np.int64)
