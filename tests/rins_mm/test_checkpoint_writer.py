"""Saves beside the training: what is written, what they wait for, and how they fail."""

import collections
import errno
import shutil
import threading

import pytest
import torch
from small_run import SmallRun

from data_pipelines.errors import UserError
from rins_mm import checkpoint_writer
from rins_mm.checkpoint import (
    MANIFEST,
    DamagedCheckpoint,
    checkpoint_folder,
    complete_steps,
    looks_whole,
    newest_checkpoint,
    open_checkpoint,
)
from rins_mm.checkpoint_writer import CheckpointWriter, tidy


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(path, bit):
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.fixture
def held(monkeypatch):
    """Background saves wait at their first write until this event is set."""
    event, real = threading.Event(), checkpoint_writer.write_checkpoint

    def hold(*arguments):
        assert event.wait(30)
        real(*arguments)

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", hold)
    yield event
    event.set()


@pytest.mark.parametrize("name", ["adamw", "adafactorbv", "adabelief"])
def test_a_save_beside_the_training_equals_one_that_training_waits_for(tmp_path, held, name):
    one, two = SmallRun(name).train(range(3)), SmallRun(name).train(range(3))
    averages = [SmallRun().train(range(2)).model for _ in range(2)]
    beside = CheckpointWriter(tmp_path / "beside", keep=2)
    state = {"counts": [1, 2]}
    beside.begin(3, **one.parts(averages[0]), state=state)
    # All that is saved changes before the first byte is written.
    one.train(range(3, 6))
    state["counts"].append(3)
    with torch.no_grad():
        for parameter in averages[0].parameters():
            parameter.zero_()
    held.set()
    beside.finish()
    waited = CheckpointWriter(tmp_path / "waited", keep=2, asynchronous=False)
    waited.begin(3, **two.parts(averages[1]), state={"counts": [1, 2]})
    assert contents(checkpoint_folder(tmp_path / "beside", 3)) == contents(
        checkpoint_folder(tmp_path / "waited", 3)
    )
    # So does the next one, which uses the same memory again.
    two.train(range(3, 6))
    for writer, run in ((beside, one), (waited, two)):
        writer.begin(6, **run.parts(averages[0]), state={})
        writer.finish()
    assert contents(checkpoint_folder(tmp_path / "beside", 6)) == contents(
        checkpoint_folder(tmp_path / "waited", 6)
    )


def test_a_second_save_waits_for_the_first_and_the_same_step_is_saved_once(tmp_path, held):
    run, writer = SmallRun().train(range(1)), CheckpointWriter(tmp_path, keep=3)
    assert writer.begin(1, **run.parts(), state={}) < 10
    assert complete_steps(tmp_path) == []
    threading.Timer(0.2, held.set).start()
    assert writer.begin(2, **run.parts(), state={}) > 0.1
    assert 1 in complete_steps(tmp_path)
    writer.finish()
    before = (checkpoint_folder(tmp_path, 2) / MANIFEST).stat().st_ino
    writer.begin(2, **run.parts(), state={"another": 1})
    writer.finish()
    assert (checkpoint_folder(tmp_path, 2) / MANIFEST).stat().st_ino == before


@pytest.mark.parametrize("where", ["begin", "finish"])
def test_the_error_of_a_save_is_raised_by_the_next_call_in_one_line(tmp_path, monkeypatch, where):
    run, writer = SmallRun().train(range(1)), CheckpointWriter(tmp_path, keep=2)

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_writer, "save_tensors", broken)
        writer.begin(1, **run.parts(), state={})
        with pytest.raises(UserError, match=r"checkpoint of step 1 .*Input/output error.*--resume"):
            writer.finish() if where == "finish" else writer.begin(2, **run.parts(), state={})
    # Said once; nothing is left of it.
    writer.finish()
    assert list((tmp_path / "checkpoints").iterdir()) == []
    writer.begin(2, **run.parts(), state={})
    writer.finish()
    assert newest_checkpoint(tmp_path).step == 2


def test_too_little_room_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    run, writer = SmallRun(), CheckpointWriter(tmp_path / "run", keep=2)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 12_345_678))
    with pytest.raises(UserError, match=r"needs 17 MB, and the disk of .*run has 12 MB free; free"):
        writer.begin(1, **run.parts(), state={})
    with pytest.raises(UserError, match="12 MB free"):
        writer.check_room(**run.parts())
    assert list(tmp_path.iterdir()) == []


