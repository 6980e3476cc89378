"""Numbers of records, and their differences paired by seed: at the end of runs, and at equal spending."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from data_pipelines.errors import UserError
from rins_mm.study.design import Endpoint

Record = Mapping[str, Any]
Spending = Literal["flops", "samples", "layer_steps"]
SPENDINGS: tuple[Spending, ...] = ("flops", "samples", "layer_steps")

WORST_GAP = 0.01
"""Share by which the spending of matched runs may differ."""

END_OF_RUN = 0.99
"""A run that is read at this share of its spending or later is read at its end."""

HOW_INTERPOLATED = (
    "Read from the evaluations during training, for each seed at what the thriftier of the two runs had "
    "spent at its end, linearly between the two neighbouring evaluations; nothing is extrapolated. The "
    "other run is read before its learning rate has come down, which counts against it."
)


def value_of(record: Record, endpoint: Endpoint, variant: str = "") -> float:
    """The endpoint of a run at a depth of its text tower; empty: the trained one. Raises UserError."""
    depth = variant or record["trained_depth"]
    if endpoint.is_loss:
        numbers = record["held_out"]["losses"]
        if depth in numbers:
            return float(numbers[depth])
    for result in record["results"]:
        is_asked = (result["name"], result["variant"]) == (endpoint.task, depth)
        if is_asked and endpoint.metric in result["metrics"]:
            return float(result["metrics"][endpoint.metric])
    raise UserError(
        f"the record of {record['arm']}, seed {record['seed']}, has no {endpoint.title} at {depth}; "
        "name a depth and a metric that the study measures"
    )


def value_at(
    record: Record, endpoint: Endpoint, variant: str, spending: Spending, amount: float
) -> float | None:
    """The endpoint when the run had spent `amount`; None where its curve does not have it there."""
    depth = variant or record["trained_depth"]
    datasets = [r["dataset"] for r in record["results"] if r["name"] == endpoint.task]
    if endpoint.is_loss or not datasets:
        return None
    key = f"{datasets[0]}/{depth}/{endpoint.metric}"
    points = [(p[spending], p["metrics"][key]) for p in record["curve"] if key in p["metrics"]]
    if not points or not points[0][0] <= amount <= points[-1][0]:
        return None
    spent, values = zip(*points, strict=True)
    return float(np.interp(amount, spent, values))


def by_seed(records: Sequence[Record], arm: str) -> dict[int, Record]:
    """The records of an arm."""
    return {record["seed"]: record for record in records if record["arm"] == arm}


def gap(records: Sequence[Record], arm: str, control: str, match: Spending) -> float:
    """The largest share by which a run of the arm spent more or less than its control with the same seed."""
    ours, theirs = by_seed(records, arm), by_seed(records, control)
    return max(
        (
            abs(ours[seed]["spent"][match] / theirs[seed]["spent"][match] - 1)
            for seed in ours.keys() & theirs.keys()
        ),
        default=0.0,
    )


def paired(
    records: Sequence[Record], arm: str, control: str, endpoint: Endpoint, variant: str = ""
) -> dict[int, float]:
    """By how much the arm is better than its control, for each seed that both have, at the end of the runs.

    `variant` is the arm's depth; the control is at its trained one.
    """
    ours, theirs = by_seed(records, arm), by_seed(records, control)
    sign = -1.0 if endpoint.is_loss else 1.0
    return {
        seed: sign * (value_of(ours[seed], endpoint, variant) - value_of(theirs[seed], endpoint))
        for seed in sorted(ours.keys() & theirs.keys())
    }


def paired_at(
    records: Sequence[Record],
    arm: str,
    control: str,
    endpoint: Endpoint,
    variant: str,
    spending: Spending,
) -> tuple[dict[int, float], list[str]]:
    """The same at equal spending, and which of the two were read before their end."""
    ours, theirs = by_seed(records, arm), by_seed(records, control)
    differences, unfinished = {}, []
    for seed in sorted(ours.keys() & theirs.keys()):
        pair = (ours[seed], theirs[seed])
        amount = min(one["spent"][spending] for one in pair)
        values = [
            value_at(one, endpoint, depth, spending, amount)
            for one, depth in zip(pair, (variant, ""), strict=True)
        ]
        if values[0] is not None and values[1] is not None:
            differences[seed] = values[0] - values[1]
            unfinished += [
                one["arm"] for one in pair if amount < END_OF_RUN * one["spent"][spending]
            ]
    return differences, sorted(set(unfinished))


def neighbours(
    records: Sequence[Record], arm: str, endpoint: Endpoint, shallow: str, deep: str
) -> list[float]:
    """By how much each run is better at the deeper of two depths of its own."""
    sign = -1.0 if endpoint.is_loss else 1.0
    return [
        sign * (value_of(record, endpoint, deep) - value_of(record, endpoint, shallow))
        for record in by_seed(records, arm).values()
    ]


def depths_of(records: Sequence[Record], arm: str) -> list[str]:
    """The depths of the text tower at which the runs of an arm were measured, shallowest first."""
    depths = {depth for r in by_seed(records, arm).values() for depth in r["held_out"]["losses"]}
    return sorted(depths, key=lambda depth: (len(depth), depth))
