"""The benchmark of the loss runs whole at toy size."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.long
def test_it_runs_at_toy_size_and_writes_every_figure(tmp_path, repository):
    out = tmp_path / "loss.json"
    words = ["--batch-sizes", "64", "128", "--widths", "8", "--rounds", "1", "--tile-size", "48"]
    ended = subprocess.run(
        [sys.executable, str(repository / "benchmarks" / "loss.py"), *words, "--out", str(out)],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "sigmoid loss, forward and backward" in ended.stdout
    sizes = json.loads(out.read_text())["sizes"]
    assert [row["batch"] for row in sizes] == [64, 128]
    for row in sizes:
        assert set(row["median_seconds"]) == {"products", "tiled", "open_clip"}
        assert set(row["memory_bytes"]) == {"tiled", "open_clip"}
        assert row["times_products"] > 0
        assert row["open_clip_times_tiled"] > 0
        assert not row["open_clip_memory_is_estimated"]
