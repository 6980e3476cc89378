import base64
import re
from io import BytesIO

import pytest
from PIL import Image

from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError
from data_pipelines.manifest import open_dataset
from data_pipelines.show import main, shown_samples

HOSTILE = '<script>alert(1)</script> "quoted" [bold]not markup[/] \x1b[31m'


@pytest.fixture
def folder(tmp_path, dataset_in, sample_of):
    """Nine samples: one with hostile words, one bad, one large."""
    changes = {1: {"txt": HOSTILE.encode()}, 2: {"webp": b"<html>"}}
    samples = [
        sample_of(
            number, size=400 if number == 3 else 8, **{"txt": b"a cat", **changes.get(number, {})}
        )
        for number in range(9)
    ]
    dataset_in(tmp_path, samples)
    return tmp_path


def sheet(folder, *flags):
    page = folder / "sheet.html"
    main([f"{folder}/*.tar", "--html", str(page), "--overwrite", *flags])
    return page.read_text()


def test_the_page_shows_every_drawn_sample_and_loads_nothing(folder):
    page = sheet(folder)
    assert page.count("<figure>") == 9
    assert page.count("<img") == 8
    assert "not a picture" in page
    assert "default-src 'none'; img-src data:" in page
    assert not re.search(r"<script|<link|href=|url\(|https?:", page)
    assert set(re.findall(r'src="([^,"]*),', page)) == {"data:image/webp;base64"}
    assert "&lt;script&gt;alert(1)" in page


def test_thumbnails_are_small_and_encoded_anew(folder):
    page = sheet(folder)
    encoded = re.findall(r'src="data:image/webp;base64,([^"]*)"', page)
    sizes = [Image.open(BytesIO(base64.b64decode(data))).size for data in encoded]
    assert sorted(sizes) == [(8, 8)] * 7 + [(320, 320)]
    assert "400 x 400 pixels" in page


def test_the_terminal_gets_words_as_they_are_and_no_control_characters(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    main([f"{folder}/*.tar"])
    out = capsys.readouterr().out
    assert "[bold]not markup[/] \N{REPLACEMENT CHARACTER}[31m" in out
    assert "\x1b" not in out
    assert "BAD: not a picture" in out
    assert all(f"{number // 7}.tar:{number:03d}" in out for number in range(9))


def test_the_seed_draws_the_samples(folder):
    dataset = open_dataset([f"{folder}/*.tar"])

    def names(number, seed):
        return [shown.name for shown in shown_samples(dataset, CaptionConfig(), number, seed)]

    assert names(4, 1) == names(9, 1)[:4]
    assert names(9, 1) != names(9, 2)
    assert sorted(names(50, 1)) == sorted(names(9, 2))


def test_what_cannot_be_shown_is_one_line(folder):
    with pytest.raises(UserError, match="--number is 0; it must be from 1 to 2,000"):
        main([f"{folder}/*.tar", "--number", "0"])
    (folder / "sheet.html").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        main([f"{folder}/*.tar", "--html", str(folder / "sheet.html")])
    assert (folder / "sheet.html").read_text() == "mine"
