"""Runs jobs, some at once, each in a process and on a core of its own, until all have their records."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.errors import UserError
from data_pipelines.words import tell
from rins_mm.recorded_config import write_config
from rins_mm.stopping import EXIT_CODE
from rins_mm.study.jobs import Job
from rins_mm.study.records import read_record, write_record

SECONDS_BETWEEN_LOOKS = 0.2
LAST_WORDS = 400
"""Characters of a failed run's log that are shown."""

OF_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "LOCAL_WORLD_SIZE")
"""A run is alone, also where the study's processes were started together; LOCAL_RANK still chooses its GPU."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A job and the process that trains it."""

    job: Job
    process: subprocess.Popen[bytes]
    log: Path


class StoppedError(Exception):
    """The study was asked to stop, or its time is over; what was trained is saved."""


def share(jobs: Sequence[Job], only: str) -> list[Job]:
    """The jobs of one member of an array, "INDEX/COUNT" from 0; all where `only` is empty."""
    if not only:
        return list(jobs)
    index, mark, count = only.partition("/")
    if not (mark and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UserError(
            f"--only is {only!r}; it must be INDEX/COUNT with an index from 0, such as 3/8"
        )
    return list(jobs[int(index) :: int(count)])


def run_jobs(jobs: Sequence[Job], records: Path, *, workers: int, deadline: float | None) -> None:
    """Train and measure what has no record yet. `deadline` is in seconds of time.monotonic.

    Raises StoppedError, after all that runs has saved, when the time is over; UserError, after all others
    have ended, when runs failed, and at once for a record of another configuration.
    """
    waiting = [job for job in jobs if read_record(job, records) is None]
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs have their records", file=sys.stderr)
    running: list[Running] = []
    failed: list[Running] = []
    try:
        while waiting or running:
            if deadline is not None and time.monotonic() > deadline:
                raise StoppedError
            while waiting and len(running) < workers:
                running.append(start(waiting.pop(0)))
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                if not finish(one, records):
                    failed.append(one)
    finally:
        stop(running)
    if failed:
        names = ", ".join(one.job.name for one in failed)
        raise UserError(
            f"{len(failed)} of {len(jobs)} runs failed ({names}); the first ended with: "
            f"{last_words(failed[0].log)}; mend it and give the same command again"
        )


def start(job: Job) -> Running:
    """Begin or go on with a run, on one core."""
    run = Path(job.config.run_dir)
    run.parent.mkdir(parents=True, exist_ok=True)
    recorded, log = run.parent / f"{job.name}.json", run.parent / f"{job.name}.log"
    write_config(job.config, recorded)
    command = [
        sys.executable,
        "-m",
        "rins_mm.train",
        str(recorded),
        "--run-dir",
        str(run),
        "--resume",
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={
                **{name: value for name, value in os.environ.items() if name not in OF_TORCHRUN},
                "OMP_NUM_THREADS": "1",
            },
            # A Ctrl-C is ours to pass on: each run would get it twice.
            start_new_session=True,
        )
    tell(f"{job.phase} {job.name}: {job.config.max_steps} steps, log {log}")
    return Running(job=job, process=process, log=log)


def finish(one: Running, records: Path) -> bool:
    """Measure and record a run that has ended; False when it had failed."""
    if one.process.returncode == EXIT_CODE:
        raise StoppedError
    if one.process.returncode != 0:
        tell(
            f"{one.job.name} failed (exit {one.process.returncode}): {last_words(one.log)}",
        )
        return False
    record = write_record(one.job, records)
    loss = record["held_out"]["losses"][record["trained_depth"]]
    path = one.job.record_path(records)
    tell(f"{one.job.phase} {one.job.name}: held-out loss {loss:.4f}; wrote {path}")
    return True


def stop(running: Sequence[Running]) -> None:
    """Ask what runs to save and leave, and wait for it."""
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
    for one in running:
        one.process.wait()


def last_words(log: Path) -> str:
    """The end of a log in one line."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return " ".join(text[-LAST_WORDS:].split())
