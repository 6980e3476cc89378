"""The benchmark against open_clip's trainer runs whole at toy size."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from data_pipelines.tokenizers import ClipTokenizer

TOY = (
    "--captions natural --processes 1 --batch-sizes 8 --rounds 1 --steps 3 --warm-up 1 "
    "--image-size 32 --patch-size 8 --image-depth 2 --text-depth 2 --width 64 --context-length 16"
)


@pytest.fixture
def benchmarks(repository, monkeypatch):
    """The folder, whose files import one another by their names as scripts do."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return repository / "benchmarks"


def run_toy(benchmarks, out, *words):
    ended = subprocess.run(
        [sys.executable, str(benchmarks / "train_cpu.py"), *TOY.split(), "--out", str(out), *words],
        env=os.environ | {"PYTHONPATH": str(benchmarks.parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    (case,) = json.loads(out.read_text())["cases"]
    return ended.stdout, case


@pytest.mark.slow
@pytest.mark.long
def test_our_side_runs_at_toy_size_and_says_why_the_other_does_not(tmp_path, benchmarks):
    printed, case = run_toy(benchmarks, tmp_path / "figures.json")
    assert "open_clip is left out: no --peer-packages" in printed
    assert "| rins_mm AB |  |  |  |" in printed and not case["ratios_to_open_clip"]
    assert list(case["medians"]) == ["rins_mm AB", "rins_mm AAAB"]
    for figures in case["medians"].values():
        assert figures["samples_per_second"] > 1 and figures["samples_per_cpu_second"] > 1
        assert figures["peak_megabytes"] > 100


@pytest.mark.slow
@pytest.mark.long
def test_both_sides_run_at_toy_size(tmp_path, benchmarks):
    packages = os.environ.get("RINS_MM_PEER_PACKAGES")
    if not packages or importlib.util.find_spec("open_clip_train") is None:
        pytest.skip(
            "RINS_MM_PEER_PACKAGES names no folder made by benchmarks/open_clip_packages.sh"
        )
    words = ["--peer-packages", packages]
    _, case = run_toy(benchmarks, tmp_path / "figures.json", *words)
    assert len(case["ratios_to_open_clip"]) == 2
    for side, ratios in case["ratios_to_open_clip"].items():
        for name, ratio in ratios.items():
            peer = case["medians"]["open_clip AB"]
            assert ratio == case["medians"][side][name] / peer[name]


@pytest.mark.parametrize(("captions", "lengths"), [("natural", range(5, 21)), ("full", [24])])
def test_captions_have_the_lengths_that_their_name_says(tmp_path, benchmarks, captions, lengths):
    from train_shards import write_shards

    from data_pipelines.manifest import open_dataset
    from data_pipelines.reader import read_sample

    write_shards(tmp_path / "shards", captions, samples=64, side=32, context_length=24)
    dataset = open_dataset([f"{tmp_path}/shards/*.tar"])
    texts = [read_sample(dataset, index).parts["txt"].decode() for index in range(64)]
    found = {len(row) for row in ClipTokenizer(context_length=24).encode(texts)}
    assert found <= set(lengths) and max(found) == max(lengths)


def test_figures_of_other_cases_stay_in_the_file(tmp_path, benchmarks):
    from train_cpu import keep

    def case(captions, value):
        kinds = {"processes": 1, "batch_size_per_process": 8, "towers": {}}
        return {"captions": captions, **kinds, "value": value}

    path = Path(tmp_path / "deep" / "figures.json")
    keep([case("natural", 1), case("full", 2)], path)
    keep([case("natural", 3)], path)
    assert json.loads(path.read_text())["cases"] == [case("full", 2), case("natural", 3)]


def test_a_mistake_is_told_before_anything_is_measured(benchmarks):
    import train_cpu

    with pytest.raises(UserError, match="the width must be a multiple of 64"):
        train_cpu.main(["--width", "100"])
