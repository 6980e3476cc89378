"""Asked to stop: in a step, in the wait for data, in an evaluation, in a save; one rank or torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launching import REPOSITORY, TOY, Launch, run_well

from data_pipelines.rows import BatchMaker, MadeBatch
from rins_mm.checkpoint import newest_checkpoint
from rins_mm.run_log import read_rows
from rins_mm.stopping import EXIT_CODE
from rins_mm.train import main

SECONDS = 10.0
"""In which a run that is asked to stop must have ended; three times as much on a busy machine."""
STEPS = 40
EVALUATED = (
    "--evaluation.tasks",
    "zero_shot:emoji-style",
    "--evaluation.text-signatures",
    "AB",
    "AAAB",
)


def flags(run_dir: Path, *more: str) -> list[str]:
    settings = ("--max-steps", str(STEPS), "--checkpoint-every", "1000")
    return [TOY, "--run-dir", str(run_dir), *settings, *more]


def losses(run_dir: Path) -> dict[int, float]:
    return {
        row["step"]: row["loss"] for row in read_rows(run_dir / "metrics.jsonl") if "loss" in row
    }


def weights(run_dir: Path) -> dict[str, str]:
    checkpoint = newest_checkpoint(run_dir)
    assert checkpoint is not None
    manifest = json.loads((checkpoint.folder / "MANIFEST.json").read_text())
    return {
        name: facts["sha256"]
        for name, facts in manifest["files"].items()
        if name.endswith(".safetensors")
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Uninterrupted runs by number of ranks."""
    folders = {}
    for world_size in (1, 2):
        folder = tmp_path_factory.mktemp(f"whole-{world_size}")
        run_well(main, flags(folder / "run"), folder, world_size=world_size)
        folders[world_size] = folder / "run"
    return folders


def until(launch: Launch, words: str, seconds: float = 60.0) -> None:
    """Wait for words in what the ranks print."""
    deadline = time.monotonic() + seconds
    while words not in launch.output():
        assert time.monotonic() < deadline, launch.output()
        assert any(process.exitcode is None for process in launch.processes), launch.output()
        time.sleep(0.02)


def ask(launch: Launch, rank: int, number: signal.Signals) -> float:
    os.kill(launch.processes[rank].pid, number)
    return time.monotonic()


def stopped_well(launch: Launch, asked_at: float) -> None:
    outcomes = launch.wait(asked_at - launch.started + 3 * SECONDS)
    print(f"all ranks had ended {time.monotonic() - asked_at:.1f} s after the signal")
    assert [outcome.code for outcome in outcomes] == [EXIT_CODE] * len(outcomes), launch.output()
    assert "Traceback" not in launch.output()
    assert "--resume goes on from there" in outcomes[0].output


def goes_on_exactly(run_dir: Path, folder: Path, whole: Path, world_size: int, *more: str) -> None:
    run_well(main, [*flags(run_dir, *more), "--resume"], folder, world_size=world_size)
    assert losses(run_dir) == losses(whole)
    assert weights(run_dir) == weights(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world_size", "rank", "number"),
    [
        (1, 0, signal.SIGINT),
        (2, 0, signal.SIGTERM),
        (2, 1, signal.SIGTERM),
        (2, 1, signal.SIGUSR1),
    ],
)
def test_a_signal_in_a_step_stops_all_ranks_with_a_checkpoint_from_which_the_run_goes_on_exactly(
    tmp_path: Path, whole: dict[int, Path], world_size: int, rank: int, number: signal.Signals
) -> None:
    run_dir = tmp_path / "run"
    launch = Launch(main, flags(run_dir), tmp_path / "1", world_size)
    until(launch, "step      5")
    stopped_well(launch, ask(launch, rank, number))
    checkpoint = newest_checkpoint(run_dir)
    assert checkpoint is not None
    assert 5 <= checkpoint.step < STEPS
    # Nothing that was trained is lost: every logged step is in the checkpoint.
    assert max(losses(run_dir)) == checkpoint.step
    goes_on_exactly(run_dir, tmp_path / "2", whole[world_size], world_size)


