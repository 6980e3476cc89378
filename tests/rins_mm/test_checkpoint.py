import json
import os
import resource
import shutil
import stat

import pytest
import torch
from disk_faults import in_a_child
from safetensors.torch import save_file
from small_run import SmallRun

from data_pipelines.errors import FULL, UserError
from rins_mm.checkpoint import (
    MANIFEST,
    complete_steps,
    load_weights,
    looks_whole,
    newest_checkpoint,
    open_checkpoint,
    read_tensors,
    save_tensors,
    verify_manifest,
    weights,
    write_manifest,
)
from rins_mm.guard import GuardConfig, StepGuard
from rins_mm.optimizer_state import optimizer_state

FILES = [
    "average.safetensors",
    "model.safetensors",
    "optimizer.json",
    "optimizer.safetensors",
    "state.json",
]


def seal_again(folder, **facts):
    """As somebody would who changes a file and wants it to pass for whole."""
    (folder / MANIFEST).unlink()
    write_manifest(folder, facts)


# Of different kinds of state: counts as tensors and as plain numbers, factored and bf16 moments.
@pytest.mark.parametrize("name", ["adamw", "adafactorbv", "muon", "lion", "adabelief", "nadamw"])
def test_a_restored_run_goes_on_bit_for_bit(tmp_path, name):
    unbroken = SmallRun(name).train(range(3))
    unbroken.save(tmp_path, 3)
    resumed = SmallRun(name).restore(newest_checkpoint(tmp_path))
    for run in (unbroken, resumed):
        run.train(range(3, 6))
    expected = unbroken.model.state_dict()
    assert all(torch.equal(value, expected[n]) for n, value in resumed.model.state_dict().items())
    one, two = (run.optimizer.state_dict()["state"] for run in (unbroken, resumed))
    assert one.keys() == two.keys()
    for number in one:
        assert one[number].keys() == two[number].keys()
        for key, value in one[number].items():
            assert type(value) is type(two[number][key])
            if isinstance(value, torch.Tensor):
                assert value.dtype == two[number][key].dtype
                assert torch.equal(value, two[number][key])
            else:
                assert value == two[number][key]


def test_state_and_weights_come_back_as_they_were(tmp_path):
    trained, average = SmallRun().train(range(2)), SmallRun()
    state = {"data": "abc", "skipped_in_a_row": 3, "loss": 0.1 + 0.2}
    folder = trained.save(tmp_path, 30, average=average.model, **state)
    assert folder == tmp_path / "checkpoints" / "step-00000030"
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint.step == 30
    assert checkpoint.state == {"seed": 0, **state}
    assert all(
        torch.equal(v, weights(trained.model)[n]) for n, v in checkpoint.model_weights().items()
    )
    averaged = checkpoint.model_weights(averaged=True)
    assert all(torch.equal(v, weights(average.model)[n]) for n, v in averaged.items())
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, MANIFEST])


def test_without_an_average_the_weights_stand_in_for_it(tmp_path):
    SmallRun().save(tmp_path, 1)
    checkpoint = newest_checkpoint(tmp_path)
    one, two = checkpoint.model_weights(), checkpoint.model_weights(averaged=True)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_noticed_in_any_file(tmp_path, name):
    folder = SmallRun().train(range(1)).save(tmp_path, 1, average=SmallRun().model)
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_shortened_file_is_noticed(tmp_path, name):
    folder = SmallRun().train(range(1)).save(tmp_path, 1, average=SmallRun().model)
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{name} is damaged"):
        open_checkpoint(folder)
    path.unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"format_version": 1, "files": [1]}',
             '{"format_version": 1, "files": {"state.json": 3}}', '{"format_version": 2, "files": {}}',
             '{"format_version": 1, "files": {}}', "[" * 100_000]
)  # fmt: skip
def test_a_manifest_that_says_something_else_is_refused_in_a_line(tmp_path, text):
    folder = SmallRun().save(tmp_path, 1)
    (folder / MANIFEST).write_text(text)
    with pytest.raises(UserError, match="step-00000001"):
        open_checkpoint(folder)


