"""What is decided: positive controls, claims, and their verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rins_mm.study.contrasts import WORST_GAP, Record, gap, paired
from rins_mm.study.design import Claim, StudyConfig
from rins_mm.study.statistics import (
    ALPHA,
    RULES,
    Estimate,
    claim_tests,
    estimate,
    holm,
    p_greater,
    verdicts,
)


def positive_controls(study: StudyConfig, runs: Sequence[Record]) -> list[dict[str, Any]]:
    """Whether an unshared deeper tower beats its control at equal samples by the primary endpoint.

    Else the data cannot tell what depth is worth.
    """
    found = []
    for control in study.positive_controls:
        pairs = paired(runs, control.arm, control.control, study.endpoints[0])
        p_value = p_greater(list(pairs.values()), 0.0) if pairs else 1.0
        is_complete = len(pairs) >= study.seeds_of(study.arm(control.arm))
        is_fair = gap(runs, control.arm, control.control, "samples") <= WORST_GAP
        found.append(
            {
                "tower": control.tower,
                "arm": control.arm,
                "control": control.control,
                "endpoint": study.endpoints[0].title,
                "p_value": p_value,
                "passed": is_complete and is_fair and p_value <= ALPHA / 2,
                **differences_of(pairs),
            }
        )
    return found


def decide(
    study: StudyConfig, runs: Sequence[Record], controls: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The claims with their verdicts; all are undecided until every planned seed is there."""
    pairs = [paired(runs, c.arm, c.control, c.endpoint, c.variant) for c in study.claims]
    tests = [
        claim_tests(claim.kind, list(some.values()), claim.delta)
        for claim, some in zip(study.claims, pairs, strict=True)
        if some
    ]
    # Holm's correction is over all claims: the last one to be complete may still change the verdicts of the others.
    waiting = [
        claim.name
        for claim, some in zip(study.claims, pairs, strict=True)
        if len(some) < study.seeds
    ]
    if len(tests) < len(study.claims):
        tests = []
    found = verdicts(tests) if tests else ["undecided"] * len(study.claims)
    for_it = holm([test.for_it for test in tests]) or [1.0] * len(pairs)
    against = holm([test.against_it for test in tests]) or [1.0] * len(pairs)
    decided = []
    for number, claim in enumerate(study.claims):
        reason = obstacle(study, claim, runs, len(pairs[number]), controls)
        if waiting and not reason:
            reason = (
                f"all claims are decided together, and {waiting[0]!r} has not all its seeds yet"
            )
        decided.append(
            {
                "claim": claim.name,
                "arm": claim.arm,
                "control": claim.control,
                "depth": claim.variant or "trained",
                "endpoint": claim.endpoint.title,
                "kind": claim.kind,
                "delta": claim.delta,
                "rule": RULES[claim.kind],
                "p_for": for_it[number],
                "p_against": against[number],
                "verdict": "undecided" if reason else found[number],
                "reason": reason,
                "other_endpoints": other_endpoints(study, claim, runs),
                **differences_of(pairs[number]),
            }
        )
    return decided


def obstacle(
    study: StudyConfig,
    claim: Claim,
    runs: Sequence[Record],
    num_pairs: int,
    controls: Sequence[Mapping[str, Any]],
) -> str:
    """Why a claim cannot be decided whatever its numbers say; empty: it can."""
    if num_pairs < study.seeds:
        return f"{num_pairs} of the {study.seeds} planned seeds are there"
    match = study.arm(claim.arm).match or study.match
    if (unlike := gap(runs, claim.arm, claim.control, match)) > WORST_GAP:
        return f"what {claim.arm} and {claim.control} spent differs by up to {unlike:.1%}"
    failed = [c["arm"] for c in controls if c["tower"] == claim.tower and not c["passed"]]
    if failed:
        return f"the positive control of the {claim.tower} tower, {failed[0]}, was not shown to beat plain"
    return ""


def other_endpoints(
    study: StudyConfig, claim: Claim, runs: Sequence[Record]
) -> list[dict[str, Any]]:
    """The claim's difference by the study's other endpoints: reported, and not decisive."""
    others = [endpoint for endpoint in study.endpoints if endpoint != claim.endpoint]
    return [
        {
            "endpoint": endpoint.title,
            **differences_of(paired(runs, claim.arm, claim.control, endpoint, claim.variant)),
        }
        for endpoint in others
    ]


def differences_of(pairs: Mapping[int, float]) -> dict[str, Any]:
    """The differences of seeds, their mean and its interval."""
    found = estimate(list(pairs.values())) if pairs else Estimate(
        mean=0.0, low=float("-inf"), high=float("inf"), deviation=0.0, num_seeds=0
    )  # fmt: skip
    return {
        **asdict(found),
        "differences": [[seed, difference] for seed, difference in pairs.items()],
    }
