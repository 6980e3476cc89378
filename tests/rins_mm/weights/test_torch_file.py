"""Files of torch's own format are read in a child that can do little harm."""

import collections
import os
import resource
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data_pipelines.errors import UserError
from rins_mm.weights.files import read_weights
from rins_mm.weights.torch_file import read_torch_file
from rins_mm.weights.torch_file_child import allowed, tensors_of


class Mischief:
    """What runs a command of the file's choice where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


def test_weights_come_back_as_they_were_saved_also_tied_ones(tmp_path):
    weight = torch.randn(3, 4)
    named = {"a": weight, "tied": weight, "row": weight[1], "half": weight.half(), "step": 7}
    torch.save(collections.OrderedDict(named), tmp_path / "x.pt")
    found = read_weights(tmp_path / "x.pt")
    assert found.keys() == {"a", "tied", "row", "half"}
    assert all(torch.equal(found[name], named[name]) for name in found)


@pytest.mark.parametrize("kind", ["state_dict", "model_state_dict", "model"])
def test_weights_below_a_usual_name_and_of_several_ranks_are_found(kind):
    found = tensors_of({"epoch": 3, kind: {"module.a": torch.ones(2), "step": 7}})
    assert found.keys() == {"a"}


@pytest.mark.parametrize("loaded", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"step": 7}}])
def test_what_holds_no_named_tensors_is_refused(loaded):
    with pytest.raises(ValueError, match="names with tensors"):
        tensors_of(loaded)


def test_complex_numbers_are_refused_by_the_name_of_the_file_that_was_given(tmp_path, monkeypatch):
    def child(command, **options):
        save_file({"a": torch.zeros(2, dtype=torch.complex64)}, command[4])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", child)
    (tmp_path / "x.pt").write_bytes(b"what the child has read")
    with pytest.raises(UserError, match=f"a in {tmp_path / 'x.pt'} is of the kind complex64"):
        read_torch_file(tmp_path / "x.pt")


def test_code_in_a_file_is_not_run(tmp_path):
    harm = tmp_path / "harm"
    torch.save({"a": torch.ones(2), "more": Mischief(harm)}, tmp_path / "x.bin")
    with pytest.raises(UserError, match=r"cannot read the weights in .*x\.bin.*weights alone"):
        read_weights(tmp_path / "x.bin")
    assert not harm.exists()


def test_a_small_file_that_would_grow_huge_is_stopped(tmp_path):
    # One number that is said to be a thousand billion of them.
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"with at most 2\.0 GiB"):
        read_torch_file(tmp_path / "x.pt")


def test_a_file_that_takes_too_long_is_given_up(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"within 0 s|most"):
        read_torch_file(tmp_path / "x.pt", most_seconds=0)


def test_what_is_no_file_of_torch_is_refused_in_a_line(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot read the weights") as caught:
        read_weights(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x.gguf", "does not end like weights"),
        ("missing.pt", "there is no file"),
        (".", "no weights"),
    ],
)
def test_other_files_and_folders_are_refused(tmp_path, name, told):
    (tmp_path / "x.gguf").touch()
    with pytest.raises(UserError, match=told):
        read_weights(tmp_path / name)


def test_a_lower_limit_that_is_there_already_is_kept(monkeypatch):
    for hard, expected in ((resource.RLIM_INFINITY, 1000), (500, 500), (2000, 1000)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, hard=hard: (hard, hard))
        assert allowed(resource.RLIMIT_DATA, 1000) == expected
