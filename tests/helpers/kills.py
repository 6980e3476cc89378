"""Kill a training run at random instants inside chosen phases, and compare what its continuations do."""

import hashlib
import json
import random
import re
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launching import TOY, Launch
from torchrun import Torchrun

from rins_mm import step_timer, train
from rins_mm.checkpoint import complete_steps
from rins_mm.run_log import read_rows

PHASES = ("first step", "step", "save", "evaluation")
SAVE_EVERY = 5
EVALUATE_EVERY = 10
REACH = 15
"""A kill is aimed at one of so many steps after the last saved one."""

TRIES = 6
"""Launches for one kill: on a busy machine a phase may be over before the signal arrives."""

TIMING = {
    "checkpoint_stall_seconds", "time", "samples_per_second", "flops_per_second", "mfu",
    *(f"{phase}_fraction" for phase in step_timer.PHASES),
}  # fmt: skip

HEADER = "ranks  no  launched by seconds  phase hit   killed at  resumed from  repeated  identical"


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a run is doing, and to which step; of a dead one, what it was doing."""

    phase: str
    step: int


@dataclass(kw_only=True)
class Kill:
    """One kill, and what came of it."""

    world_size: int
    number: int
    launched_by: str
    seconds: float
    """From the start of the launch."""
    place: Place
    last_logged: int
    in_flight: int | None
    """The step whose save had begun and was not whole."""
    resumed_from: int = -1
    identical: bool = False

    @property
    def repeated(self) -> int:
        """Logged steps that were made again."""
        return max(0, self.last_logged - self.resumed_from)

    @property
    def lost_too_much(self) -> bool:
        """Whether more was lost than lies between two saves; a save that is not whole cannot count."""
        done = self.last_logged if self.in_flight is None else self.in_flight
        return done - self.resumed_from > SAVE_EVERY

    def __str__(self) -> str:
        return (
            f"{self.world_size:>5}  {self.number:>2}  {self.launched_by:<11}  {self.seconds:>7.3f}  "
            f"{self.place.phase:<10}  {self.place.step:>9}  {self.resumed_from:>12}  "
            f"{self.repeated:>8}  {'yes' if self.identical else 'NO':>9}"
        )


class Watch:
    """Tells from the folder and the output of a launch what the run is doing."""

    def __init__(self, run_dir: Path, launch: Launch | Torchrun) -> None:
        self.run_dir, self.launch = run_dir, launch
        self.first_step: int | None = None
        """The step after which this launch began to train; None until it has."""

    def place(self) -> Place:
        """What the run is doing now."""
        if self.first_step is None:
            begin = re.search(r"resuming after step (\d+):|training: ", self.launch.output())
            if not begin:
                return Place(phase="start", step=0)
            self.first_step = int(begin[1] or 0)
        logged, evaluated = self.last_logged()
        if logged <= self.first_step:
            return Place(phase="first step", step=self.first_step + 1)
        if logged % EVALUATE_EVERY == 0 and not evaluated:
            return Place(phase="evaluation", step=logged)
        saving = self.in_flight()
        if saving is not None:
            return Place(phase="save", step=saving)
        return Place(phase="step", step=logged + 1)

    def last_logged(self) -> tuple[int, bool]:
        """The last step with a row, and whether its evaluation has one too."""
        path = self.run_dir / "metrics.jsonl"
        whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        rows = [json.loads(line) for line in whole[-3:]]
        step = rows[-1]["step"] if rows else 0
        return step, any(row["step"] == step and "evaluation" in row for row in rows)

    def in_flight(self) -> int | None:
        """The step whose save is due and not whole yet."""
        logged, _ = self.last_logged()
        due = logged - logged % SAVE_EVERY
        saved = max([self.first_step or 0, *complete_steps(self.run_dir)])
        return due if due > saved else None


class Reference:
    """The run that nobody disturbs: its rows, the hashes of its checkpoints, how long its phases last."""

    def __init__(self, argv: Sequence[str], folder: Path, world_size: int) -> None:
        run_dir = folder / "whole"
        flags = ["--run-dir", str(run_dir), "--keep-checkpoints", "1000"]
        launch = Launch(train.main, [*argv, *flags], folder / "whole-logs", world_size)
        watch = Watch(run_dir, launch)
        seen: dict[Place, list[float]] = {}
        while launch.running():
            seen.setdefault(watch.place(), []).append(time.monotonic())
            time.sleep(0.001)
        assert all(outcome.code == 0 for outcome in launch.wait(600.0)), launch.output()
        self.seconds = {
            phase: statistics.median(
                times[-1] - times[0] for place, times in seen.items() if place.phase == phase
            )
            for phase in PHASES
        }
        self.rows, self.hashes = rows_of(run_dir), hashes_of_checkpoints(run_dir)
        shutil.rmtree(run_dir / "checkpoints")

    def agrees(self, run_dir: Path) -> bool:
        """Whether another run has so far done the same, to the last bit."""
        rows, hashes = rows_of(run_dir), hashes_of_checkpoints(run_dir)
        same_hashes = all(self.hashes[step] == own for step, own in hashes.items())
        return rows == self.rows[: len(rows)] and same_hashes


class BrokenRun:
    """A run that is killed, resumed, killed again …, and in the end left to finish."""

    def __init__(self, folder: Path, *, world_size: int, kills: int, seed: int) -> None:
        self.folder, self.world_size = folder, world_size
        self.run_dir = folder / "broken"
        self.instants = random.Random(seed)
        self.last_step = 10 * kills + 20
        argv = [TOY, "--max-steps", str(self.last_step), "--checkpoint-every", str(SAVE_EVERY)]
        argv += ["--eval-every", str(EVALUATE_EVERY), "--evaluation.tasks", "retrieval:emoji-val"]
        self.reference = Reference(argv, folder, world_size)
        self.argv = [*argv, "--run-dir", str(self.run_dir), "--resume"]
        self.launches = 0
        self.kills: list[Kill] = []

    def start(self, *, by_torchrun: bool) -> Watch:
        """Begin the run, or continue it."""
        logs = self.folder / f"launch-{self.launches}"
        self.launches += 1
        if by_torchrun:
            return Watch(self.run_dir, Torchrun(self.argv, logs, self.world_size))
        return Watch(self.run_dir, Launch(train.main, self.argv, logs, self.world_size))

    def kill_in(self, phase: str, *, by_torchrun: bool) -> None:
        """Start the run and kill it in that phase, and in others where that comes too late."""
        for attempt in range(TRIES):
            # What came too late comes sooner the next time.
            self._kill_once(phase, 0.7 / 2**attempt, by_torchrun=by_torchrun)
            if self.kills[-1].place.phase == phase:
                return
        raise AssertionError(f"none of {TRIES} kills hit the phase {phase!r}")

    def finish(self, *, by_torchrun: bool) -> None:
        """Let the run come to its end, and compare all of it."""
        watch = self.start(by_torchrun=by_torchrun)
        while watch.launch.running():
            watch.place()
            time.sleep(0.01)
        self._settle(watch)
        assert rows_of(self.run_dir) == self.reference.rows, watch.launch.output()
        own = hashes_of_checkpoints(self.run_dir)[self.last_step]
        assert own == self.reference.hashes[self.last_step]

    def _kill_once(self, phase: str, latest: float, *, by_torchrun: bool) -> None:
        watch = self.start(by_torchrun=by_torchrun)
        aim, place = None, Place(phase="start", step=0)
        while place != aim and (aim is None or place.step <= aim.step):
            assert watch.launch.running(), watch.launch.output()
            time.sleep(0.001)
            place = watch.place()
            if aim is None and watch.first_step is not None:
                aim = Place(phase=phase, step=self._step_to_aim_at(phase, watch.first_step))
        time.sleep(self.instants.uniform(0.0, latest) * self.reference.seconds[phase])
        watch.launch.kill()
        seconds = time.monotonic() - watch.launch.started
        self._settle(watch)
        self.kills.append(
            Kill(
                world_size=self.world_size,
                number=len(self.kills) + 1,
                launched_by="torchrun" if by_torchrun else "fork",
                seconds=seconds,
                place=watch.place(),
                last_logged=watch.last_logged()[0],
                in_flight=watch.in_flight(),
            )
        )

    def _step_to_aim_at(self, phase: str, first_step: int) -> int:
        if phase == "first step":
            return first_step + 1
        every = {"step": 1, "save": SAVE_EVERY, "evaluation": EVALUATE_EVERY}[phase]
        within = range(first_step + 2, first_step + REACH + 1)
        return self.instants.choice([step for step in within if step % every == 0])

    def _settle(self, watch: Watch) -> None:
        """Complete and print the kill before this launch, which has shown what it made of it."""
        if self.kills:
            assert watch.first_step is not None, watch.launch.output()
            self.kills[-1].resumed_from = watch.first_step
            self.kills[-1].identical = self.reference.agrees(self.run_dir)
            print(self.kills[-1], flush=True)


def phases_to_hit(kills: int, seed: int) -> list[str]:
    """Each phase in turn, shuffled; always first the very first step, before which nothing is saved."""
    phases = [PHASES[number % len(PHASES)] for number in range(kills)]
    return phases[:1] + random.Random(seed).sample(phases[1:], k=kills - 1)


def rows_of(run_dir: Path) -> list[dict]:
    """What a run has logged of its steps and evaluations, without what depends on the clock."""
    rows = read_rows(run_dir / "metrics.jsonl") if (run_dir / "metrics.jsonl").exists() else []
    return [
        {key: value for key, value in row.items() if key not in TIMING}
        for row in rows
        if "loss" in row or "evaluation" in row
    ]


def hashes_of_checkpoints(run_dir: Path) -> dict[int, tuple[str, ...]]:
    """The SHA-256 of the weights and of the optimizer's state at each step that is saved."""
    names = ("model.safetensors", "optimizer.safetensors")
    return {
        step: tuple(
            hashlib.sha256(
                (run_dir / "checkpoints" / f"step-{step:08d}" / name).read_bytes()
            ).hexdigest()
            for name in names
        )
        for step in complete_steps(run_dir)
    }
