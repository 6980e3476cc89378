"""The benchmark of exports: the page shows what was measured, and the command runs whole at toy size."""

import json

import pytest

from data_pipelines.errors import UserError

TOY = (
    "--formats native onnx --signatures AB AAB --width 64 --depth 2 --image-size 32 --context-length 16 "
    "--rounds 1 --out"
)


@pytest.fixture
def export_formats(repository, monkeypatch):
    """The benchmark's module."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    import export_formats

    return export_formats


def test_the_page_shows_the_committed_figures(export_formats, repository):
    figures = json.loads((repository / "docs/results/export_formats.json").read_text())
    assert (
        export_formats.export_table(figures) in (repository / "docs/export_graphs.md").read_text()
    )


@pytest.mark.slow
@pytest.mark.long
def test_it_runs_at_toy_size_and_writes_every_figure(export_formats, tmp_path, capsys):
    export_formats.main([*TOY.split(), str(tmp_path / "out.json")])
    assert "| onnx | AAB |" in capsys.readouterr().out
    figures = json.loads((tmp_path / "out.json").read_text())
    rows = {(row["format"], row["signature"]): row for row in figures["rows"]}
    assert len(rows) == 4
    assert rows["onnx", "AAB"]["bytes"] < 1.2 * figures["unique_bytes"]
    assert all(row["text_ms"] > 0 and row["picture_ms"] > 0 for row in rows.values())


def test_a_format_that_there_is_not_is_a_mistake(export_formats, tmp_path):
    with pytest.raises(UserError, match="no format 'onx'"):
        export_formats.main(["--formats", "onx", "--out", str(tmp_path / "out.json")])
