"""Pictures that somebody else's list names."""

import numpy as np
import pytest
from PIL import Image

from data_pipelines import reader
from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from eval.listed_pictures import ListedPicture, listed_pictures


@pytest.fixture
def pixels(tmp_path):
    """A picture 7 wide and 5 high in tmp_path/a/b.png."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "b.png")
    return pixels


@pytest.mark.parametrize(
    "box", [(0, 0, 7, 5), (2, 1, 3, 3), (-2, -1, 4, 3), (5, 3, 100, 100), (6, 4, 1, 1)]
)
def test_a_box_shows_what_of_it_lies_within_the_picture(tmp_path, pixels, box):
    pictures, missing = listed_pictures(tmp_path, [ListedPicture("a/b.png", box)])
    left, top, width, height = box
    inside = [
        [pixels[y, x] for x in range(left, left + width) if 0 <= x < 7]
        for y in range(top, top + height)
        if 0 <= y < 5
    ]
    np.testing.assert_array_equal(pictures.read(0), np.array(inside))
    assert missing == {}


@pytest.mark.parametrize("box", [(7, 0, 3, 3), (0, 0, 0, 5), (0, 0, -4, 2), (-9, -9, 2, 2)])
def test_a_box_that_shows_nothing_is_a_picture_that_cannot_be_used(tmp_path, pixels, box):
    pictures, _ = listed_pictures(tmp_path, [ListedPicture("a/b.png", box)])
    with pytest.raises(BadSample, match="box outside the picture"):
        pictures.read(0)


def test_what_is_not_there_leads_out_or_comes_twice_has_its_cause(tmp_path, pixels):
    (tmp_path / "outside.png").write_bytes((tmp_path / "a" / "b.png").read_bytes())
    causes = {
        "b.png": None,
        "c.png": "no such file",
        "../outside.png": "outside the folder",
        str(tmp_path / "outside.png"): "outside the folder",
        "": "outside the folder",
        "x" * 5000: "no such file",
        "null\0.png": "no such file",
        "half \ud800 pair": "no such file",
    }
    listed = [ListedPicture(name) for name in [*causes, "b.png"]]
    pictures, missing = listed_pictures(tmp_path / "a", listed)
    expected = {n: cause for n, cause in enumerate(causes.values()) if cause}
    assert missing == expected | {len(causes): "listed twice"}
    np.testing.assert_array_equal(pictures.read(0), pixels)
    for number, cause in missing.items():
        with pytest.raises(BadSample, match=cause):
            pictures.read(number)


def test_a_file_that_is_no_picture_or_too_large_is_found_when_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    pictures, missing = listed_pictures(tmp_path, [ListedPicture("a.jpg")])
    assert missing == {}
    with pytest.raises(BadSample, match="not a picture"):
        pictures.read(0)
    monkeypatch.setattr(reader, "MAX_PICTURE_BYTES", 5)
    with pytest.raises(BadSample, match="picture file too large"):
        pictures.read(0)


def test_a_folder_without_any_of_the_pictures_is_a_mistake_that_names_the_first(tmp_path):
    with pytest.raises(UserError, match=r"none of the 2 listed.*the first would be .*val/a\.jpg"):
        listed_pictures(tmp_path, [ListedPicture("val/a.jpg"), ListedPicture("val/b.jpg")])
    with pytest.raises(UserError, match="no folder"):
        listed_pictures(tmp_path / "absent", [ListedPicture("a.jpg")])


def test_the_fingerprint_follows_names_boxes_and_sizes(tmp_path, pixels):
    def fingerprint(*listed):
        return listed_pictures(tmp_path, listed)[0].fingerprint

    whole, part = ListedPicture("a/b.png"), ListedPicture("a/b.png", (0, 0, 2, 2))
    seen = {fingerprint(whole), fingerprint(part), fingerprint(whole, part)}
    assert len(seen) == 3
    assert fingerprint(whole) in seen
    with (tmp_path / "a" / "b.png").open("ab") as file:
        file.write(b"1")
    assert fingerprint(whole) not in seen
