"""The page about a run: whole, escaped, without a script."""

import json
import re
import socket
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.shard_writer import write_shard
from eval.tasks import open_task
from rins_mm import report
from rins_mm.config import TrainConfig
from rins_mm.flops import text_cost
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.recorded_config import write_config
from rins_mm.run_log import read_rows


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


def evaluated(run_dir: Path, version: int, results: list[dict[str, Any]], **changes: Any) -> None:
    """An eval.json with what its first version had of each result, and the changes."""
    needed = {
        "model": "toy", "chance": {"acc1": 0.1}, "num_pictures": 150, "skipped": {}, "rule": "",
        "notes": [], "data_fingerprint": "other", "name": "zero_shot:x", "variant": "AB",
    }  # fmt: skip
    document = {
        "format_version": version,
        "provenance": {"command": "evaluate"},
        "results": [needed | result | changes for result in results],
    }
    (run_dir / "eval.json").write_text(json.dumps(document))


def png(seed: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(tiny.pixels(seed)).save(buffer, "PNG")
    return buffer.getvalue()


def page_of(run_dir: Path) -> str:
    out = run_dir / "report.html"
    report.main([str(run_dir), "--out", str(out), "--overwrite"])
    return out.read_text()


def test_an_evaluation_of_the_first_version_is_shown_over_the_blocks_that_run(run_dir) -> None:
    accuracies = {"AB": 0.21, "A^2B": 0.22, "AAAB": 0.23, "no signature": 0.24, "ABC": 0.25}
    results = [{"variant": name, "metrics": {"acc1": acc1}} for name, acc1 in accuracies.items()]
    evaluated(run_dir, 1, results)
    page = page_of(run_dir)
    assert all(f"<td>{100 * acc1:.1f}</td>" in page for acc1 in accuracies.values())
    assert re.findall(r"(\d+) layers", page) == ["12", "18", "24"]
    # The run's text tower is plain, and its rows do not say how long captions were.
    assert "text FLOPs per caption" not in page
    evaluated(run_dir, 1, results[:3])
    page = page_of(run_dir)
    assert "text FLOPs per caption of 64 tokens" in page
    assert page.count(">trained<") == 1
    evaluated(run_dir, 9, results)
    with pytest.raises(UserError, match="format_version 9"):
        page_of(run_dir)


def test_mistakes_are_shown_while_the_data_is_what_it_was(run_dir, tmp_path) -> None:
    write_shard(
        tmp_path / "val.tar",
        [(str(n), {"png": png(n), "txt": b"words"}) for n in range(3)],
    )
    name = f"retrieval:{tmp_path / 'val.tar'}"
    mistakes = [
        {"picture": number, "right": "words", "given": f"others {number}", "margin": 0.1}
        for number in (1, 2)
    ]
    results = [{"name": name, "metrics": {"acc1": 0.5}, "mistakes": mistakes}]
    evaluated(run_dir, 2, results)
    assert page_of(run_dir).count("<img") == 0
    fingerprint = open_task(name, None).pictures.fingerprint
    evaluated(run_dir, 2, results, data_fingerprint=fingerprint)
    assert page_of(run_dir).count('<img src="data:image/webp;base64,') == 2
    (tmp_path / "val.tar").unlink()
    page = page_of(run_dir)
    assert page.count("<img") == 0
    assert "picture 2: not read for this page" in page


def test_an_address_in_an_evaluation_is_not_asked(run_dir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        name = f"retrieval:http://127.0.0.1:{listener.getsockname()[1]}/val.tar"
        mistakes = [{"picture": 1, "right": "words", "given": "others", "margin": 0.1}]
        evaluated(run_dir, 2, [{"name": name, "metrics": {"acc1": 0.5}, "mistakes": mistakes}])
        assert "picture 1: not read for this page" in page_of(run_dir)
        with pytest.raises(TimeoutError):
            listener.accept()


def one_mistake(run_dir: Path, name: str, **changes: Any) -> None:
    mistakes = [{"picture": 1, "right": "words", "given": "others", "margin": 0.1}]
    evaluated(
        run_dir, 2, [{"name": name, "metrics": {"acc1": 0.5}, "mistakes": mistakes}], **changes
    )


@pytest.mark.parametrize(
    "spec", ["zero_shot:folders:{0}", "probe:folders:{0}:{0}", "retrieval:{0}/**/*.tar"]
)
def test_a_name_of_more_folders_than_a_page_needs_is_not_opened(
    run_dir, tmp_path, monkeypatch, spec
) -> None:
    for number in range(12):
        (tmp_path / "disk" / str(number)).mkdir(parents=True)
    monkeypatch.setattr(report, "MAX_FILES", 10)
    monkeypatch.setattr(report, "open_task", lambda *_: pytest.fail("it was opened"))
    one_mistake(run_dir, spec.format(tmp_path / "disk"))
    assert "picture 1: not read for this page" in page_of(run_dir)


@pytest.mark.parametrize(
    "name", ["zero_shot:folders:a\0b", "retrieval:a\0b/*.tar", "wds:~nobody-at-all/x"]
)
def test_a_name_that_can_be_no_path_is_not_opened(run_dir, name) -> None:
    one_mistake(run_dir, name)
    assert "picture 1: not read for this page" in page_of(run_dir)


def test_a_mistake_in_a_picture_that_there_is_not_is_told(run_dir, tmp_path) -> None:
    write_shard(tmp_path / "val.tar", [("0", {"png": png(0), "txt": b"words"})])
    name = f"retrieval:{tmp_path / 'val.tar'}"
    one_mistake(run_dir, name, data_fingerprint=open_task(name, None).pictures.fingerprint)
    assert "picture 1: there is no such picture" in page_of(run_dir)


def test_an_evaluation_that_cannot_be_shown_is_one_line(run_dir) -> None:
    one_mistake(run_dir, "zero_shot:x", num_pictures="x")
    with pytest.raises(UserError, match=r"eval\.json .* result 0 has no num_pictures"):
        page_of(run_dir)


def test_skipped_steps_are_told(run_dir: Path) -> None:
    assert "were skipped" not in page_of(run_dir)
    rows = [
        {**row, "skipped_steps": row["step"] // 400} for row in read_rows(run_dir / "metrics.jsonl")
    ]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "2 steps were skipped" in page_of(run_dir)


def test_an_existing_page_is_kept_before_anything_is_read(run_dir: Path, monkeypatch) -> None:
    (run_dir / "report.html").write_text("precious")
    monkeypatch.setattr(report, "read_config", pytest.fail)
    with pytest.raises(UserError, match="--overwrite"):
        report.main([str(run_dir), "--out", str(run_dir / "report.html")])


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


def test_the_costs_of_depths_are_those_of_the_captions_that_were_trained_on():
    recursion = RecursionConfig(signature="A^3B")
    text = TextTowerConfig(
        width=24, depth=4, num_heads=3, mlp_width=40, context_length=9, recursion=recursion
    )
    config = TrainConfig(image=ImageTowerConfig(image_size=32, width=48), text=text)
    rows = [{"loss": 1.0, "caption_tokens": 5.0}, {"evaluation": {}}, {"caption_tokens": 7.0}]
    found = report.depths_of(config, ["AB", "AAAB", "AAAAB", "ABC", "odd"], rows)
    assert found.caption_tokens == 6.0
    assert found.layers == {"default": 8, "AB": 4, "AAAB": 8, "AAAAB": 10}
    assert found.trained == {"default", "AAAB"}
    cost = text_cost(text, embedding_width=48, length=6.0)
    assert found.flops["AAAAB"] == cost.forward(tuple("AAAAB"))
    assert report.depths_of(config, ["AB"], []).caption_tokens == 9.0


def test_a_curve_that_has_seen_no_samples_is_drawn_all_the_same():
    curve = report.draw_curve("loss", [(0.0, 2.0), (0.0, 1.0)])
    assert len(curve.path.split()) == 2
    assert curve.last == "1"


@pytest.mark.parametrize(
    ("column", "value"),
    [("loss", "x"), ("loss", 10**400), ("samples_per_second", None), ("text_calls", ["A"])],
)
def test_a_row_that_cannot_be_drawn_is_named(column, value):
    row = {"step": 7, "text_calls": "AB", "samples_seen": 8} | dict.fromkeys(report.CURVES, 1.0)
    with pytest.raises(
        UserError, match=rf"row of step 7 in metrics\.jsonl .* no {column} that can"
    ):
        report.run_values("run", TrainConfig(), [{**row, column: value}])
