"""metrics.jsonl is the truth of a run."""

import json
import os
import resource
from pathlib import Path

import pytest

from data_pipelines import plain_files
from data_pipelines.errors import UserError
from eval.ranks import Ranks
from rins_mm.run_log import RunLog, keep_rows_before, read_rows


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


def test_a_run_folder_whose_name_commands_the_terminal_is_told_without_its_commands(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(tmp_path, Ranks(), max_steps=1, first_step=0, tensorboard=False)
    log.say("done; the run is in a\x1b[2J\u202enur")
    told = capfd.readouterr().err
    assert "the run is in a\ufffd[2J\ufffdnur" in told
    assert "\x1b" not in told


def test_a_row_that_says_two_things_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "step": 2}\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 1, is damaged"):
        read_rows(path)


def test_more_rows_of_nothing_than_a_run_writes_are_refused_and_a_loss_may_be_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": NaN}\n')
    assert read_rows(path)[0]["step"] == 1
    monkeypatch.setattr(plain_files, "MAX_PARTS", 100)
    path.write_text('{"step":1}\n' * 100)
    with pytest.raises(UserError, match="lists, objects, names and values, more than"):
        read_rows(path)
