"""A run that is killed again and again ends as if nothing had happened."""

import random
import time
from pathlib import Path

import pytest
from launching import TOY, Launch, run_well

from rins_mm import train
from rins_mm.run_log import read_rows

SETTINGS = ["--max-steps", "60", "--checkpoint-every", "5", "--eval-every", "20"]
SETTINGS += ["--evaluation.tasks", "retrieval:emoji-val"]
NUM_KILLS = 5


@pytest.mark.long
@pytest.mark.parametrize("world_size", [2, 3])
def test_kills_at_random_instants_change_no_loss_no_evaluation_and_no_weight(
    tmp_path: Path, world_size: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    started = time.monotonic()
    run_well(
        train.main, [TOY, "--run-dir", str(whole), *SETTINGS], tmp_path / "w", world_size=world_size
    )
    duration = time.monotonic() - started

    seed = time.time_ns()
    print(f"instants are drawn from the seed {seed}")
    instants = random.Random(seed)
    argv = [TOY, "--run-dir", str(broken), *SETTINGS, "--resume"]
    for number in range(NUM_KILLS):
        launch = Launch(train.main, argv, tmp_path / f"kill-{number}", world_size)
        # Anywhere: imports, first step, checkpoint, evaluation, exit.
        time.sleep(instants.uniform(0.2, 1.0) * duration)
        launch.kill()
    run_well(train.main, argv, tmp_path / "last", world_size=world_size)

    rows = [without_timing(row) for row in read_rows(broken / "metrics.jsonl")]
    assert rows == [without_timing(row) for row in read_rows(whole / "metrics.jsonl")]
    for name in ("model.safetensors", "optimizer.safetensors"):
        files = [run / "checkpoints" / "step-00000060" / name for run in (whole, broken)]
        assert files[0].read_bytes() == files[1].read_bytes()


def without_timing(row: dict) -> dict:
    timing = {"time", "samples_per_second", "data_wait_fraction"}
    return {key: value for key, value in row.items() if key not in timing}
