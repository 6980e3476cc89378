"""The benchmark of the text tower runs whole at toy size."""

import json

import pytest

from data_pipelines.errors import UserError

TOY = [
    "--widths",
    "64",
    "--mean-lengths",
    "3",
    "6",
    "--context-length",
    "16",
    "--batch-size",
    "16",
    "--rounds",
    "2",
    "--out",
]


@pytest.fixture
def text_tower(repository, monkeypatch):
    """The benchmark's module."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    import text_tower

    return text_tower


def test_it_runs_at_toy_size_and_writes_every_figure(text_tower, tmp_path, capsys):
    text_tower.main([*TOY, str(tmp_path / "out.json")])
    assert "times as fast as AB padded to 16" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert len(rows) == 2 * 2 * 3
    assert all(row["times_as_fast"] > 0 and row["packed_padding"] < 0.5 for row in rows)
    first = next(r for r in rows if (r["signature"], r["layout"]) == ("AB", "context"))
    assert first["times_as_fast"] == 1.0
    assert first["mean_length"] < 4 < rows[-1]["mean_length"]


def test_mistakes_are_told_before_anything_is_measured(text_tower, tmp_path):
    (tmp_path / "out.json").touch()
    with pytest.raises(UserError, match="give --overwrite"):
        text_tower.main([*TOY, str(tmp_path / "out.json")])
    with pytest.raises(UserError, match="--rounds is 0"):
        text_tower.main(["--rounds", "0"])
