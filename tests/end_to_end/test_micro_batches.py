"""Runs whose share of a batch is split train as those whose share is not."""

from pathlib import Path

import pytest
from launching import TOY, run, run_well

from rins_mm import train
from rins_mm.run_log import read_rows


def losses(run_dir: Path) -> list[float]:
    return [row["loss"] for row in read_rows(run_dir / "metrics.jsonl") if "loss" in row]


def train_well(run_dir: Path, micro_batch_size: int) -> None:
    argv = [TOY, "--run-dir", str(run_dir), "--max-steps", "4", "--checkpoint-every", "2"]
    argv += ["--micro-batch-size", str(micro_batch_size)]
    logs = run_dir.with_name(f"{run_dir.name}-logs-{micro_batch_size}")
    run_well(train.main, argv, logs, world_size=2)


def test_a_split_run_has_the_losses_of_the_whole_one_and_resumes_with_other_parts(
    tmp_path: Path,
) -> None:
    whole, split = tmp_path / "whole", tmp_path / "split"
    train_well(whole, 0)
    train_well(split, 5)
    assert losses(split) == pytest.approx(losses(whole), rel=1e-4)
    assert losses(split)[-1] != losses(split)[0]

    (split / "checkpoints" / "step-00000004").rename(tmp_path / "not needed")
    argv = [str(split), "--resume", "--micro-batch-size", "7"]
    run_well(train.main, argv, tmp_path / "resumed", world_size=2)
    assert losses(split) == pytest.approx(losses(whole), rel=1e-4)


def test_a_negative_size_of_parts_is_refused(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--micro-batch-size", "-1"]
    (outcome,) = run(train.main, argv, tmp_path / "logs")
    assert outcome.code == 2
    assert "micro_batch_size is -1; it must be at least 0" in outcome.output
