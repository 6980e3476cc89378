import json
import math
from pathlib import Path

import pytest
import torch

from rins_mm import bad_steps
from rins_mm.bad_steps import summary, write_bad_step


def test_a_summary_counts_what_is_not_finite_and_describes_the_rest() -> None:
    values = torch.tensor([[1.0, torch.nan], [-torch.inf, 3.0]])
    assert summary([values]) == {"non_finite": 2, "min": 1.0, "max": 3.0, "mean": 2.0}
    assert summary([torch.tensor([torch.nan])]) == {"non_finite": 1}


def test_a_summary_of_parts_is_that_of_the_whole() -> None:
    values = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    values[4, 1] = torch.inf
    whole, parts = summary([values]), summary(values.split(4))
    assert parts == pytest.approx(whole)
    assert parts["non_finite"] == 1


def test_numbers_that_json_does_not_know_are_written_as_words(tmp_path: Path) -> None:
    facts = {"loss": math.nan, "parts": {"image_tower": math.inf}, "several": [-math.inf, 1.5]}
    path = write_bad_step(tmp_path, facts, step=3, rank=1)
    assert json.loads(path.read_text()) == {
        "step": 3, "rank": 1, "loss": "nan", "parts": {"image_tower": "inf"}, "several": ["-inf", 1.5],
    }  # fmt: skip


def test_descriptions_are_never_written_over_and_bounded_in_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_steps, "MAX_FILES", 3)
    written = [write_bad_step(tmp_path, {"n": n}, step=7, rank=1) for n in range(4)]
    assert [path and path.name for path in written] == [
        "step-00000007.rank-1.json", "step-00000007.rank-1.2.json", "step-00000007.rank-1.3.json", None,
    ]  # fmt: skip
    assert [json.loads(path.read_text())["n"] for path in written[:3]] == [0, 1, 2]
    # Each rank has its own bound: 1 is not the beginning of 10.
    assert write_bad_step(tmp_path, {}, step=7, rank=10) is not None
    assert write_bad_step(tmp_path, {}, step=8, rank=1) is None


def test_a_description_that_cannot_be_written_does_not_cost_the_run(tmp_path: Path) -> None:
    (tmp_path / "bad_steps").write_text("a file is in the way")
    assert write_bad_step(tmp_path, {}, step=1, rank=0) is None