def test_the_room_for_a_first_checkpoint_is_known_before_the_first_step(tmp_path, monkeypatch):
    asked, writer = [], CheckpointWriter(tmp_path, keep=2)
    monkeypatch.setattr(writer, "_require_room", asked.append)
    run = SmallRun()
    writer.check_room(**run.parts(run.model))
    run.train(range(1))
    writer.check_room(**run.parts(run.model))
    # Also true of the steps that the moments are counted by, up to their few bytes.
    assert asked[0] <= asked[1] <= asked[0] + 64
    run.save(tmp_path, 1, average=run.model)
    files = checkpoint_folder(tmp_path, 1).glob("*.safetensors")
    assert asked[1] <= sum(path.stat().st_size for path in files)


def test_one_flipped_bit_anywhere_is_noticed_and_its_file_is_named(tmp_path):
    run = SmallRun("nadamw").train(range(2))
    run.save(tmp_path, 2, average=SmallRun().model)
    folder = checkpoint_folder(tmp_path, 2)
    files = sorted(folder.iterdir())
    draw = torch.Generator().manual_seed(0)
    assert len(files) == 6
    for number in range(204):
        path = files[number % len(files)]
        bit = int(torch.randint(8 * path.stat().st_size, (), generator=draw))
        flip(path, bit)
        with pytest.raises(UserError) as caught:
            newest_checkpoint(tmp_path)
        assert str(path) in str(caught.value), (path, bit, str(caught.value))
        flip(path, bit)
    assert newest_checkpoint(tmp_path).step == 2


def test_a_flipped_bit_in_any_byte_of_the_manifest_counts(tmp_path):
    SmallRun().save(tmp_path, 1)
    folder = checkpoint_folder(tmp_path, 1)
    path = folder / MANIFEST
    for byte in range(path.stat().st_size):
        bit = 8 * byte + byte % 8
        flip(path, bit)
        assert not looks_whole(folder), bit
        flip(path, bit)
    assert looks_whole(folder)


def test_a_damaged_newest_checkpoint_is_passed_over_only_when_told_to(tmp_path):
    run = SmallRun().train(range(1))
    for step in (1, 2, 3):
        run.save(tmp_path, step, keep=3)
    flip(checkpoint_folder(tmp_path, 3) / "state.json", 10)
    (checkpoint_folder(tmp_path, 2) / MANIFEST).unlink()
    with pytest.raises(DamagedCheckpoint, match=r"step-00000003/state\.json.*--skip-damaged"):
        newest_checkpoint(tmp_path)
    found = newest_checkpoint(tmp_path, skip_damaged=True)
    assert found.step == 1
    lines = tidy(tmp_path, found)
    assert [line.split(":")[0].split("/")[-1] for line in lines] == [
        "step-00000003, now step-00000003.damaged",
        "step-00000002, now step-00000002.damaged",
    ]
    assert "state.json is damaged" in lines[0] and MANIFEST in lines[1]
    # From now on it is in nobody's way.
    assert newest_checkpoint(tmp_path).step == 1
    run.save(tmp_path, 2, keep=1)
    assert complete_steps(tmp_path) == [2]


def test_with_no_whole_checkpoint_left_the_run_does_not_begin_anew(tmp_path):
    SmallRun().save(tmp_path, 1)
    flip(checkpoint_folder(tmp_path, 1) / "model.safetensors", 1000)
    with pytest.raises(
        UserError, match=r"none of the 1 checkpoints .* is whole: .*model\.safetens"
    ):
        newest_checkpoint(tmp_path, skip_damaged=True)


def test_a_later_format_is_not_taken_for_damage(tmp_path):
    SmallRun().save(tmp_path, 1)
    path = checkpoint_folder(tmp_path, 1) / MANIFEST
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 7'))
    with pytest.raises(UserError, match="format_version 7; this version of rins_mm reads 1 to 2"):
        newest_checkpoint(tmp_path, skip_damaged=True)


def test_what_is_not_whole_pushes_no_good_checkpoint_out(tmp_path):
    run = SmallRun().train(range(1))
    for step in (1, 2, 3):
        run.save(tmp_path, step, keep=3)
    file = checkpoint_folder(tmp_path, 3) / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    run.save(tmp_path, 4, keep=2)
    assert complete_steps(tmp_path) == [2, 3, 4]
    assert open_checkpoint(checkpoint_folder(tmp_path, 2)).step == 2
