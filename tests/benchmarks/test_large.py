"""A million samples in 2,000 shards and a run of 5,000 steps cost what the page says."""

import json
import os
import subprocess
import sys

import pytest

SLACK = 3
"""Other machines, and other programs on this one."""


@pytest.mark.long
def test_large_data_and_long_runs_cost_no_more_than_three_times_what_is_promised(
    repository, tmp_path
):
    out = tmp_path / "large.json"
    ended = subprocess.run(
        [sys.executable, str(repository / "benchmarks" / "large.py"), "--out", str(out)],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    measured = json.loads(out.read_text())
    promised = json.loads((repository / "docs" / "results" / "large.json").read_text())["data"]
    data, run = measured["data"], measured["run"]

    assert (data["num_samples"], data["num_shards"]) == (1_000_000, 2_000)
    assert data["megabytes"] < 100
    assert data["files_opened_by_opening"] == 0
    assert data["files_opened_by_reading_all"] == 64
    for name in ("cpu_seconds_to_open", "cpu_seconds_to_first_batch"):
        assert data[name] < SLACK * promised[name], name

    assert run["steps"] == 5_000
    assert run["megabytes_at_the_end"] < run["megabytes_after_a_tenth"] + 10
    assert run["bytes_per_row"] < 1_500
    assert run["report_bytes"] < 1_000_000
    assert run["cpu_seconds_per_step"] < SLACK * 0.02
    assert run["report_cpu_seconds"] < run["import_cpu_seconds"] + SLACK * 3
