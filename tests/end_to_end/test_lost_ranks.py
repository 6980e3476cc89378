"""A rank that stops, dies or fails takes the others down in time, with one report; the run goes on from there."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from launching import TOY, Launch, Outcome, run_well

from data_pipelines import reader
from data_pipelines.sources import resolve_shards
from rins_mm import learner, train
from rins_mm.checkpoint import newest_checkpoint
from rins_mm.run_log import read_rows

pytestmark = pytest.mark.slow

TIMEOUT = 5.0
STEPS = 30
SETTINGS = ["--max-steps", str(STEPS), "--checkpoint-every", "10"]


def losses(run_dir: Path) -> list[float]:
    return [row["loss"] for row in read_rows(run_dir / "metrics.jsonl") if "loss" in row]


def slow_train(argv: list[str]) -> None:
    """Train with steps that leave time to do something to a rank before the run is over."""
    original = learner.Learner.train_step

    def train_step(self: learner.Learner, step: int, batch: object, **others: bool) -> dict:
        time.sleep(0.05)
        # As if each batch came from a shard that had not been open before.
        reader._open_shard.cache_clear()
        return original(self, step, batch, **others)

    learner.Learner.train_step = train_step
    train.main(argv)


def in_step(number: int, rank: int, what: Callable[[], object], argv: list[str]) -> None:
    """Train, and do something on one rank when it computes the step `number` (counted from 1)."""
    original = learner.augment
    calls = iter(range(1, 10_000))

    def augment(*arguments: object) -> object:
        if next(calls) == number and os.environ.get("RANK") == str(rank):
            what()
        return original(*arguments)

    learner.augment = augment
    train.main(argv)


def run_out_of_memory(argv: list[str]) -> None:
    in_step(15, 1, lambda: torch.empty(2**50, dtype=torch.uint8), argv)


def hang(argv: list[str]) -> None:
    in_step(15, 1, lambda: time.sleep(1000), argv)


def dawdle(argv: list[str]) -> None:
    in_step(15, 1, lambda: time.sleep(0.7 * TIMEOUT), argv)


def fill_the_disk(argv: list[str]) -> None:
    """Train; from the step 15 on, no file may become larger than a checkpoint's weights would be."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    in_step(15, 0, limit, argv)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of an uninterrupted run on two ranks."""
    folder = tmp_path_factory.mktemp("whole")
    argv = [TOY, "--run-dir", str(folder / "run"), *SETTINGS]
    run_well(train.main, argv, folder / "logs", world_size=2)
    return losses(folder / "run")


def begin(
    folder: Path, main: Callable[[list[str]], None] = slow_train, world_size: int = 2
) -> Launch:
    argv = [TOY, "--run-dir", str(folder / "run"), *SETTINGS, "--timeout-seconds", str(TIMEOUT)]
    return Launch(main, argv, folder / "logs", world_size)


def wait_for_rows(folder: Path, count: int, launch: Launch) -> None:
    path, deadline = folder / "run" / "metrics.jsonl", time.monotonic() + 120
    while not path.exists() or path.read_text().count("\n") < count:
        assert time.monotonic() < deadline, launch.output()
        time.sleep(0.002)


def outcomes_of_others(launch: Launch, lost: int, since: float) -> list[Outcome]:
    """How all ranks but `lost` have ended, which must be in time; then the lost one is killed for good."""
    others = [p for rank, p in enumerate(launch.processes) if rank != lost]
    for process in others:
        process.join(60)
    seconds = time.monotonic() - since
    assert all(p.exitcode is not None for p in others), launch.output()
    assert seconds < 3 * TIMEOUT, (seconds, launch.output())
    launch.kill()
    return [
        Outcome(p.exitcode, launch.logs[rank].read_text(), seconds)
        for rank, p in enumerate(launch.processes)
        if rank != lost
    ]


