"""metrics.jsonl is the truth of a run."""

import json
import os
import resource
from pathlib import Path

import pytest

from data_pipelines.errors import UserError
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


def test_a_damaged_line_before_the_last_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2, is damaged"):
        read_rows(path)


def test_a_line_without_end_is_damage_and_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"a": "')
    os.truncate(path, 600 * 10**6)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2, is damaged"):
        read_rows(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