def stalled_main(argv: list[str]) -> None:
    """The trainer on a machine whose data stop coming on rank 1 (or the only one) at step 7."""
    real = BatchMaker.make

    def make(maker: BatchMaker, step: int, check: Callable[[], None]) -> MadeBatch:
        while step >= 7 and maker.rank == maker.world_size - 1:
            check()
            time.sleep(0.01)
        return real(maker, step, check)

    BatchMaker.make = make
    main(argv)


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_a_signal_in_the_wait_for_data_stops_all_ranks(
    tmp_path: Path, whole: dict[int, Path], world_size: int, rank: int
) -> None:
    run_dir = tmp_path / "run"
    launch = Launch(stalled_main, flags(run_dir), tmp_path / "1", world_size)
    until(launch, "step      7")
    time.sleep(0.5)
    stopped_well(launch, ask(launch, rank, signal.SIGTERM))
    checkpoint = newest_checkpoint(run_dir)
    assert checkpoint is not None
    assert checkpoint.step == 7
    goes_on_exactly(run_dir, tmp_path / "2", whole[world_size], world_size)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.long)])
def test_an_evaluation_that_is_cut_off_is_made_when_the_run_goes_on(
    tmp_path: Path, rank: int
) -> None:
    more = ("--max-steps", "6", *EVALUATED)
    run_well(main, flags(tmp_path / "whole", *more), tmp_path / "0", world_size=2)
    run_dir = tmp_path / "run"
    launch = Launch(main, flags(run_dir, *more), tmp_path / "1", 2)
    until(launch, "step      6")
    stopped_well(launch, ask(launch, rank, signal.SIGTERM))
    assert not any("evaluation" in row for row in read_rows(run_dir / "metrics.jsonl"))
    run_well(main, [*flags(run_dir, *more), "--resume"], tmp_path / "2", world_size=2)
    evaluations = [
        [row for row in read_rows(folder / "metrics.jsonl") if "evaluation" in row]
        for folder in (run_dir, tmp_path / "whole")
    ]
    assert evaluations[0] == evaluations[1]
    assert len(evaluations[0]) == 1
    assert weights(run_dir) == weights(tmp_path / "whole")


def slow_disk_main(argv: list[str]) -> None:
    """The trainer on a disk that takes a second for a checkpoint."""
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if "step-" in str(source):
            print("renaming", flush=True)
            time.sleep(1)
        real(source, target)

    os.rename = rename
    main(argv)


@pytest.mark.slow
def test_a_signal_in_a_save_stops_after_it(tmp_path: Path, whole: dict[int, Path]) -> None:
    run_dir = tmp_path / "run"
    more = ("--checkpoint-every", "8")
    launch = Launch(slow_disk_main, flags(run_dir, *more), tmp_path / "1", 2)
    until(launch, "renaming")
    stopped_well(launch, ask(launch, 0, signal.SIGTERM))
    goes_on_exactly(run_dir, tmp_path / "2", whole[2], 2, *more)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_torchrun_that_is_asked_to_stop_leaves_a_checkpoint(
    tmp_path: Path, whole: dict[int, Path]
) -> None:
    run_dir = tmp_path / "run"
    torchrun = Path(sys.executable).with_name("torchrun")
    command = [torchrun, "--standalone", "--nproc-per-node", "2", "-m", "rins_mm.train"]
    log = tmp_path / "log.txt"
    more = ("--data.num-workers", "1")
    with log.open("w") as file:
        process = subprocess.Popen(
            [*map(str, command), *flags(run_dir, *more)],
            cwd=REPOSITORY,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + 120
    while "step      5" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    asked_at = time.monotonic()
    assert process.wait(3 * SECONDS) == 1
    print(f"torchrun had ended {time.monotonic() - asked_at:.1f} s after the signal")
    assert "--resume goes on from there" in log.read_text()
    goes_on_exactly(run_dir, tmp_path / "2", whole[2], 2, *more)
