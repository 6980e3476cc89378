"""What must hold of a whole run: ranks, resuming, the run folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import webdataset
from launching import TOY, Launch, run, run_well
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_pipelines.manifest import open_dataset
from data_pipelines.reader import read_sample
from rins_mm import distributed, train
from rins_mm.run_log import read_rows


def losses(run_dir: Path) -> list[float]:
    return [row["loss"] for row in read_rows(run_dir / "metrics.jsonl") if "loss" in row]


def train_and_keep_first_gradient(argv: list[str]) -> None:
    """Train, and save this rank's summed gradient of the first step to the file named first."""
    path, *argv = argv
    original = distributed.GradientBuffer.clip

    def clip(buffer: distributed.GradientBuffer, max_norm: float) -> torch.Tensor:
        if not Path(path).exists():
            torch.save(buffer.flat.clone(), path)
        return original(buffer, max_norm)

    distributed.GradientBuffer.clip = clip
    train.main(argv)


@pytest.mark.slow
def test_one_two_and_three_ranks_give_the_same_losses_and_the_same_first_gradient(
    tmp_path: Path,
) -> None:
    # 32 pairs do not divide by three: the third rank's last slot is filled and invalid.
    curves, gradients = {}, {}
    for world_size in (1, 2, 3):
        run_dir = tmp_path / f"ranks-{world_size}"
        gradient = tmp_path / f"gradient-{world_size}.pt"
        argv = [str(gradient), TOY, "--run-dir", str(run_dir)]
        run_well(
            train_and_keep_first_gradient,
            argv,
            tmp_path / f"logs-{world_size}",
            world_size=world_size,
        )
        curves[world_size] = torch.tensor(losses(run_dir), dtype=torch.float64)
        gradients[world_size] = torch.load(gradient, weights_only=True).double()
    assert len(curves[1]) == 20
    for world_size in (2, 3):
        torch.testing.assert_close(curves[world_size], curves[1], rtol=1e-5, atol=0)
        difference = (gradients[world_size] - gradients[1]).norm() / gradients[1].norm()
        assert difference < 1e-5, difference


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, pytest.param(3, marks=pytest.mark.long)])
def test_a_run_killed_after_step_30_and_resumed_repeats_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, world_size: int
) -> None:
    settings = ["--max-steps", "60", "--checkpoint-every", "30", "--precision", "bf16"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    argv = [TOY, "--run-dir", str(whole), *settings]
    run_well(train.main, argv, tmp_path / "whole-logs", world_size=world_size)

    argv = [TOY, "--run-dir", str(broken), *settings]
    launch = Launch(train.main, argv, tmp_path / "broken-logs", world_size)
    wait_for(lambda: len(rows_so_far(broken)) >= 34, launch)
    launch.kill()
    assert len(rows_so_far(broken)) < 60, "killed too late to show anything"
    argv = [str(broken), "--resume"]
    run_well(train.main, argv, tmp_path / "resumed-logs", world_size=world_size)

    assert losses(broken) == losses(whole)
    assert len(losses(whole)) == 60
    for name in ("model.safetensors", "optimizer.safetensors"):
        files = [folder / "checkpoints" / "step-00000060" / name for folder in (whole, broken)]
        assert files[0].read_bytes() == files[1].read_bytes()


def whole_and_resumed(folder: Path, settings: list[str], *, last_step: int) -> tuple[Path, Path]:
    """An uninterrupted run, and one that was continued from its checkpoint before the last."""
    whole, halves = folder / "whole", folder / "halves"
    run_well(train.main, [TOY, "--run-dir", str(whole), *settings], folder / "a")
    run_well(train.main, [TOY, "--run-dir", str(halves), *settings], folder / "b")
    shutil.rmtree(halves / "checkpoints" / f"step-{last_step:08d}")
    run_well(train.main, [str(halves), "--resume"], folder / "c")
    return whole, halves


def rows_so_far(run_dir: Path) -> list[str]:
    path = run_dir / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition, launch: Launch, timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, launch.output()
        time.sleep(0.002)


@pytest.mark.long
def test_torchrun_trains_and_a_kill_of_the_whole_group_is_resumed(
    tmp_path: Path, repository: Path
) -> None:
    run_dir = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "rins_mm.train",
    ]
    settings = ["--run-dir", str(run_dir), "--max-steps", "40", "--checkpoint-every", "10"]
    with (tmp_path / "log.txt").open("w") as log:
        group = subprocess.Popen(
            [*command, TOY, *settings],
            cwd=repository,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + 120
    while len(rows_so_far(run_dir)) < 12:
        assert time.monotonic() < deadline and group.poll() is None, (
            tmp_path / "log.txt"
        ).read_text()
        time.sleep(0.002)
    # torchrun starts its workers in sessions of their own: it is killed, then they are.
    workers = subprocess.run(
        ["pgrep", "-P", str(group.pid)], capture_output=True, text=True
    ).stdout.split()
    for process in (group.pid, *map(int, workers)):
        os.kill(process, signal.SIGKILL)
    group.wait()
    done = subprocess.run(
        [*command, TOY, *settings, "--resume"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "resuming after step" in done.stderr
    assert [row["step"] for row in read_rows(run_dir / "metrics.jsonl")] == list(range(1, 41))


def test_a_run_folder_is_enough(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_well(train.main, [TOY, "--run-dir", str(run_dir), "--max-steps", "3"], tmp_path / "logs")
    rows = read_rows(run_dir / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert {"loss", "samples_seen", "samples_per_second", "learning_rate", "text_calls"} <= rows[
        0
    ].keys()
    environment = json.loads((run_dir / "environment.json").read_text())
    assert environment["world_size"] == 1 and environment["packages"]["torch"] == torch.__version__
    assert "rins_mm.train" in (run_dir / "command.txt").read_text()

    # The recorded file is accepted wherever a recipe is.
    again = tmp_path / "again"
    argv = [str(run_dir / "config.json"), "--run-dir", str(again)]
    run_well(train.main, argv, tmp_path / "again-logs")
    assert losses(again) == losses(run_dir)


def test_a_finished_run_that_is_resumed_trains_no_further(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    argv = [TOY, "--run-dir", str(run_dir), "--max-steps", "2"]
    run_well(train.main, argv, tmp_path / "logs")
    before = (run_dir / "metrics.jsonl").read_bytes()
    run_well(train.main, [*argv, "--resume"], tmp_path / "resumed")
    assert (run_dir / "metrics.jsonl").read_bytes() == before


def test_resume_begins_a_run_that_is_not_there_yet(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "2", "--resume"]
    run_well(train.main, argv, tmp_path / "logs")
    assert len(losses(tmp_path / "run")) == 2


def test_a_run_can_be_moved_and_lengthened(tmp_path: Path) -> None:
    first, moved = tmp_path / "first", tmp_path / "moved"
    run_well(train.main, [TOY, "--run-dir", str(first), "--max-steps", "2"], tmp_path / "logs")
    shutil.move(first, moved)
    run_well(train.main, [str(moved), "--resume", "--max-steps", "4"], tmp_path / "longer")
    assert len(losses(moved)) == 4
    assert list(moved.glob("config.until-*.json")), "the former settings stay on record"


def test_an_average_of_the_weights_survives_a_resume(tmp_path: Path) -> None:
    settings = ["--ema-decay", "0.9", "--max-steps", "4", "--checkpoint-every", "2"]
    whole, halves = whole_and_resumed(tmp_path, settings, last_step=4)
    name = Path("checkpoints") / "step-00000004" / "average.safetensors"
    assert (whole / name).read_bytes() == (halves / name).read_bytes()


def test_stochastic_depth_and_patch_dropout_survive_a_resume(tmp_path: Path) -> None:
    settings = ["--image.drop-path", "0.3", "--image.patch-dropout", "0.5", "--max-steps", "4"]
    settings += ["--checkpoint-every", "2"]
    whole, halves = whole_and_resumed(tmp_path, settings, last_step=4)
    assert losses(whole) == losses(halves)


def test_the_softmax_baseline_and_a_timm_optimizer_train(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "8", "--loss.kind", "softmax"]
    argv += ["--optimizer.name", "adafactorbv", "--loss.initial-bias", "0"]
    run_well(train.main, argv, tmp_path / "logs")
    curve = losses(tmp_path / "run")
    assert curve[-1] < curve[0]


def test_sixteen_pairs_are_learnt_by_heart(tmp_path: Path) -> None:
    shard = tmp_path / "few.tar"
    dataset = open_dataset(["emoji:val"])
    with webdataset.TarWriter(str(shard)) as writer:
        # Forty apart: no two drawings of one concept.
        for index in range(0, 640, 40):
            sample = read_sample(dataset, index)
            writer.write({"__key__": sample.key, **sample.parts})
    argv = [
        TOY,
        "--run-dir",
        str(tmp_path / "run"),
        "--data.shards",
        str(shard),
        "--batch-size",
        "16",
    ]
    argv += [
        "--max-steps",
        "150",
        "--optimizer.peak-learning-rate",
        "2e-3",
        "--loss.initial-bias",
        "-3",
    ]
    argv += ["--data.captions.kind", "label"]
    run_well(train.main, argv, tmp_path / "logs")
    curve = losses(tmp_path / "run")
    assert curve[-1] < 0.8 < 2 < curve[0]


@pytest.mark.parametrize("optimizer", ["adafactorbv", "lion"])
def test_the_state_of_timms_optimizers_survives_a_resume(tmp_path: Path, optimizer: str) -> None:
    settings = ["--optimizer.name", optimizer, "--max-steps", "6", "--checkpoint-every", "3"]
    settings += ["--optimizer.peak-learning-rate", "1e-4"]
    whole, halves = whole_and_resumed(tmp_path, settings, last_step=6)
    assert losses(whole) == losses(halves)


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "2", "--tensorboard"]
    run_well(train.main, argv, tmp_path / "logs")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(
        losses(tmp_path / "run")
    )


def test_evaluation_in_the_loop_reports_each_depth(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "2", "--eval-every", "1"]
    argv += ["--evaluation.tasks", "retrieval:emoji-val"]
    for outcome in run(train.main, argv, tmp_path / "logs", world_size=2):
        assert outcome.code == 0, outcome.output
    evaluations = [
        row for row in read_rows(tmp_path / "run" / "metrics.jsonl") if "evaluation" in row
    ]
    assert [row["step"] for row in evaluations] == [1, 2]
    names = evaluations[0]["evaluation"].keys()
    assert {name.split("/")[1] for name in names} == {"AB", "AAB", "AAAB"}


def test_bad_samples_of_all_ranks_are_counted_by_shard_and_cause(tmp_path: Path) -> None:
    shard = tmp_path / "mixed.tar"
    dataset = open_dataset(["emoji:val"])
    with webdataset.TarWriter(str(shard)) as writer:
        for index in range(40):
            sample = read_sample(dataset, index)
            parts = dict(sample.parts)
            if index % 10 == 3:
                parts["webp"] = parts["webp"][:-40]
            writer.write({"__key__": sample.key, **parts})
    argv = [
        TOY,
        "--run-dir",
        str(tmp_path / "run"),
        "--data.shards",
        str(shard),
        "--max-steps",
        "2",
    ]
    argv += ["--batch-size", "20", "--checkpoint-every", "1"]
    run_well(train.main, argv, tmp_path / "logs", world_size=2)
    counts = [
        row["bad_samples"]
        for row in read_rows(tmp_path / "run" / "metrics.jsonl")
        if "bad_samples" in row
    ]
    # Two steps of 20 are one pass over the 40 samples, 4 of which are broken.
    assert counts[-1] == [["mixed.tar", "truncated picture", 4]]
    assert "4 x truncated picture" in (tmp_path / "logs" / "rank-0.txt").read_text()
