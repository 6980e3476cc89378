"""The benchmark of scale runs whole at toy size, and what it reads of memory is true."""

import io
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.shard_writer import write_shard

TOY = {
    "megabytes": 1,
    "rounds": 1,
    "shards": 3,
    "samples": 4,
    "starts": 1,
    "index-samples": 2000,
    "epochs": 2,
    "workers": 1,
    "batch-size": 8,
}


@pytest.fixture
def benchmarks(repository, monkeypatch):
    """The folder, whose files import one another by their names as scripts do."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return repository / "benchmarks"


@pytest.fixture
def shard(tmp_path):
    """One shard of 20 samples with labels."""
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    parts = {"png": picture.getvalue(), "json": b'{"label": "a cat", "keywords": ["cat"]}'}
    return write_shard(tmp_path / "toy.tar", [(f"{n:03d}", parts) for n in range(20)]).path


@pytest.mark.slow
@pytest.mark.long
def test_it_runs_at_toy_size_and_writes_every_figure(tmp_path, benchmarks, shard):
    out = tmp_path / "scale.json"
    settings = {**TOY, "epoch-shards": shard, "out": out}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    ended = subprocess.run(
        [sys.executable, str(benchmarks / "data_scale.py"), *words],
        env=os.environ | {"PYTHONPATH": str(benchmarks.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "the data engine at scale" in ended.stdout
    results = json.loads(out.read_text())
    assert [row["picture_bytes"] for row in results["indexing"]] == [4096, 32768]
    # To hash the bytes is part of indexing, so it cannot be the slower of the two by far.
    assert all(0 < row["share_of_sha256"] < 2 for row in results["indexing"])
    first = results["first_batch"]
    assert (first["num_shards"], first["samples_per_shard"]) == (3, 4)
    assert 0 < first["seconds_to_open"] < first["seconds"]
    # Nine bytes of a key, its end, and two numbers for each of three parts.
    assert results["index_memory"]["of_which_arrays"] == 9 + 8 + 3 * 16
    readings = results["epochs"]["megabytes"]
    assert len(readings) == 2
    # Two processes at least, each with an interpreter and torch.
    assert all(40 < reading["own"] < reading["all"] for reading in readings)


def test_a_mistake_is_told_before_anything_is_measured(tmp_path, benchmarks):
    import data_scale

    (tmp_path / "there.json").touch()
    with pytest.raises(UserError, match=r"there\.json exists already; give --overwrite"):
        data_scale.main(["--out", str(tmp_path / "there.json")])
    with pytest.raises(UserError, match="--epochs is 1; a slope needs at least 2"):
        data_scale.main(["--epochs", "1", "--out", str(tmp_path / "new.json")])


def test_the_memory_of_a_process_holds_that_of_its_children(benchmarks):
    from process_memory import tree_memory

    before = tree_memory()
    code = "kept = bytearray(b'x' * 50_000_000); print('filled', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "filled\n"
        filled = tree_memory()
        child.communicate("\n")
    for kind in ("all", "own"):
        assert 45 < filled[kind] - before[kind] < 150