def test_a_manifest_cannot_point_outside_of_its_folder(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    write_manifest(folder, {})
    manifest = json.loads((folder / MANIFEST).read_text())
    # As of version 1, which has no hash of the manifest itself.
    files = {"../../a.txt": manifest["files"]["a.txt"]}
    (folder / MANIFEST).write_text(json.dumps({"format_version": 1, "files": files}))
    # The name is looked up in the folder itself.
    verify_manifest(folder)


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    trained = SmallRun()
    assert newest_checkpoint(tmp_path) is None
    for step in (1, 2, 10, 30):
        trained.save(tmp_path, step, keep=2)
    assert complete_steps(tmp_path) == [10, 30]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000010", "step-00000030",
    ]  # fmt: skip


def test_steps_are_ordered_as_numbers_also_beyond_eight_digits(tmp_path):
    trained = SmallRun()
    for step in (99_999_999, 100_000_000):
        trained.save(tmp_path, step)
    assert complete_steps(tmp_path) == [99_999_999, 100_000_000]
    assert newest_checkpoint(tmp_path).step == 100_000_000


def test_folders_that_were_not_written_to_their_end_are_ignored(tmp_path):
    trained = SmallRun()
    folder = trained.save(tmp_path, 1)
    for name in ("step-00000002.partial", "step-00000003.removed", "step-4"):
        shutil.copytree(folder, folder.with_name(name))
    assert complete_steps(tmp_path) == [1]
    assert newest_checkpoint(tmp_path).step == 1
    # What a killed run has left behind does not stand in the way.
    trained.save(tmp_path, 2)
    assert newest_checkpoint(tmp_path).step == 2
    assert not (folder.parent / "step-00000002.partial").exists()


def test_a_checkpoint_that_is_there_already_is_replaced_whole(tmp_path):
    SmallRun().save(tmp_path, 1, note="old")
    changed = SmallRun().train(range(1))
    changed.save(tmp_path, 1, note="new")
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint.state["note"] == "new"
    assert torch.equal(checkpoint.model_weights()["2.weight"], changed.model[2].weight)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize("moment", ["replace", "prune"])
def test_a_run_that_is_killed_while_it_removes_leaves_no_half_checkpoint_by_its_name(
    tmp_path, monkeypatch, moment
):
    trained = SmallRun()
    trained.save(tmp_path, 1)
    real = shutil.rmtree

    def killed_half_way(path, **settings):
        # A partial folder that is not there is removed as before; a full one loses a file, and the run dies.
        if path.exists():
            (path / "model.safetensors").unlink()
            raise KeyboardInterrupt
        real(path, **settings)

    monkeypatch.setattr(shutil, "rmtree", killed_half_way)
    with pytest.raises(KeyboardInterrupt):
        trained.save(tmp_path, 1 if moment == "replace" else 2, keep=1)
    monkeypatch.undo()
    for step in complete_steps(tmp_path):
        verify_manifest(tmp_path / "checkpoints" / f"step-{step:08d}")


