"""The runs of a study: which there are, where they lie, and what must be equal for a record to count."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data_pipelines.errors import UserError
from rins_mm.config import TrainConfig
from rins_mm.study.design import Arm, HeldOut, StudyConfig
from rins_mm.study.lengths import matched, of_length

Phase = Literal["tuning", "pilot", "runs"]

FIRST_PILOT_SEED = 2000

WITHOUT_EFFECT = (
    "run_dir", "checkpoint_every", "keep_checkpoints", "checkpoint_async", "num_threads", "timeout_seconds",
    "tensorboard", "profile",
)  # fmt: skip
"""Settings that a record may differ in: they do not change what is learned or measured."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run."""

    study: str
    phase: Phase
    arm: str
    seed: int
    config: TrainConfig
    tasks: tuple[str, ...]
    """What is measured at its end, beside the loss on `held_out`."""
    held_out: HeldOut
    dial: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Names its record and its folder."""
        if self.phase == "tuning":
            return f"{self.arm}-{self.config.optimizer.peak_learning_rate:g}"
        return f"{self.arm}-{self.seed}"

    @property
    def config_hash(self) -> str:
        """Of everything that decides what is learned and what is measured."""
        plain = dataclasses.asdict(self.config)
        for name in WITHOUT_EFFECT:
            del plain[name]
        asked = [plain, self.tasks, dataclasses.asdict(self.held_out), self.dial]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def record_path(self, records: Path) -> Path:
        """Where its record is, below the folder of the study's records."""
        return records / self.phase / f"{self.name}.json"


def tuning_jobs(study: StudyConfig, runs: Path) -> list[Job]:
    """Every arm that is tuned itself at every learning rate, shorter than the study's runs."""
    if study.tuning is None:
        return []
    jobs = []
    for arm in study.arms:
        if arm.tuned_as:
            continue
        full = matched(study, arm)
        config = of_length(full, max(1, round(full.max_steps * study.tuning.share)))
        for rate in study.tuning.learning_rates:
            job = _job(study, "tuning", arm, study.tuning.seed, config, rate, runs)
            evaluation = replace(job.config.evaluation, tasks=())
            # The tasks of the study are its test: they must not choose the rate.
            jobs.append(
                replace(
                    job,
                    tasks=(),
                    held_out=study.tuning.held_out,
                    config=replace(job.config, evaluation=evaluation, eval_every=0),
                )
            )
    return jobs


def pilot_jobs(study: StudyConfig, runs: Path, rates: dict[str, float]) -> list[Job]:
    """The first arm, and the control arms once, with seeds that the study does not use."""
    return [
        _job(
            study,
            "pilot",
            arm,
            FIRST_PILOT_SEED + number,
            matched(study, arm),
            rates.get(arm.name),
            runs,
        )
        for number in range(study.pilot_seeds)
        for arm in study.arms
        if arm is study.arms[0] or (arm.role == "control" and number == 0)
    ]


def study_jobs(study: StudyConfig, runs: Path, rates: dict[str, float]) -> list[Job]:
    """All arms, one seed after the other, so that a study that is cut off has whole seeds."""
    jobs = []
    for number in range(study.seeds):
        for arm in study.arms:
            if number >= study.seeds_of(arm):
                continue
            seed, config = study.first_seed + number, matched(study, arm)
            jobs.append(_job(study, "runs", arm, seed, config, rates.get(arm.name), runs))
    return jobs


def _job(
    study: StudyConfig,
    phase: Phase,
    arm: Arm,
    seed: int,
    config: TrainConfig,
    rate: float | None,
    runs: Path,
) -> Job:
    optimizer = config.optimizer
    if rate is not None:
        optimizer = replace(optimizer, peak_learning_rate=rate)
    config = replace(config, seed=seed, optimizer=optimizer, num_threads=1)
    job = Job(
        study=study.name,
        phase=phase,
        arm=arm.name,
        seed=seed,
        config=config,
        tasks=study.tasks,
        held_out=study.held_out,
        dial=arm.dial,
    )
    return replace(job, config=replace(config, run_dir=str(runs / phase / job.name)))


def chosen_rates(study: StudyConfig, records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The learning rate of each arm with the least loss on `val`; nothing where none are tuned.

    Raises UserError when runs are missing.
    """
    if study.tuning is None:
        return {}
    rates = {}
    for arm in study.arms:
        found = {
            record["config"]["optimizer"]["peak_learning_rate"]: min(
                record["held_out"]["losses"].values()
            )
            for record in records
            if record["arm"] == (arm.tuned_as or arm.name)
        }
        missing = [rate for rate in study.tuning.learning_rates if rate not in found]
        if missing:
            raise UserError(
                f"{arm.tuned_as or arm.name} has no tuning run at the learning rate {missing[0]:g} yet; "
                "finish --phase tuning first"
            )
        rates[arm.name] = min(found, key=lambda rate: found[rate])
    return rates
