"""A run that goes on with other ranks, or from nothing, does what it would have done."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from kills import hashes_of_checkpoints, rows_of
from launching import TOY, run, run_well

from data_pipelines.manifest import open_dataset
from rins_mm import distributed, train
from rins_mm.learner import Learner

STEPS = 30


def train_and_keep_sample_keys(argv: list[str]) -> None:
    """Train, writing down this rank's samples of each step, and die before the step named second (from 0)."""
    folder, dies_at, *argv = argv
    original = Learner.train_step

    def train_step(learner: Learner, step: int, batch, **others) -> dict:
        if step == int(dies_at):
            os.kill(os.getpid(), signal.SIGKILL)
        path = Path(folder) / f"{step}-{learner.ranks.rank}.json"
        path.write_text(json.dumps(batch.sample_keys))
        return original(learner, step, batch, **others)

    Learner.train_step = train_step
    train.main(argv)


def stream_of(launches: list[Path]) -> list[str]:
    """The samples of all steps in the order of their slots; of a step made twice, those of the second time."""
    stream = []
    for step in range(STEPS):
        last = [folder for folder in launches if (folder / f"{step}-0.json").exists()][-1]
        paths = sorted(last.glob(f"{step}-*.json"))
        shares = [json.loads(path.read_text()) for path in paths]
        slots = [key for of_all_ranks in zip(*shares, strict=True) for key in of_all_ranks]
        stream += [key for key in slots if key]
    return stream


@pytest.mark.slow
# 32 pairs do not divide by three, 24 divide by all.
@pytest.mark.parametrize("batch_size", [32, 24])
def test_two_one_four_and_three_ranks_continue_each_other(tmp_path: Path, batch_size: int) -> None:
    settings = [TOY, "--max-steps", str(STEPS), "--checkpoint-every", "4"]
    settings += ["--batch-size", str(batch_size)]
    whole, changing = tmp_path / "whole", tmp_path / "changing"
    run_well(train.main, [*settings, "--run-dir", str(whole)], tmp_path / "whole-logs")

    launches = []
    for world_size, dies_at in ((2, 7), (1, 14), (4, 22), (3, STEPS)):
        launches.append(tmp_path / f"keys-{world_size}")
        launches[-1].mkdir()
        argv = [str(launches[-1]), str(dies_at), *settings, "--run-dir", str(changing), "--resume"]
        logs = tmp_path / f"logs-{world_size}"
        outcomes = run(train_and_keep_sample_keys, argv, logs, world_size=world_size)
        assert all((o.code == 0) == (dies_at == STEPS) for o in outcomes), outcomes[0].output

    rows, expected = rows_of(changing), rows_of(whole)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["samples"] for row in rows] == [row["samples"] for row in expected]
    assert len({row["samples"] for row in rows}) == STEPS
    losses, others = (torch.tensor([row["loss"] for row in one]) for one in (rows, expected))
    torch.testing.assert_close(losses, others, rtol=1e-5, atol=0)

    num_samples = open_dataset(["emoji:val"]).num_samples
    stream = stream_of(launches)
    assert len(stream) == STEPS * batch_size > num_samples
    first_epoch, second_epoch = stream[:num_samples], stream[num_samples:]
    assert len(set(first_epoch)) == num_samples
    assert len(set(second_epoch)) == len(second_epoch) and set(second_epoch) < set(first_epoch)


def die_in_the_first_step(argv: list[str]) -> None:
    """Train until the first gradient has been summed over the ranks."""

    def clip(buffer: distributed.GradientBuffer, max_norm: float) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)

    distributed.GradientBuffer.clip = clip
    train.main(argv)


def test_a_run_killed_inside_its_first_step_begins_anew_and_equals_the_uninterrupted_one(
    tmp_path: Path,
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = [TOY, "--max-steps", "6", "--checkpoint-every", "3", "--resume"]
    run_well(train.main, [*settings, "--run-dir", str(whole)], tmp_path / "a", world_size=2)

    argv = [*settings, "--run-dir", str(broken)]
    outcomes = run(die_in_the_first_step, argv, tmp_path / "b", world_size=2)
    assert [outcome.code for outcome in outcomes] == [-signal.SIGKILL] * 2
    assert (broken / "config.json").exists() and not (broken / "checkpoints").exists()
    assert rows_of(broken) == []

    run_well(train.main, argv, tmp_path / "c", world_size=2)
    assert rows_of(broken) == rows_of(whole)
    assert len(rows_of(broken)) == 6
    assert hashes_of_checkpoints(broken) == hashes_of_checkpoints(whole)
