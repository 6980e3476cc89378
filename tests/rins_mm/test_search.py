"""Search by words: the right picture first, what is broken counted, and a page that is safe to open."""

import base64
import os
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch.nn.functional import normalize

from data_pipelines.errors import UserError
from data_pipelines.shard_writer import write_shard
from data_pipelines.words import printable
from rins_mm import search
from rins_mm.export.native import write_native
from rins_mm.gallery import Gallery, open_gallery

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColourEncoder:
    """Knows pictures by their mean colour and texts by the colours in them; it notes what it is asked."""

    name = "colours"
    fingerprint = "colours-1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_images(self, pictures, variants):
        self.asked.append("pictures")
        means = np.stack([np.asarray(picture).mean((0, 1)) for picture in pictures])
        return dict.fromkeys(variants, normalize(torch.from_numpy(means).float() + 1e-3, dim=-1))

    def encode_texts(self, strings, variants):
        self.asked.append("texts")
        rows = [sum(torch.tensor(COLOURS[w]).float() for w in text.split()) for text in strings]
        return dict.fromkeys(variants, normalize(torch.stack(rows), dim=-1))


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Twice red, once green, once blue, in nested folders, and three files that are no pictures."""
    folder = tmp_path / "pictures"
    for name, colour in (
        ("b/red.png", "red"),
        ("a/again red.JPG", "red"),
        ("green.webp", "green"),
        ("a/deep/blue.jpeg", "blue"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (30, 20), COLOURS[colour])
        image.save(folder / name, "PNG")
    (folder / "words.png").write_bytes(b"no picture at all")
    (folder / "half.png").write_bytes((folder / "green.webp").read_bytes()[:40])
    (folder / "notes.txt").write_text("not looked at")
    (folder / ".hidden.png").write_bytes(b"not looked at")
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("exports") / "tiny"
    write_native(tiny.encoder(), path)
    return str(path)


def find(gallery: Gallery, *queries: str, top_k: int = 10) -> search.Found:
    return search.search(ColourEncoder(), gallery, queries, signature="AB", top_k=top_k)


def names(found: search.Found, gallery: Gallery, query: str) -> list[str]:
    return [gallery.name(match.number) for match in found.answers[query]]


def test_the_right_picture_comes_first_and_equal_ones_stand_in_the_order_of_their_names(pictures):
    gallery = open_gallery(str(pictures))
    found = find(gallery, "red", "blue", "green")
    assert names(found, gallery, "red")[:2] == ["a/again red.JPG", "b/red.png"]
    assert names(found, gallery, "blue")[0] == "a/deep/blue.jpeg"
    assert names(found, gallery, "green")[0] == "green.webp"
    first, second, third, fourth = found.answers["red"]
    assert [match.rank for match in (first, second, third, fourth)] == [1, 2, 3, 4]
    assert first.score == second.score == pytest.approx(1.0, abs=1e-4)
    assert third.score == fourth.score == pytest.approx(0.0, abs=1e-4)


def test_no_more_than_top_k_and_no_broken_picture_is_shown(pictures):
    gallery = open_gallery(str(pictures))
    assert gallery.num_pictures == 6
    assert len(find(gallery, "red", top_k=2).answers["red"]) == 2
    assert len(find(gallery, "red", top_k=99).answers["red"]) == 4


def test_broken_pictures_are_counted_by_cause_and_listed(pictures):
    gallery = open_gallery(str(pictures))
    lines = search.remarks(find(gallery, "red"), gallery)
    assert sorted(lines[:2]) == ["1 left out: not a picture", "1 left out: truncated picture"]
    assert sorted(lines[2:]) == ["  half.png: truncated picture", "  words.png: not a picture"]


def test_a_long_list_of_broken_pictures_is_cut_but_not_its_count(pictures):
    for number in range(30):
        (pictures / f"broken_{number:02d}.png").write_bytes(b"?")
    gallery = open_gallery(str(pictures))
    lines = search.remarks(find(gallery, "red"), gallery)
    assert lines[0] == "31 left out: not a picture"
    assert lines[-1] == "  and 12 more"


def test_the_words_are_encoded_before_the_long_work(pictures):
    encoder = ColourEncoder()
    search.search(encoder, open_gallery(str(pictures)), ["red"], signature="AB", top_k=1)
    assert encoder.asked == ["texts", "pictures"]


def test_a_folder_without_pictures_is_a_mistake_that_names_it_and_the_suffixes(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"\.jpg \.jpeg \.png \.webp") as caught:
        open_gallery(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_does_not_exist_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        open_gallery(str(tmp_path / "missing"))


def test_pictures_that_are_all_broken_are_a_mistake(tmp_path):
    (tmp_path / "a.png").write_bytes(b"?")
    with pytest.raises(UserError, match="none of the 1 pictures can be used"):
        find(open_gallery(str(tmp_path)), "red")


def test_a_pipe_that_is_called_like_a_picture_is_not_waited_for(pictures):
    os.mkfifo(pictures / "pipe.png")
    gallery = open_gallery(str(pictures))
    assert "  pipe.png: not a file" in search.remarks(find(gallery, "red"), gallery)


def test_samples_of_shards_are_searched_with_their_labels(tmp_path):
    def sample(colour: str, parts: dict[str, bytes]) -> tuple[str, dict[str, bytes]]:
        buffer = BytesIO()
        Image.new("RGB", (8, 8), COLOURS[colour]).save(buffer, "PNG")
        return f"key-{colour}", {"png": buffer.getvalue(), **parts}

    samples = [
        sample("red", {"json": b'{"label": "a red square"}'}),
        sample("green", {"txt": b"a green square\nand more"}),
        ("key-broken", {"png": b"?", "txt": b"x"}),
    ]
    write_shard(tmp_path / "own.tar", samples)
    gallery = open_gallery(str(tmp_path / "*.tar"))
    found = find(gallery, "green", "red")
    assert names(found, gallery, "green") == ["own.tar/key-green", "own.tar/key-red"]
    labels = [gallery.label(match.number) for match in found.answers["red"]]
    assert labels == ["a red square", "a green square"]
    assert search.remarks(found, gallery)[1] == "  own.tar/key-broken: not a picture"


def test_the_page_escapes_names_and_holds_small_pictures_of_our_own_making(tmp_path):
    large = Image.new("RGB", (1200, 700), COLOURS["red"])
    whereabouts = Image.Exif()
    whereabouts[0x010E] = "a secret place"
    large.save(tmp_path / "<script>.png", "JPEG", exif=whereabouts)
    (tmp_path / '" onload="x.png').write_bytes(b"?")
    gallery = open_gallery(str(tmp_path))
    page = search.search_page(
        find(gallery, "red"), gallery, {"model": "<b>", "pictures": "x", "text signature": "AB"}
    )
    assert "<script" not in page
    assert "&lt;script&gt;.png" in page
    assert "<b>" not in page
    assert ' onload="x' not in page
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "url(" not in page
    (source,) = re.findall(r'src="([^"]*)"', page)
    assert not re.findall(r"href\s*=", page)
    header, _, data = source.partition(",")
    assert header == "data:image/webp;base64"
    small = Image.open(BytesIO(base64.b64decode(data)))
    assert (small.format, small.size) == ("WEBP", (256, 149))
    assert not small.getexif()


def test_a_small_picture_is_not_made_larger():
    data = search.thumbnail(tiny.pixels(0, 20, 30)).partition(",")[2]
    assert Image.open(BytesIO(base64.b64decode(data))).size == (30, 20)


def test_what_a_terminal_would_obey_is_not_shown():
    assert printable("a\x1b[31m\n\ud800b\u202ec") == "a\ufffd[31m\ufffd\ufffdb\ufffdc"
    kept = "woman\u200d\N{MICROSCOPE} caf\u00e9 [red] \u202f"
    assert printable(kept) == kept


def test_the_command_prints_a_table_per_query_and_writes_the_page(
    export, pictures, tmp_path, capsys
):
    page = tmp_path / "new" / "answers.html"
    argv = [
        export,
        "--pictures",
        str(pictures),
        "--query",
        "a red [b]square[/b]",
        "--query",
        "words",
    ]
    search.main([*argv, "--top-k", "3", "--text-signature", "AAB", "--html", str(page)])
    printed = capsys.readouterr().out
    assert "a red [b]square[/b]" in printed
    assert len(re.findall(r"^ +1 +-?[01]\.\d{4} ", printed, flags=re.MULTILINE)) == 2
    assert "1 left out: not a picture" in printed
    text = page.read_text(encoding="utf-8")
    assert text.count("<li>") == 6
    assert "tiny@0 at AAB" in text
    with pytest.raises(UserError, match="--overwrite"):
        search.main([*argv, "--html", str(page)])
    assert page.read_text(encoding="utf-8") == text
    search.main([*argv, "--html", str(page), "--overwrite"])
    assert [entry.name for entry in page.parent.iterdir()] == ["answers.html"]


def test_words_may_be_read_at_a_depth_beyond_the_trained_one(export, pictures, capsys):
    printed = {}
    for depth in ("AB", "AAAB", "AAAAAB"):
        search.main(
            [export, "--pictures", str(pictures), "--query", "red", "--text-signature", depth]
        )
        printed[depth] = re.findall(r" (-?[01]\.\d{4}) ", capsys.readouterr().out)
    assert len(set(map(tuple, printed.values()))) == 3
    assert all(len(scores) == 4 for scores in printed.values())


def test_bytes_in_a_file_name_that_are_no_utf8_are_shown_all_the_same(
    export, pictures, tmp_path, capsys
):
    (pictures / "green.webp").rename(str(pictures / "gr\udcfcn.png"))
    page = tmp_path / "answers.html"
    search.main([export, "--pictures", str(pictures), "--query", "green", "--html", str(page)])
    assert "gr\ufffdn.png" in capsys.readouterr().out
    assert "gr\ufffdn.png" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "nothing to look for"),
        (["--query", " "], "a query is empty"),
        (["--query", "x", "--top-k", "0"], "top_k is 0"),
        (["--query", "x", "--num-threads", "-1"], "num_threads is -1"),
        (["--query", "x", "--text-signature", "ABC"], "'ABC'"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(export, pictures, flags, words):
    with pytest.raises(UserError, match=words):
        search.main([export, "--pictures", str(pictures), *flags])


@pytest.mark.parametrize("word", ["{a,b}" * 200, "x" * 5000 + ".tar"])
def test_a_word_too_long_for_a_name_is_a_mistake_in_one_line(word):
    with pytest.raises(UserError):
        open_gallery(word)
