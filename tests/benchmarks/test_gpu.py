"""The benchmark of a GPU runs whole at toy size on a CPU, so that it works at the first try."""

import json
import os
import subprocess
import sys

import pytest

from data_pipelines.errors import UserError

TOY = (
    "--batch-sizes 4 --split-batch-sizes 8 --loss-batch-sizes 32 --image-size 32 --patch-size 16 --width 64 "
    "--depth 2 --context-length 8 --vocab-size 50 --steps 1 --loader-workers 1 --loader-samples 16"
)


@pytest.fixture
def gpu(repository, monkeypatch):
    """The script, whose parts import one another by their names."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    import gpu

    return gpu


@pytest.fixture
def without_measuring(gpu, monkeypatch):
    """Cases take no time, and what was asked for is listed."""
    asked = []

    def run_case(case, setting, device):
        asked.append(case)
        if getattr(case, "trainer", "") == "open_clip":
            raise gpu.torch.OutOfMemoryError("of many bytes")
        if gpu.name_of(case)["kind"] != "step":
            raise RuntimeError("no such thing\nat all")
        return {"seconds": 2.0, "flops_per_step": 1e9, "flops_per_second": 5e8, "peak_bytes": 2**30}

    monkeypatch.setattr(gpu, "run_case", run_case)
    monkeypatch.setattr(gpu, "forget_peak", lambda _: None)
    monkeypatch.setattr(gpu, "describe_peak", lambda *_: {"flops_per_second": 1e9})
    return asked


@pytest.mark.slow
@pytest.mark.long
def test_every_case_runs_at_toy_size_compiled_ones_too(tmp_path, repository):
    out = tmp_path / "figures.json"
    # A process of its own: the checks of annotations that tests run under cannot be compiled.
    words = [*TOY.split(), "--compiler", "aot_eager", "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, str(repository / "benchmarks" / "gpu.py"), *words],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr and "Not measured" not in ended.stdout
    cases = json.loads(out.read_text())["cases"]
    assert not any("left_out" in case or case.get("forms_left_out") for case in cases)
    steps, losses, loaders = (
        [case for case in cases if case["kind"] == kind] for kind in ("step", "loss", "loader")
    )
    # Three depths, two layouts, compiled or not; one split; two of full captions. open_clip: three.
    assert [len(steps), len(losses), len(loaders)] == [12 + 1 + 2 + 3, 1, 1]
    assert all(case["flops_per_second"] > 0 for case in steps)
    packed = {
        (case["signature"], case["skip_probability"]): case["flops_per_step"]
        for case in steps
        if (case["trainer"], case["layout"], case["captions"]) == ("rins_mm", "packed", "natural")
        and case["batch_size"] == 4
    }
    assert packed["AB", 0.0] < packed["A^3B", 0.5] <= packed["A^3B", 0.0]
    assert list(losses[0]["seconds_by_turn"]) == ["products", "tiled", "compiled", "open_clip"]
    assert loaders[0]["pictures_per_second"] > 10


def test_the_case_of_most_value_comes_first_and_none_twice(gpu):
    cases = gpu.plan(gpu.GpuBenchmark())
    first, *others = (gpu.name_of(case) for case in cases)
    assert (first["trainer"], first["signature"], first["compiler"]) == (
        "rins_mm", "AB", "inductor",
    )  # fmt: skip
    assert first["batch_size"] == 512 and first not in others
    assert len(set(cases)) == len(cases)


def test_figures_are_added_to_and_only_what_failed_is_tried_again(
    tmp_path, gpu, without_measuring, capsys
):
    out = tmp_path / "deep" / "figures.json"
    words = [*TOY.split(), "--out", str(out)]
    gpu.main([*words, "--seconds", "0"])
    assert not without_measuring
    assert "Not measured: loader (num_workers 1): no time was left." in capsys.readouterr().out
    gpu.main(words)
    number = len(without_measuring)
    printed = capsys.readouterr().out
    assert "RuntimeError: no such thing at all." in printed and "out of memory" in printed
    without_measuring.clear()
    gpu.main(words)
    # The loss and the loader: what did not fit will not fit now.
    assert [gpu.name_of(case)["kind"] for case in without_measuring] == ["loss", "loader"]
    assert len(json.loads(out.read_text())["cases"]) == number
    gpu.main([*words, "--overwrite"])
    assert len(without_measuring) == 2 + number


def test_a_case_that_would_end_too_late_is_not_begun(gpu):
    case = gpu.plan(gpu.GpuBenchmark())[0]
    alike = {**gpu.name_of(case), "case_seconds": 30.0}
    found = gpu.measure(case, None, gpu.torch.device("cpu"), [alike], 29.0)
    assert found == {"left_out": "no time was left"}


def test_figures_of_other_sizes_are_not_mixed(tmp_path, gpu, without_measuring):
    out = tmp_path / "figures.json"
    gpu.main([*TOY.split(), "--out", str(out)])
    with pytest.raises(UserError, match=r"figures of another setting .* give --overwrite"):
        gpu.main([*TOY.split(), "--depth", "1", "--out", str(out)])


def test_tables_have_the_ratios_first(gpu, monkeypatch):
    from gpu_tables import gpu_tables

    def step(trainer, signature, layout, seconds, flops, compiler="inductor"):
        return {
            "kind": "step", "trainer": trainer, "signature": signature, "skip_probability": 0.0,
            "layout": layout, "compiler": compiler, "captions": "natural", "batch_size": 100,
            "micro_batch_size": 0, "seconds": seconds, "flops_per_step": flops,
            "flops_per_second": flops / seconds, "peak_bytes": 3 * 2**30,
        }  # fmt: skip

    figures = {
        "peak": {"flops_per_second": 1000.0},
        "cases": [
            step("rins_mm", "AB", "packed", 1.0, 500.0),
            step("open_clip", "AB", "padded", 2.0, 600.0, "off"),
            step("open_clip", "AB", "padded", 1.5, 600.0),
            step("rins_mm", "A^3B", "packed", 1.32, 600.0),
            step("rins_mm", "AB", "padded", 1.98, 600.0),
            {
                "kind": "loss", "loss_batch_size": 64, "compiler": "inductor",
                "seconds_by_turn": {"products": [2.0, 4.0, 9.0], "compiled": [5.0, 5.0, 1.0]},
                "peak_bytes_by_form": {"products": 2**30, "compiled": 2**29},
                "forms_left_out": {"open_clip": "out of memory"},
            },
            {"kind": "loader", "num_workers": 4, "pictures_per_second": 400.0, "cpus": 8},
        ],
    }  # fmt: skip
    found = gpu_tables(figures)
    for line in (
        "| MFU of AB, packed | 0.50 | 0.45 |",
        "| samples/s, AB packed : open_clip at its best | 1.50 | 1.3 |",
        "| samples/s, A^3B packed : AB padded | 1.50 | 1 |",
        "| time : operations, A^3B over AB | 1.10 | at most 1.03 |",
        "| compiled loss at 64, time : three products | 1.25 | at most 1.25 |",
        "| compiled loss at 64, memory : open_clip's | \N{EN DASH} | at most 0.1 |",
        "| 2.00 | \N{EN DASH} | 50.0% | rins_mm | AB | 0 | natural | packed | inductor | 100 | 100 | 1,000.0 | 3.00 |",
        "| 1.25 | \N{EN DASH} | 64 | compiled | 5,000.00 | 0.50 |",
        "| out of memory | | 64 | open_clip | | |",
        "| 4.00 | 400 | 100 | 4 | 8 |",
    ):
        assert line in found.splitlines(), line


def test_a_mistake_is_told_before_anything_is_measured(gpu):
    with pytest.raises(UserError, match="width must be a multiple of 64"):
        gpu.main(["--width", "100"])
