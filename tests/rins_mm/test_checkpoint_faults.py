"""A save that is cut off anywhere costs no checkpoint that was there before."""

import json
import os
import shutil
import signal
import time

import pytest
import torch
from disk_faults import KILLED, KINDS, Disk, in_a_child
from small_run import SmallRun

from data_pipelines.errors import UserError
from rins_mm.checkpoint import (
    MANIFEST,
    checkpoint_folder,
    complete_steps,
    newest_checkpoint,
    open_checkpoint,
)
from rins_mm.checkpoint_writer import CheckpointWriter, tidy

FAILED = 3

# How many earlier saves there are, how many stay, and whether the save is beside the training.
CASES = {"keeps one": (1, 1, False), "keeps two": (3, 2, True), "replaces": (3, 3, True)}


def earlier_saves(folder, case):
    """A run with so many earlier saves; and what a save of step 9 finds besides."""
    count, keep, _ = CASES[case]
    for step in range(1, count + 1):
        SmallRun().train(range(step)).save(folder, step, keep=keep)
    if case == "replaces":
        # A damaged one of the same step, and what a killed save left.
        for name in ("step-00000009", "step-00000009.partial", "step-00000001.removed"):
            shutil.copytree(checkpoint_folder(folder, 2), folder / "checkpoints" / name)
        (checkpoint_folder(folder, 9) / "model.safetensors").write_bytes(b"")


def save_in_a_child(folder, case, disk, run):
    """The exit code of a fork that saves step 9 on such a disk."""
    _, keep, asynchronous = CASES[case]

    def save():
        disk.install()
        try:
            writer = CheckpointWriter(folder, keep=keep, asynchronous=asynchronous)
            writer.begin(9, **run.parts(), state={"note": "new"})
            writer.finish()
        except (OSError, UserError):
            return FAILED
        finally:
            if disk.fail_at < 0:
                (folder / "trace").write_text(json.dumps(disk.trace))
        return 0

    return in_a_child(save)


def check_what_is_left(folder, case, code, run):
    """What must hold however the save of step 9 ended."""
    count, keep, _ = CASES[case]
    new = checkpoint_folder(folder, 9)
    is_new = (new / MANIFEST).exists() and (new / "model.safetensors").stat().st_size > 0
    assert code in (0, FAILED, KILLED)
    assert is_new or code != 0
    newest = newest_checkpoint(folder, skip_damaged=case == "replaces")
    assert newest.step == (9 if is_new else count)
    if is_new:
        expected = run.model.state_dict()
        assert all(torch.equal(t, expected[n]) for n, t in newest.model_weights().items())
    whole = [s for s in complete_steps(folder) if s != 9 or is_new]
    for step in whole:
        assert open_checkpoint(checkpoint_folder(folder, step)).step == step
    assert len(whole) >= keep

    left = {f.name for f in new.parent.glob("*.partial")} | {
        f.name for f in new.parent.glob("*.removed")
    }
    lines = tidy(folder, newest)
    assert sum(line.startswith("removed") for line in lines) == len(left)
    assert all(any(f"{name}," in line for line in lines) for name in left)
    assert not any(f.suffix in (".partial", ".removed") for f in new.parent.iterdir())
    # The run goes on.
    run.save(folder, 10, keep=1)
    assert newest_checkpoint(folder).step == 10


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_save_that_fails_or_dies_at_any_call_leaves_the_newest_whole_one(
    tmp_path, monkeypatch, case
):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    run = SmallRun().train(range(5))
    earlier_saves(tmp_path / "before", case)
    shutil.copytree(tmp_path / "before", tmp_path / "dry")
    assert save_in_a_child(tmp_path / "dry", case, Disk(), run) == 0
    num_calls = len(json.loads((tmp_path / "dry" / "trace").read_text()))
    assert num_calls * len(KINDS) * len(CASES) >= 200
    codes = []
    for kind in KINDS:
        for number in range(num_calls):
            folder = tmp_path / f"{kind}-{number}"
            shutil.copytree(tmp_path / "before", folder)
            code = save_in_a_child(folder, case, Disk(fail_at=number, kind=kind), run)
            assert (code == KILLED) == (kind == "kill"), (kind, number, code)
            check_what_is_left(folder, case, code, run)
            shutil.rmtree(folder)
            codes.append(code)
    print(f"{case}: {len(codes)} fault points, of which {codes.count(0)} cost nothing")
    assert codes.count(FAILED) > num_calls


def test_everything_is_on_the_disk_before_it_counts_and_before_anything_is_removed(tmp_path):
    earlier_saves(tmp_path, "keeps two")
    run = SmallRun().train(range(5))
    assert save_in_a_child(tmp_path, "keeps two", Disk(), run) == 0
    trace = [tuple(entry) for entry in json.loads((tmp_path / "trace").read_text())]
    checkpoints = tmp_path / "checkpoints"
    partial = checkpoints / "step-00000009.partial"
    manifest = trace.index(("write", str(partial / MANIFEST)))
    renamed = trace.index(("rename", str(partial)))
    written = [path for operation, path in trace[:manifest] if operation == "write"]
    assert len(written) == 4
    for path in written:
        assert trace.index(("write", path)) < trace.index(("fsync", path)) < manifest
    synced = [trace.index(("fsync", str(path))) for path in (partial / MANIFEST, partial)]
    assert manifest < synced[0] < synced[1] < renamed
    parents = [trace.index(("fsync", str(path))) for path in (checkpoints, tmp_path)]
    old = trace.index(("rename", str(checkpoints / "step-00000002")))
    first_removed = min(
        n for n, (operation, _) in enumerate(trace) if n > renamed and operation == "unlink"
    )
    assert renamed < min(parents) and max(parents) < old < first_removed


@pytest.mark.slow
def test_ten_real_kills_of_a_process_that_saves_all_the_time(tmp_path):
    run = SmallRun().train(range(2))
    newest = 0
    for number in range(10):
        reached = tmp_path / "reached"
        reached.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            try:
                writer = CheckpointWriter(tmp_path, keep=1)
                for step in range(newest + 1, newest + 100_000):
                    writer.begin(step, **run.parts(), state={"step": step})
                    reached.touch()
            finally:
                os._exit(1)
        while not reached.exists():
            time.sleep(0.001)
        time.sleep(0.01 + 0.0173 * number)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        for step in complete_steps(tmp_path):
            open_checkpoint(checkpoint_folder(tmp_path, step))
        if found := newest_checkpoint(tmp_path):
            assert found.step == found.state["step"] > newest - 1
            newest = found.step
        tidy(tmp_path, found)
        left = sorted(f.name for f in (tmp_path / "checkpoints").iterdir())
        assert left == [f"step-{step:08d}" for step in complete_steps(tmp_path)]
    assert newest > 10