def in_a_child_with_a_limit_on_the_size_of_files(function, limit):
    """What `function` returns (a number from 0 to 255) in a forked child that cannot write larger files."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return function()

    return in_a_child(limited)


def test_a_full_disk_is_an_oserror_with_its_number_and_leaves_nothing_behind(tmp_path):
    trained = SmallRun().train(range(1))
    trained.save(tmp_path, 1)

    def save():
        try:
            trained.save(tmp_path, 2)
        except OSError as error:
            return error.errno
        return 0

    assert in_a_child_with_a_limit_on_the_size_of_files(save, 2000) in FULL
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert newest_checkpoint(tmp_path).step == 1
    assert in_a_child_with_a_limit_on_the_size_of_files(save, 10**7) == 0
    assert newest_checkpoint(tmp_path).step == 2


def test_the_error_of_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"nowhere/model\.safetensors"):
        save_tensors({"a": torch.zeros(1)}, tmp_path / "nowhere" / "model.safetensors")


def test_checkpoints_can_be_read_by_those_whom_the_umask_lets(tmp_path):
    before = os.umask(0o022)
    try:
        folder = SmallRun().save(tmp_path, 1)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}


def test_what_is_no_safetensors_file_is_refused_by_its_path(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="model"):
        read_tensors(path)
    path.write_bytes(b"\x80\x04pickle" * 10)
    with pytest.raises(UserError, match="model"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (torch.float4_e2m1fn_x2, "float4_e2m1fn_x2"),
        (torch.float8_e4m3fn, "float8_e4m3fn"),
        (torch.complex64, "complex64"),
    ],
)
def test_numbers_that_no_weights_are_made_of_are_refused_by_their_kind(tmp_path, kind, told):
    file = tmp_path / "weights.safetensors"
    save_file(
        {"sound": torch.ones(2), "strange": torch.zeros(8, dtype=torch.uint8).view(kind)}, file
    )
    with pytest.raises(UserError, match=f"strange in .* is of the kind {told}, .* as float32"):
        read_tensors(file)


def test_weights_of_another_model_are_refused_with_what_differs(tmp_path):
    model = SmallRun().model
    good = weights(model)
    missing = {name: value for name, value in good.items() if name != "2.bias"}
    with pytest.raises(UserError, match=r"1 of its 6 tensors are missing \(2.bias\)"):
        load_weights(model, missing, tmp_path)
    with pytest.raises(UserError, match=r"1 are unknown \(extra\)"):
        load_weights(model, {**good, "extra": torch.zeros(1)}, tmp_path)
    with pytest.raises(UserError, match=r"2.bias has the shape \[7\] there and \[20\] here"):
        load_weights(model, {**good, "2.bias": torch.zeros(7)}, tmp_path)
    # Nothing was copied by halves.
    assert all(torch.equal(value, good[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "text", ["[]", "{", "[" * 100_000, "null", '{"skipped_steps": -1}', '{"skipped_in_a_row": "1"}',
             '{"steps_taken": [[1.0]]}', '{"steps_taken": {"a": 1}}', "\x00"],
)  # fmt: skip
def test_a_state_that_no_run_has_saved_is_refused_in_a_line(tmp_path, text):
    folder = SmallRun().train(range(1)).save(tmp_path, 1)
    (folder / "state.json").write_text(text)
    seal_again(folder, step=1)
    with pytest.raises(UserError, match=r"/state\.json|checkpoint's state counts"):
        StepGuard(GuardConfig()).restore(open_checkpoint(folder).state)


def test_moments_of_another_run_are_refused_by_their_name(tmp_path):
    run = SmallRun().train(range(2))
    good, _ = optimizer_state(run.optimizer, run.model)
    changes = {
        "no such parameter": {"x/exp_avg": torch.zeros(1)},
        "the shape": {"0.weight/exp_avg": torch.zeros(2, 2)},
        "numbers of": {"0.weight/exp_avg": torch.zeros(4, 3, 3, 3, dtype=torch.int32)},
        "no count of steps": {"0.weight/step": torch.zeros(3)},
        "it holds exp_avg, more, step": {"0.weight/more": torch.zeros(())},
    }
    for words, change in changes.items():
        tensors = {**good, **change}
        if "more" in words:
            del tensors["0.weight/exp_avg_sq"]
        folder = run.save(tmp_path, 2)
        save_tensors(tensors, folder / "optimizer.safetensors")
        seal_again(folder, step=2)
        with pytest.raises(UserError, match=words):
            SmallRun().restore(open_checkpoint(folder))


@pytest.mark.parametrize("text", ["[]", "{", "3", '{"0.weight/step": "x"}', "[" * 100_000])
def test_numbers_of_an_optimizer_that_are_none_are_refused_in_a_line(tmp_path, text):
    folder = SmallRun().train(range(1)).save(tmp_path, 1)
    (folder / "optimizer.json").write_text(text)
    seal_again(folder, step=1)
    with pytest.raises(UserError, match=r"/optimizer\.json|the optimizer's state in"):
        SmallRun().restore(open_checkpoint(folder))


def test_a_size_that_is_not_the_files_is_damage_for_whoever_looks(tmp_path):
    folder = SmallRun().train(range(1)).save(tmp_path, 1)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    del manifest["manifest_sha256"]
    manifest["files"]["state.json"]["bytes"] += 1
    (folder / "MANIFEST.json").write_text(json.dumps({**manifest, "format_version": 1}))
    assert not looks_whole(folder)
    with pytest.raises(UserError, match=r"state\.json is damaged: its SHA-256 or its size"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_a_manifest_with_a_name_that_no_file_can_have_is_damage(tmp_path, name):
    folder = SmallRun().train(range(1)).save(tmp_path, 1)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    del manifest["manifest_sha256"]
    manifest["files"][name] = manifest["files"]["state.json"]
    (folder / "MANIFEST.json").write_text(json.dumps({**manifest, "format_version": 1}))
    assert not looks_whole(folder)
    with pytest.raises(UserError, match=r"is not a complete checkpoint.*MANIFEST\.json"):
        open_checkpoint(folder)
