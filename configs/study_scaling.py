"""Scaling laws of AB and of text AAAB: seven budgets over 1.5 decades, each with its cooldown."""

from dataclasses import replace

from configs import study_confirmatory as confirmatory
from rins_mm.config import TrainConfig
from rins_mm.study.design import (
    HELD_OUT_LOSS,
    Arm,
    HeldOut,
    Scale,
    ScalingLaw,
    StudyConfig,
)
from rins_mm.study.lengths import of_length

BUDGETS = 7
DECADES = 1.5


def study(scale: Scale = "cpu", data: str = confirmatory.DATA) -> StudyConfig:
    """The same trunk (a constant rate after the same warm-up), cooled down over the last fifth at each budget."""
    plain = confirmatory.base(scale, data)
    recursive = confirmatory.in_text(plain, confirmatory.THREE_ROUNDS, "AAAB")
    shares = [10 ** (-DECADES * (1 - number / (BUDGETS - 1))) for number in range(BUDGETS)]
    arms: list[Arm] = []
    names: dict[str, list[str]] = {"AB": [], "AAAB": []}
    for share in shares:
        steps = max(1, round(plain.max_steps * share))
        short = f"AB-{steps}"
        arms.append(Arm(name=short, config=branch(plain, steps)))
        arms.append(Arm(name=f"AAAB-{steps}", config=branch(recursive, steps), control=short))
        names["AB"].append(short)
        names["AAAB"].append(f"AAAB-{steps}")
    return StudyConfig(
        name="scaling",
        purpose="Does the loss fall faster, or to a lower floor, with recursion in the text tower?",
        arms=tuple(arms),
        tasks=(confirmatory.TASK,),
        endpoints=(confirmatory.ACCURACY, HELD_OUT_LOSS),
        held_out=HeldOut(shards=(f"{data}/test/*.tar",)),
        caption_tokens=confirmatory.CAPTION_TOKENS,
        seeds=3,
        scaling=tuple(ScalingLaw(name=name, arms=tuple(some)) for name, some in names.items()),
        notes=(
            "Runs of one seed share their beginning at all budgets: their errors are not independent, and the "
            "intervals are narrower than they should be.",
        ),
    )


def branch(trunk: TrainConfig, steps: int) -> TrainConfig:
    """The trunk's first steps and their cooldown; the warm-up is that of the shortest budget for all."""
    short = of_length(trunk, steps)
    warmup = int(trunk.schedule.warmup_samples * 10**-DECADES)
    return replace(short, schedule=replace(short.schedule, warmup_samples=warmup))
