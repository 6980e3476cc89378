"""Run a study and write its report:  python -m rins_mm.study study_text_rins --workers 2

Give the same command again after any interruption: runs that have their records are not repeated.
"""

import json
import math
import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import tyro

from data_pipelines.caption_lengths import caption_lengths
from data_pipelines.errors import UserError, run_command
from data_pipelines.loader import open_training_data
from data_pipelines.whole_files import write_whole
from data_pipelines.words import say
from eval.tasks import open_task
from rins_mm.config import build_tokenizer
from rins_mm.stopping import EXIT_CODE
from rins_mm.study.analysis import analyse
from rins_mm.study.contrasts import WORST_GAP
from rins_mm.study.design import Scale, StudyConfig, check, load_study
from rins_mm.study.jobs import Job, Phase, chosen_rates, pilot_jobs, study_jobs, tuning_jobs
from rins_mm.study.page import number, sentence, study_page
from rins_mm.study.records import read_record
from rins_mm.study.runner import StoppedError, run_jobs, share
from rins_mm.validation import validate

CAPTIONS_READ = 32_768
"""Before a study: so many that neighbours which resemble each other do not decide their mean length."""


@dataclass(frozen=True, kw_only=True)
class StudyCommand:
    """Run what a study has not run yet, and write report.html and results.json."""

    study: Annotated[str, tyro.conf.Positional]
    """A study by name, or the path of a Python file with a function study(scale)."""
    seeds: int | None = None
    """Seeds of each confirmatory arm; None: as many as the study says."""
    workers: int = 1
    """Runs at once, each on a core of its own."""
    scale: Scale = "cpu"
    """Which sizes of the study: those for a CPU, or those for a GPU."""
    phase: Literal["all", "tuning", "pilot", "runs", "report"] = "all"
    """all: tuning, then runs, then the report; the pilot only by its name."""
    only: str = ""
    """INDEX/COUNT: run every COUNT-th run from this one on, for arrays of jobs; needs a --phase."""
    minutes: float | None = None
    """Save and leave after so long; the same command goes on."""
    records: Path | None = None
    """Folder of the records, results.json and report.html; None: docs/studies/NAME."""
    runs: Path | None = None
    """Folder of the runs with their weights; None: runs/studies/NAME."""


def main(argv: list[str]) -> None:
    """Run, and report as far as it has come."""
    command = tyro.cli(StudyCommand, args=argv, prog="python -m rins_mm.study")
    if not command.only and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Started by torchrun: its processes share the runs, one each at a time.
        command = replace(command, only=f"{os.environ['RANK']}/{os.environ['WORLD_SIZE']}")
    study = load_study(command.study, scale=command.scale)
    if command.seeds is not None:
        study = replace(study, seeds=command.seeds)
        check(study)
    if command.workers < 1:
        raise UserError(f"--workers is {command.workers}; it must be at least 1")
    if command.only and command.phase in ("all", "report"):
        raise UserError(
            "--only shares out the runs of one phase; name it with --phase tuning, pilot or runs"
        )
    name = study.name if command.scale == "cpu" else f"{study.name}-{command.scale}"
    records = command.records or Path("docs/studies") / name
    runs = command.runs or Path("runs/studies") / name
    deadline = None if command.minutes is None else time.monotonic() + 60 * command.minutes
    signal.signal(signal.SIGTERM, _stop)
    try:
        for phase in phases(command, study):
            jobs = share(jobs_of(study, phase, runs, records), command.only)
            check_jobs(jobs)
            check_captions(study)
            run_jobs(jobs, records, workers=command.workers, deadline=deadline)
    except StoppedError:
        print("stopped; what was trained is saved, and the same command goes on", file=sys.stderr)
        sys.exit(EXIT_CODE)
    if not command.only:
        report(study, records, runs, f"python -m rins_mm.study {shlex.join(argv)}")


def phases(command: StudyCommand, study: StudyConfig) -> list[Phase]:
    """The phases that this command runs."""
    if command.phase == "report":
        return []
    if command.phase != "all":
        return [command.phase]
    return ["tuning", "runs"] if study.tuning is not None else ["runs"]


def jobs_of(study: StudyConfig, phase: Phase, runs: Path, records: Path) -> list[Job]:
    """The runs of a phase. Raises UserError where the learning rates that they need are not known yet."""
    tuning = tuning_jobs(study, runs)
    if phase == "tuning":
        return tuning
    rates = chosen_rates(study, recorded(tuning, records))
    return (pilot_jobs if phase == "pilot" else study_jobs)(study, runs, rates)


def check_jobs(jobs: list[Job]) -> None:
    """Refuse what would fail after hours: settings that cannot run, and tasks without data."""
    for config in {job.arm: job.config for job in jobs}.values():
        validate(config, world_size=1)
    for task in dict.fromkeys(task for job in jobs for task in job.tasks):
        data = jobs[0].config.evaluation.data
        open_task(task, Path(data) if data else None)


def check_captions(study: StudyConfig) -> None:
    """Refuse data whose captions are not as long as budgets were reckoned with: arms would spend unlike amounts."""
    config = study.arms[0].config
    lengths = caption_lengths(
        config.data,
        open_training_data(config.data),
        build_tokenizer(config),
        seed=0,
        number=CAPTIONS_READ,
    )
    mean = float(lengths.mean())
    if abs(mean / study.caption_tokens - 1) > WORST_GAP:
        raise UserError(
            f"captions of {', '.join(config.data.shards)} have {mean:.2f} tokens in the mean, and the study "
            f"{study.name} reckons with {study.caption_tokens:g}; set its caption_tokens to {mean:.2f}"
        )


def recorded(jobs: list[Job], records: Path) -> list[dict[str, Any]]:
    """The records that are there."""
    found = (read_record(job, records) for job in jobs)
    return [record for record in found if record is not None]


def report(study: StudyConfig, records: Path, runs: Path, command: str) -> None:
    """Write results.json and report.html anew from the records, and print what is decided."""
    tuning = recorded(tuning_jobs(study, runs), records)
    rates = {record["arm"]: 0.0 for record in tuning}
    complete = study.tuning is None or len(tuning) == len(tuning_jobs(study, runs))
    if complete:
        rates = chosen_rates(study, tuning)
    pilot = recorded(pilot_jobs(study, runs, rates), records) if complete else []
    done = recorded(study_jobs(study, runs, rates), records) if complete else []
    results = analyse(study, done, pilot, tuning)
    # Views of the records, which are what is kept: they may be replaced.
    text = json.dumps({"command": command, **_finite(results)}, indent=1, allow_nan=False) + "\n"
    write_whole(records / "results.json", text, overwrite=True)
    page = study_page(study, results, done, command)
    write_whole(records / "report.html", page, overwrite=True)
    for claim in results["claims"]:
        print(sentence(claim)["words"])
    for one in results["pilot"]:
        print(
            f"pilot, {one['endpoint']}, deviation {one['deviation']}: {study.seeds} seeds find a difference of "
            f"{number(one['detectable'])} with a chance of 80 %; delta {number(one['delta'])} needs "
            f"{one['seeds_for_delta'] or 'more than 1,000'} seeds"
        )
    say(f"wrote {records / 'report.html'} and {records / 'results.json'}")


def _finite(tree: Any) -> Any:
    """The same with None for what is not finite: an interval of one seed has no ends."""
    if isinstance(tree, dict):
        return {name: _finite(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedError


if __name__ == "__main__":
    run_command(main)
