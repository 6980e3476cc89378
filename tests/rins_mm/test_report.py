"""The page about a run: whole, escaped, without a script."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from rins_mm import report
from rins_mm.config import TrainConfig
from rins_mm.recorded_config import write_config


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "<script>alert(1)"
    folder.mkdir()
    write_config(TrainConfig(), folder / "config.json")
    rows = [
        {
            "step": step,
            "loss": 9.0 / step,
            "samples_seen": 256 * step,
            "samples_per_second": 500.0,
            "gradient_norm": 1.0,
            "logit_scale": 10.0 + step,
            "text_calls": "AAB",
        }
        for step in range(1, 1001)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_page_shows_the_curves_and_escapes_the_name(run_dir: Path, tmp_path: Path) -> None:
    report.main([str(run_dir), "--out", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text()
    assert page.count("<polyline") == len(report.CURVES)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "Content-Security-Policy" in page and "http://" not in page and "https://" not in page
    assert "AAB 100%" in page


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        report.main([str(tmp_path), "--out", str(tmp_path / "report.html")])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=2000))
def test_every_point_of_a_curve_lies_inside_its_drawing(values: list[float]) -> None:
    curve = report.draw_curve(
        "x", [(float(place + 1), value) for place, value in enumerate(values)]
    )
    points = [tuple(map(float, pair.split(","))) for pair in curve.path.split(" ")]
    assert 1 <= len(points) <= report.MAX_POINTS
    for x, y in points:
        assert curve.left - 0.1 <= x <= curve.right + 0.1
        assert -0.1 <= y <= curve.bottom + 0.1
