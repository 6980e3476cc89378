"""What comes before a study: how many seeds it takes, by a pilot, and which learning rates were chosen."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rins_mm.study.contrasts import Record, by_seed, value_of
from rins_mm.study.design import StudyConfig
from rins_mm.study.statistics import (
    ALPHA,
    detectable_effect,
    deviation_bound,
    estimate,
    seeds_needed,
)


def pilot_results(study: StudyConfig, pilot: Sequence[Record]) -> list[dict[str, Any]]:
    """What differences the planned seeds can find, judged by how much the plain arm varies.

    Without pairs to go by, arm and control count as independent: a difference then varies by the root
    of two more. Pairing can only do better than that where seeds have something in common.
    """
    plain = list(by_seed(pilot, study.arms[0].name).values())
    found = []
    for endpoint in study.endpoints if len(plain) > 1 else ():
        single = estimate([value_of(record, endpoint) for record in plain])
        level = ALPHA / 2 / max(1, len(study.claims))
        deltas = [claim.delta for claim in study.claims if claim.endpoint == endpoint]
        for name, deviation in (
            ("as measured", single.deviation),
            ("upper bound (80 %)", deviation_bound(single.deviation, single.num_seeds)),
        ):
            of_pairs = deviation * 2**0.5
            found.append(
                {
                    "endpoint": endpoint.title,
                    "deviation": name,
                    "of_difference": of_pairs,
                    "plain": asdict(single),
                    "detectable": detectable_effect(of_pairs, study.seeds, level=level),
                    "delta": min(deltas) if deltas else None,
                    "seeds_for_delta": (
                        seeds_needed(min(deltas), of_pairs, level=level) if deltas else None
                    ),
                }
            )
    return found


def tuning_results(study: StudyConfig, tuning: Sequence[Record]) -> list[dict[str, Any]]:
    """The loss on `val` of each arm at each rate, and whether the best one lies at the edge of the search."""
    found = []
    for arm in study.arms if study.tuning is not None else ():
        losses = {
            record["config"]["optimizer"]["peak_learning_rate"]: min(
                record["held_out"]["losses"].values()
            )
            for record in tuning
            if record["arm"] == arm.name
        }
        if losses:
            best = min(losses, key=lambda rate: losses[rate])
            found.append(
                {
                    "arm": arm.name,
                    "losses": [[rate, losses[rate]] for rate in sorted(losses)],
                    "best": best,
                    "at_edge": best in (min(losses), max(losses)),
                }
            )
    return found
