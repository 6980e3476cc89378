"""The benchmark of indexes runs whole at toy size."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.long
def test_it_runs_at_toy_size_and_writes_every_figure(tmp_path, repository):
    out = tmp_path / "index_search.json"
    words = ["--num-pictures", "600", "--num-added", "100", "--width", "16", "--num-clusters", "20"]
    words += ["--num-queries", "6", "--kinds", "faiss", "usearch", "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, str(repository / "benchmarks" / "index_search.py"), *words],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(out.read_text())
    assert set(figures["accelerated"]) == {"faiss", "usearch"}
    for found in figures["accelerated"].values():
        assert min(found["recall_at_10"].values()) > 0.9
        assert 0 < found["query"]["cpu_p50_ms"] <= found["query"]["cpu_p99_ms"]
    assert min(figures["exact"]["recall_of_float16_at_10"].values()) > 0.9
    assert figures["build"]["cpu_seconds"] > figures["add"]["cpu_seconds"] > 0
