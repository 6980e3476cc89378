"""From records to results: what each arm came to, what differs, and what is decided."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from data_pipelines.errors import UserError
from rins_mm.study.contrasts import (
    SPENDINGS,
    Record,
    by_seed,
    depths_of,
    neighbours,
    paired,
    paired_at,
    value_of,
)
from rins_mm.study.decisions import decide, differences_of, positive_controls
from rins_mm.study.design import HELD_OUT_LOSS, Arm, Endpoint, StudyConfig
from rins_mm.study.preparation import pilot_results, tuning_results
from rins_mm.study.scaling_law import compare, fit_laws
from rins_mm.study.statistics import RULE, RULES, estimate


def analyse(
    study: StudyConfig, runs: Sequence[Record], pilot: Sequence[Record], tuning: Sequence[Record]
) -> dict[str, Any]:
    """All results of a study, as far as it has come. Raises UserError for runs on different held-out batches."""
    check_same_batches(runs)
    controls = positive_controls(study, runs)
    return {
        "name": study.name,
        "purpose": study.purpose,
        "notes": list(study.notes),
        "seeds": study.seeds,
        "num_runs": len(runs),
        "num_runs_planned": sum(map(study.seeds_of, study.arms)),
        "training_hours": sum(record["training_seconds"] for record in runs) / 3600,
        "rule": RULE,
        "rules": {kind: RULES[kind] for kind in dict.fromkeys(c.kind for c in study.claims)},
        "arms": [arm_results(study, arm, runs) for arm in study.arms if by_seed(runs, arm.name)],
        "contrasts": contrasts(study, runs),
        "dial": [d for arm in study.arms for e in study.endpoints if (d := dial(arm, e, runs))],
        "positive_controls": controls,
        "claims": decide(study, runs, controls),
        "pilot": pilot_results(study, pilot),
        "tuning": tuning_results(study, tuning),
        "scaling": scaling_results(study, runs),
    }


def check_same_batches(runs: Sequence[Record]) -> None:
    """Refuse losses of different batches beside each other."""
    marks = {record["held_out"]["fingerprint"]: record for record in runs}
    if len(marks) > 1:
        one, other, *_ = marks.values()
        raise UserError(
            f"{one['arm']}-{one['seed']} and {other['arm']}-{other['seed']} were measured on different "
            "held-out batches; remove the records that were made with other data, and run again"
        )


def arm_results(study: StudyConfig, arm: Arm, runs: Sequence[Record]) -> dict[str, Any]:
    """What the runs of an arm came to at their trained depth, and what they spent."""
    records = by_seed(runs, arm.name)
    control = by_seed(runs, arm.control)
    shared = sorted(records.keys() & control.keys())
    first = next(iter(records.values()))
    return {
        "name": arm.name,
        "role": arm.role,
        "control": arm.control,
        "match": arm.match or study.match,
        "seeds": sorted(records),
        "seeds_planned": study.seeds_of(arm),
        "learning_rate": first["config"]["optimizer"]["peak_learning_rate"],
        "parameters": first["parameters"],
        "depth": first["trained_depth"],
        "steps": _mean([float(record["steps"]) for record in records.values()]),
        "spent": {name: _mean([r["spent"][name] for r in records.values()]) for name in SPENDINGS},
        "spent_of_control": {
            name: _mean([records[s]["spent"][name] / control[s]["spent"][name] for s in shared])
            for name in SPENDINGS
            if shared
        },
        "endpoints": [
            {
                "endpoint": endpoint.title,
                **asdict(estimate([value_of(r, endpoint) for r in records.values()])),
                "over_items": over_items(list(records.values()), endpoint),
            }
            for endpoint in study.endpoints
        ],
    }


def over_items(records: Sequence[Record], endpoint: Endpoint) -> float | None:
    """Half the width of the mean interval over test items of one run, which says nothing about seeds."""
    widths = [
        (result["intervals"][endpoint.metric][1] - result["intervals"][endpoint.metric][0]) / 2
        for record in records
        for result in record["results"]
        if (result["name"], result["variant"]) == (endpoint.task, record["trained_depth"])
        and (result.get("intervals") or {}).get(endpoint.metric)
    ]
    return _mean(widths) if widths else None


def contrasts(study: StudyConfig, runs: Sequence[Record]) -> list[dict[str, Any]]:
    """Each arm against its control: at the end of the runs, and at equal spending of each kind."""
    found = []
    for arm in study.arms:
        for endpoint in study.endpoints if arm.control else ():
            common = {"arm": arm.name, "control": arm.control, "endpoint": endpoint.title,
                      "role": arm.role}  # fmt: skip
            if at_end := paired(runs, arm.name, arm.control, endpoint):
                match = arm.match or study.match
                found.append(
                    {**common, "at": "end", "match": match, "unfinished": []}
                    | differences_of(at_end)
                )
            for spending in SPENDINGS:
                equal, unfinished = paired_at(runs, arm.name, arm.control, endpoint, "", spending)
                if equal:
                    found.append(
                        {**common, "at": spending, "match": spending, "unfinished": unfinished}
                        | differences_of(equal)
                    )
    return found


def dial(arm: Arm, endpoint: Endpoint, runs: Sequence[Record]) -> dict[str, Any] | None:
    """An arm at each depth of its text tower, and each depth against the one before; None for one depth."""
    depths = depths_of(runs, arm.name)
    if len(depths) < 2:
        return None
    records = by_seed(runs, arm.name).values()
    return {
        "arm": arm.name,
        "endpoint": endpoint.title,
        "is_loss": endpoint.is_loss,
        "depths": [
            {"depth": depth, **asdict(estimate([value_of(r, endpoint, depth) for r in records]))}
            for depth in depths
        ],
        "adjacent": [
            {
                "shallow": shallow,
                "deep": deep,
                **asdict(estimate(neighbours(runs, arm.name, endpoint, shallow, deep))),
            }
            for shallow, deep in pairwise(depths)
        ],
    }


def scaling_results(study: StudyConfig, runs: Sequence[Record]) -> list[dict[str, Any]]:
    """The laws of the study's kinds of arms, each with its own floor and with one for all."""
    points = {
        law.name: [
            (record["spent"]["flops"], value_of(record, HELD_OUT_LOSS))
            for name in law.arms
            for record in by_seed(runs, name).values()
        ]
        for law in study.scaling
    }
    if not points or any(not by_seed(runs, name) for law in study.scaling for name in law.arms):
        return []
    results = []
    for shared in (False, True):
        laws = fit_laws(points, shared_floor=shared)
        control, *others = laws
        comparisons = [
            f"{other} against {control}, "
            + compare(
                name, getattr(laws[other], key), getattr(laws[control], key), more_is_better=up
            )
            for other in others
            for name, key, up in (("exponent c", "c", True), ("floor", "eps_inf", False))
            if not (shared and key == "eps_inf")
        ]
        results.append(
            {
                "shared_floor": shared,
                "laws": {name: asdict(law) for name, law in laws.items()},
                "points": {name: [list(point) for point in some] for name, some in points.items()},
                "comparisons": comparisons,
            }
        )
    return results


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
