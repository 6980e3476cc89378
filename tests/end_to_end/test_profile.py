"""What a run says of its speed, and --profile."""

import json

import pytest
from launching import TOY, run

from rins_mm import train
from rins_mm.run_log import read_rows
from rins_mm.step_timer import PHASES


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_rows_tell_operations_and_shares_and_a_profile_is_written_on_request(tmp_path, world_size):
    run_dir = tmp_path / "run"
    argv = [TOY, "--run-dir", str(run_dir), "--max-steps", "8", "--profile", "2"]
    first, *others = run(train.main, argv, tmp_path / "logs", world_size=world_size)
    assert all(rank.code == 0 for rank in (first, *others)), first.output
    rows = [row for row in read_rows(run_dir / "metrics.jsonl") if "loss" in row]
    peak = json.loads((run_dir / "environment.json").read_text())["peak"]["flops_per_second"]
    depths = {}
    for row in rows:
        shares = [row[f"{phase}_fraction"] for phase in PHASES]
        assert sum(shares) == pytest.approx(1) and min(shares) >= 0
        assert row["forward_backward_fraction"] > 0
        assert (row["exchange_fraction"] > 0) or world_size == 1
        assert row["mfu"] == pytest.approx(row["flops_per_second"] / peak / world_size)
        # Towers of two blocks each, one of them run up to three times.
        assert row["layer_steps"] == 2 + len(row["text_calls"])
        depths.setdefault(row["text_calls"], []).append(row["flops"])
    deepest, shallowest = max(depths, key=len), min(depths, key=len)
    assert len(depths) > 1 and min(depths[deepest]) > max(depths[shallowest])
    (trace,) = (run_dir / "profile").iterdir()
    assert json.loads(trace.read_text())["traceEvents"]
    assert "the largest costs of the steps in" in first.output
