"""What is written: JSON that a machine reads, a table, and a page that runs nothing."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from rich.console import Console

from data_pipelines.errors import UserError
from eval.chart import HEIGHT, percent, variant_chart
from eval.report import METRIC_TITLES, results_page, results_tables, write_page, write_results
from eval.suite import run_suite

HOSTILE = "[red]<script>alert(1)</script>"


@pytest.fixture
def results(toy_encoder, shard):
    toy_encoder.name = HOSTILE
    return run_suite(toy_encoder, [f"retrieval:{shard}"], ["AB", "AAB", "AAAB"])


def test_results_are_written_with_version_and_provenance(tmp_path, results):
    path = tmp_path / "new folder" / "eval.json"
    write_results(path, results, {"command": "evaluate"})
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document == {
        "format_version": 1,
        "provenance": {"command": "evaluate"},
        "results": json.loads(json.dumps(results)),
    }
    assert [entry.name for entry in path.parent.iterdir()] == ["eval.json"]


@pytest.mark.parametrize("write", [write_results, write_page])
def test_an_existing_file_is_kept_unless_replacing_it_is_asked_for(tmp_path, results, write):
    path = tmp_path / "out"
    path.write_text("precious")
    with pytest.raises(UserError, match="--overwrite"):
        write(path, results, {})
    assert path.read_text() == "precious"
    write(path, results, {}, overwrite=True)
    assert path.read_text() != "precious"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, results):
    path = tmp_path / "eval.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON"):
        write_results(path, results, {"loss": float("nan")}, overwrite=True)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.glob("eval*")] == [
        ("eval.json", "old")
    ]


def test_the_table_shows_variants_chance_and_what_was_left_out(results):
    console = Console(width=100, record=True)
    console.print(results_tables([{**result, "name": f"{HOSTILE}:x"} for result in results]))
    text = console.export_text()
    for words in ("AAAB", "chance", "i→t@1", "t→i@10", "4 left out: not a picture", "[red]"):
        assert words in text
    first = percent(results[0]["metrics"]["text_retrieval_recall@10"])
    assert re.search(rf"^\s+AB .*{re.escape(first)}", text, flags=re.MULTILINE)


def test_the_page_runs_no_script_loads_nothing_and_escapes_names(results):
    page = results_page(results, {"command": HOSTILE, "versions": {"torch": "2"}})
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src &#39;none&#39;" not in page
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)\s*=", page)
    assert "url(" not in page
    body = page[page.index("<main>") : page.index("</main>") + len("</main>")]
    numbers = [cell.text for cell in ElementTree.fromstring(body).iter("td")]
    for result in results:
        assert result["variant"] in numbers
        for metric in METRIC_TITLES:
            if metric in result["metrics"]:
                assert percent(result["metrics"][metric]) in numbers


def test_small_shares_keep_their_digits():
    assert [percent(share) for share in (0.0, 0.00054, 0.0123, 0.5, 1.0)] == [
        "0.0",
        "0.05",
        "1.2",
        "50.0",
        "100.0",
    ]


@pytest.mark.parametrize("values", [[0.0], [0.004, 0.003], [0.34, 0.31, 0.28], [1.0, 1.0]])
def test_every_mark_of_the_chart_lies_inside_and_higher_shares_stand_higher(values):
    variants = [f"v{number}" for number in range(len(values))]
    chart = variant_chart(variants, {"a": values, "b": values}, {"a": 0.0005, "b": 0.002})
    for line in chart.lines:
        heights = [height for _, height in line.points]
        assert all(0 <= height <= HEIGHT for height in heights)
        assert sorted(heights) == [
            h for _, h in sorted(zip(values, heights, strict=True), reverse=True)
        ]
        assert heights[0] <= chart.bottom
    assert abs(chart.lines[0].label_height - chart.lines[1].label_height) >= 10
    assert chart.ticks[0][1] == "0"
