"""The benchmark of a GPU runs whole at toy size on a CPU, so that it works at the first try."""

import json

import pytest

from data_pipelines.errors import UserError

TOY = (
    "--batch-sizes 4 --loss-batch-sizes 32 --image-size 32 --patch-size 16 --width 64 --depth 2 "
    "--context-length 8 --vocab-size 50 --steps 1"
)


@pytest.fixture
def gpu(repository, monkeypatch):
    """The script, whose parts import one another by their names."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    import gpu

    return gpu


@pytest.mark.slow
def test_every_case_runs_at_toy_size(tmp_path, gpu, capsys):
    gpu.main([*TOY.split(), "--out", str(tmp_path)])
    (path,) = tmp_path.iterdir()
    cases = json.loads(path.read_text())["cases"]
    ours = [case for case in cases if case.get("trainer") == "rins_mm"]
    theirs = [case for case in cases if case.get("trainer") == "open_clip"]
    losses = [case for case in cases if "loss_batch_size" in case]
    assert (len(ours), len(theirs), len(losses)) == (6, 2, 1)
    assert not any("left_out" in case for case in cases)
    assert all(0 < case["mfu"] < 1 for case in ours)
    plain, deep, drawn = (case["flops_per_step"] for case in ours[:3])
    assert plain < drawn <= deep
    printed = capsys.readouterr().out
    assert "times open_clip" in printed and "times three products" in printed


def test_cases_without_time_are_named(tmp_path, gpu, capsys):
    gpu.main([*TOY.split(), "--out", str(tmp_path), "--minutes", "0"])
    (path,) = tmp_path.iterdir()
    assert all(case["left_out"] for case in json.loads(path.read_text())["cases"])
    assert "no time was left" in capsys.readouterr().out


def test_a_mistake_is_told_before_anything_is_measured(gpu):
    with pytest.raises(UserError, match="width must be a multiple of 64"):
        gpu.main(["--width", "100"])
