"""metrics.jsonl is the truth of a run."""

import json
from pathlib import Path

from rins_mm.run_log import keep_rows_before, read_rows


def test_rows_of_steps_that_will_run_again_are_dropped_and_so_is_a_torn_last_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": step, "loss": step / 3} for step in range(1, 8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 8, "lo')
    keep_rows_before(path, 5)
    assert read_rows(path) == rows[:5]


def test_numbers_keep_their_full_precision(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    row = {"step": 1, "loss": 0.1 + 0.2}
    path.write_text(json.dumps(row) + "\n")
    keep_rows_before(path, 1)
    assert read_rows(path) == [row]