def the_report(outcome: Outcome) -> str:
    """The one line of a rank that tells why it ends."""
    assert outcome.code == 1, outcome.output
    lines = [line for line in outcome.output.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, outcome.output
    assert "thread 0x" in outcome.output.lower(), "the stacks are below it"
    return lines[0]


def resume_and_compare(folder: Path, expected: list[float]) -> None:
    run_dir = folder / "run"
    assert newest_checkpoint(run_dir) is not None
    run_well(train.main, [str(run_dir), "--resume"], folder / "resumed", world_size=2)
    assert losses(run_dir) == expected


def test_a_stopped_rank_is_named_with_its_step_and_the_others_end_in_time(
    tmp_path: Path, expected: list[float]
) -> None:
    launch = begin(tmp_path)
    wait_for_rows(tmp_path, 12, launch)
    since = time.monotonic()
    os.kill(launch.processes[1].pid, signal.SIGSTOP)
    (other,) = outcomes_of_others(launch, 1, since)
    assert other.seconds > TIMEOUT / 2, "a rank that is only late is waited for"
    report = the_report(other)
    assert "rank 1 has not been heard of for" in report
    assert "[last heard: step " in report and "last samples" in report
    assert "seen by rank 0 [step 1" in report and "exchanging" in report
    resume_and_compare(tmp_path, expected)


def test_a_stopped_first_rank_is_named_though_it_holds_the_store(tmp_path: Path) -> None:
    launch = begin(tmp_path)
    wait_for_rows(tmp_path, 12, launch)
    since = time.monotonic()
    os.kill(launch.processes[0].pid, signal.SIGSTOP)
    (other,) = outcomes_of_others(launch, 0, since)
    assert "rank 0 has not been heard of for" in the_report(other)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_rank_is_named_and_the_run_goes_on_from_its_checkpoint(
    tmp_path: Path, expected: list[float], lost: int
) -> None:
    launch = begin(tmp_path)
    wait_for_rows(tmp_path, 12, launch)
    since = time.monotonic()
    os.kill(launch.processes[lost].pid, signal.SIGKILL)
    (other,) = outcomes_of_others(launch, lost, since)
    report = the_report(other)
    assert re.match(rf"error: rank {lost} has ended \[last heard: step \d+, ", report)
    assert "gloo" not in report
    resume_and_compare(tmp_path, expected)


def test_all_the_others_tell_the_same_first_cause(tmp_path: Path) -> None:
    launch = begin(tmp_path, world_size=3)
    wait_for_rows(tmp_path, 12, launch)
    since = time.monotonic()
    os.kill(launch.processes[1].pid, signal.SIGKILL)
    reports = [the_report(outcome) for outcome in outcomes_of_others(launch, 1, since)]
    assert len({report.partition("; seen by")[0] for report in reports}) == 1
    assert all(
        report.startswith("error: rank 1 has ended [last heard: step 1") for report in reports
    )


def test_a_rank_without_memory_says_so_and_the_other_names_it(
    tmp_path: Path, expected: list[float]
) -> None:
    outcomes = begin(tmp_path, run_out_of_memory).wait()
    line = "error: rank 1 is out of memory [step 15, computing for"
    assert outcomes[1].code == 1 and outcomes[1].output.count("error:") == 1
    assert outcomes[1].output.startswith(line) and "--batch-size" in outcomes[1].output
    assert "Traceback" not in outcomes[1].output
    assert the_report(outcomes[0]).startswith(line)
    resume_and_compare(tmp_path, expected)


def test_a_rank_that_hangs_is_named_by_all_even_by_itself(tmp_path: Path) -> None:
    launch = begin(tmp_path, hang)
    wait_for_rows(tmp_path, 14, launch)
    since = time.monotonic()
    outcomes = launch.wait()
    assert time.monotonic() - since < 3 * TIMEOUT
    for outcome in outcomes:
        assert "rank 1 keeps the others waiting [step 15, computing for" in the_report(outcome)
    assert "in hang" in outcomes[1].output, "its stack shows where"


def test_a_rank_that_is_late_by_less_than_the_timeout_is_waited_for(
    tmp_path: Path, expected: list[float]
) -> None:
    outcomes = begin(tmp_path, dawdle).wait()
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes[0].output
    assert all("error:" not in outcome.output for outcome in outcomes)
    assert losses(tmp_path / "run") == expected


def test_a_full_disk_is_told_by_all_and_leaves_the_checkpoint_before_it(
    tmp_path: Path, expected: list[float]
) -> None:
    outcomes = begin(tmp_path, fill_the_disk).wait()
    assert outcomes[0].code == 2 and "no space is left" in outcomes[0].output
    report = the_report(outcomes[1])
    # The save of step 20 is written while the next steps run.
    assert re.search(r"rank 0 has ended \[step 2\d, ", report), report
    assert newest_checkpoint(tmp_path / "run").step == 10
    resume_and_compare(tmp_path, expected)


def test_a_vanished_data_folder_is_told_by_all(tmp_path: Path) -> None:
    (shard,) = resolve_shards(["emoji:val"])
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(shard, folder / "few.tar")
    argv = [TOY, "--run-dir", str(tmp_path / "run"), *SETTINGS, "--timeout-seconds", str(TIMEOUT)]
    argv += ["--data.shards", str(folder / "few.tar"), "--data.prefetch-batches", "1"]
    launch = Launch(slow_train, argv, tmp_path / "logs", 2)
    wait_for_rows(tmp_path, 12, launch)
    since = time.monotonic()
    shutil.rmtree(folder)
    outcomes = launch.wait()
    assert time.monotonic() - since < 3 * TIMEOUT
    assert {outcome.code for outcome in outcomes} <= {1, 2}
    for outcome in outcomes:
        lines = [line for line in outcome.output.splitlines() if line.startswith("error:")]
        assert len(lines) == 1 and "few.tar" in lines[0], outcome.output
    assert newest_checkpoint(tmp_path / "run").step == 10


def test_torchrun_restarts_a_group_that_has_lost_a_rank_and_the_run_ends_by_itself(
    tmp_path: Path, repository: Path, expected: list[float]
) -> None:
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--max-restarts", "2", "-m", "rins_mm.train", TOY, "--run-dir", str(run_dir)]
    with (tmp_path / "log.txt").open("w") as log:
        group = subprocess.Popen(
            [*command, *SETTINGS, "--resume"], cwd=repository, stdout=log, stderr=log
        )
    try:
        path, deadline = run_dir / "metrics.jsonl", time.monotonic() + 120
        while not path.exists() or path.read_text().count("\n") < 12:
            assert time.monotonic() < deadline, (tmp_path / "log.txt").read_text()
            time.sleep(0.002)
        workers = subprocess.run(
            ["pgrep", "-P", str(group.pid)], capture_output=True, text=True
        ).stdout.split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        code = group.wait(timeout=120)
    finally:
        # It ends its workers with it, which a kill would not.
        group.terminate()
        group.wait()
    assert code == 0, (tmp_path / "log.txt").read_text()
    assert "resuming after step 10" in (tmp_path / "log.txt").read_text()
    assert losses(run_dir) == expected
