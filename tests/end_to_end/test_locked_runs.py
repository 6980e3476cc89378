"""Runs with a locked tower and rates by block: sharded as whole, and resumed as if never stopped."""

import json
import shutil
from pathlib import Path

import pytest
from kills import hashes_of_checkpoints, rows_of
from launching import TOY, run, run_well

from rins_mm import train
from rins_mm.checkpoint import newest_checkpoint
from rins_mm.config import initial_model
from rins_mm.recorded_config import read_config

SETTINGS = [TOY, "--max-steps", "6", "--checkpoint-every", "3", "--keep-checkpoints", "9"]
SETTINGS += ["--init.lock-image", "--init.unlock-from-block", "1", "--ema-decay", "0.9"]
SETTINGS += ["--optimizer.layer-decay", "0.5", "--optimizer.image-rate-factor", "0.3"]


def trained(folder: Path, sharding: str, world_size: int, *flags: str) -> Path:
    argv = [*SETTINGS, "--run-dir", str(folder / "run"), "--sharding", sharding, *flags]
    run_well(train.main, argv, folder / "logs", world_size=world_size)
    return folder / "run"


@pytest.mark.slow
def test_a_locked_run_is_the_same_sharded_and_resumed_and_leaves_what_is_locked(tmp_path):
    whole, sharded = (trained(tmp_path / kind, kind, 2) for kind in ("none", "fsdp"))
    losses = [[row["loss"] for row in rows_of(run_dir)] for run_dir in (whole, sharded)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)

    shutil.copytree(sharded, tmp_path / "resumed" / "run")
    shutil.rmtree(tmp_path / "resumed/run/checkpoints/step-00000006")
    resumed = trained(tmp_path / "resumed", "fsdp", 2, "--resume")
    assert rows_of(resumed) == rows_of(sharded)
    assert hashes_of_checkpoints(resumed) == hashes_of_checkpoints(sharded)

    fresh = initial_model(read_config(sharded / "config.json"), pad_token=0)
    weights = newest_checkpoint(sharded).model_weights()
    for name, parameter in fresh.named_parameters():
        assert parameter.equal(weights[name]) != parameter.requires_grad, name


def test_a_run_begins_with_the_weights_of_another_and_says_so(tmp_path):
    first = [TOY, "--max-steps", "1", "--run-dir", str(tmp_path / "one"), "--batch-size", "4"]
    run_well(train.main, first, tmp_path / "logs", world_size=1)
    second = [*first[:-3], str(tmp_path / "two"), "--batch-size", "4"]
    flags = ["--init.model", str(tmp_path / "one"), "--init.lock-image"]
    (outcome,) = run(train.main, [*second, *flags], tmp_path / "logs", world_size=1)
    assert outcome.code == 0, outcome.output
    assert "tensors matched; resized none; left none; began anew none" in outcome.output
    assert f"beginning with {tmp_path / 'one'}, image tower locked" in outcome.output
    (report,) = json.loads((tmp_path / "two" / "initial_weights.json").read_text())
    assert (report["part"], report["left"], report["began_anew"]) == ("model", [], [])
    given, found = (newest_checkpoint(tmp_path / name).model_weights() for name in ("one", "two"))
    same = {name for name in given if given[name].equal(found[name])}
    assert same == {name for name in given if name.startswith("image_tower.")}
    refused = [*second, "--resume", "--init.model", "other"]
    (outcome,) = run(train.main, refused, tmp_path / "logs", world_size=1)
    assert (outcome.code, "init.model" in outcome.output) == (2, True)
