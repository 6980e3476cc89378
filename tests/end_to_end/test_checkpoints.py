"""A run goes on from what it saved: of an earlier format, beside damaged ones, after killed saves."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from launching import TOY, run, run_well

from rins_mm import train
from rins_mm.run_log import read_rows

FIXTURES = Path(__file__).parents[1] / "fixtures"


def flip_last_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_a_run_of_format_1_goes_on_as_it_did_then(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(FIXTURES / "format-1", run_dir)
    then = read_rows(run_dir / "metrics.jsonl")
    run_well(train.main, [str(run_dir), "--resume"], tmp_path / "logs")
    now = read_rows(run_dir / "metrics.jsonl")
    assert [row["step"] for row in now] == [row["step"] for row in then] == [1, 2, 3, 4]
    for row, old in zip(now[2:], then[2:], strict=True):
        # Made on another machine, perhaps.
        assert row["loss"] == pytest.approx(old["loss"], rel=1e-4)
        assert row["gradient_norm"] == pytest.approx(old["gradient_norm"], rel=1e-3)
        assert row["time"] > old["time"]
    manifests = [
        json.loads((run_dir / "checkpoints" / f"step-0000000{step}" / "MANIFEST.json").read_text())
        for step in (2, 4)
    ]
    assert [manifest["format_version"] for manifest in manifests] == [1, 2]


def test_a_run_with_a_damaged_checkpoint_and_leftovers_goes_on_when_told_to(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    argv = [TOY, "--run-dir", str(run_dir), "--max-steps", "6", "--checkpoint-every", "2"]
    run_well(train.main, argv, tmp_path / "logs")
    checkpoints = run_dir / "checkpoints"
    newest = checkpoints / "step-00000006"
    good = (newest / "model.safetensors").read_bytes()
    flip_last_bit(newest / "optimizer.safetensors")
    for name in ("step-00000005.partial", "step-00000002.removed"):
        shutil.copytree(newest, checkpoints / name)

    refused = run(train.main, [*argv, "--resume"], tmp_path / "refused")[0]
    assert refused.code == 2
    assert str(newest / "optimizer.safetensors") in refused.output
    assert "--skip-damaged" in refused.output
    assert (checkpoints / "step-00000005.partial").exists()

    for outcome in run(
        train.main, [*argv, "--resume", "--skip-damaged"], tmp_path / "told", world_size=2
    ):
        assert outcome.code == 0, outcome.output
    output = (tmp_path / "told" / "rank-0.txt").read_text()
    for said in (
        f"passed over {newest}, now step-00000006.damaged: ",
        f"{newest / 'optimizer.safetensors'} is damaged",
        f"removed {checkpoints / 'step-00000005.partial'}",
        f"removed {checkpoints / 'step-00000002.removed'}",
        "resuming after step 4",
    ):
        assert output.count(said) == 1, (said, output)
    assert "passed over" not in (tmp_path / "told" / "rank-1.txt").read_text()
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "step-00000004",
        "step-00000006",
        "step-00000006.damaged",
    ]
    assert len((newest / "model.safetensors").read_bytes()) == len(good)


def train_with_little_room(argv: list[str]) -> None:
    """Train where 5 MB are free."""
    usage = shutil.disk_usage("/")
    shutil.disk_usage = lambda folder: usage._replace(free=5_000_000)
    train.main(argv)


def test_too_little_room_is_said_by_every_rank_before_the_first_step(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "2"]
    for outcome in run(train_with_little_room, argv, tmp_path / "logs", world_size=2):
        assert outcome.code == 2, outcome.output
        (line,) = [line for line in outcome.output.splitlines() if line.startswith("error: ")]
        assert "5 MB free" in line and "MB, and the disk of" in line and "free some space" in line
        assert "loss" not in outcome.output


def train_on_a_failing_disk(argv: list[str]) -> None:
    """Train where folders can no longer be renamed."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    os.rename = fail
    train.main(argv)


def test_a_save_that_fails_beside_the_training_ends_the_run_in_one_line(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "9", "--checkpoint-every", "4"]
    (outcome,) = run(train_on_a_failing_disk, argv, tmp_path / "logs")
    assert outcome.code == 2 and "Traceback" not in outcome.output, outcome.output
    (line,) = [line for line in outcome.output.splitlines() if line.startswith("error: ")]
    assert "the checkpoint of step 4 could not be written" in line and "--resume" in line
    # Training goes on until the failure is seen, and no further than to the next save.
    assert "step      4" in outcome.output and "step      9" not in outcome.output
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_saves_beside_the_training_and_saves_that_it_waits_for_are_the_same(tmp_path: Path) -> None:
    runs = {}
    for setting, flags in {"beside": [], "waited": ["--no-checkpoint-async"]}.items():
        run_dir = tmp_path / setting
        argv = [TOY, "--run-dir", str(run_dir), "--max-steps", "6", "--checkpoint-every", "2"]
        argv += [*flags, "--keep-checkpoints", "3", "--ema-decay", "0.5"]
        run_well(train.main, argv, tmp_path / f"logs-{setting}")
        files = sorted((run_dir / "checkpoints").rglob("*.*"))
        runs[setting] = {path.relative_to(run_dir): path.read_bytes() for path in files}
        stalls = [row["checkpoint_stall_seconds"] for row in read_rows(run_dir / "metrics.jsonl")]
        assert [stall > 0 for stall in stalls] == [False, False, True, False, True, False]
    assert len(runs["beside"]) == 3 * 6
    assert runs["beside"] == runs["waited"]
